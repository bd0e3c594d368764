//! The sizes of a pooling, and pooling of f32 tensors, all channels-last.

use super::multiversion;
use std::ops::Range;

/// A two-dimensional pooling. A one-dimensional one has height 1; a global one has a kernel as large as the
/// image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool2d {
    /// Channels.
    pub channels: usize,
    /// Rows and columns of the input, in pixels.
    pub input: [usize; 2],
    /// Rows and columns of the output, in pixels: by [`Pool2d::output_size`], or larger where the mode is
    /// `ceil`.
    pub output: [usize; 2],
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Pixels between outputs, down and across.
    pub stride: [usize; 2],
    /// Pixels between elements of the kernel, down and across.
    pub dilation: [usize; 2],
    /// Padding above and on the left, in pixels. That below and on the right follows from the output's size.
    pub pad: [usize; 2],
    /// Padding below and on the right, in pixels; only an average that counts the padding needs it.
    pub pad_end: [usize; 2],
    /// Whether an average divides by the kernel's size even where part of it lies on the padding.
    pub count_padding: bool,
}

impl Pool2d {
    /// One pooling over whole images of `pixels` pixels.
    #[must_use]
    pub const fn global(pixels: usize, channels: usize) -> Self {
        Self {
            channels,
            input: [1, pixels],
            output: [1, 1],
            kernel: [1, pixels],
            stride: [1, 1],
            dilation: [1, 1],
            pad: [0, 0],
            pad_end: [0, 0],
            count_padding: false,
        }
    }

    /// The output's size along one axis, as ONNX defines it for padding `pad` before and after together. With
    /// `ceil` a last window that starts beyond the input and the padding before it is left out.
    #[must_use]
    pub const fn output_size(
        input: usize,
        kernel: usize,
        stride: usize,
        dilation: usize,
        pad: [usize; 2],
        ceil: bool,
    ) -> usize {
        let (padded, span) = (input + pad[0] + pad[1], (kernel - 1) * dilation + 1);
        if padded < span {
            return 0;
        }
        if !ceil {
            return (padded - span) / stride + 1;
        }
        let size = (padded - span).div_ceil(stride) + 1;
        if (size - 1) * stride >= input + pad[0] { size - 1 } else { size }
    }

    /// Elements of one image of the input.
    #[must_use]
    pub const fn image_len(&self) -> usize {
        self.input[0] * self.input[1] * self.channels
    }

    /// Elements of one row of the output.
    #[must_use]
    pub const fn row_len(&self) -> usize {
        self.output[1] * self.channels
    }

    /// The kernel elements along `axis` that lie on the input, for output `at`; and the input they begin at.
    #[inline(always)]
    pub(crate) fn window(&self, axis: usize, at: usize) -> (Range<usize>, usize) {
        let start = at * self.stride[axis];
        let first = self.taps_in(axis, self.pad[axis].saturating_sub(start));
        let end = self.taps_in(axis, (self.input[axis] + self.pad[axis]).saturating_sub(start));
        let taps = first..end.min(self.kernel[axis]).max(first);
        let origin = (start + first * self.dilation[axis]).saturating_sub(self.pad[axis]);
        (taps, origin)
    }

    /// Kernel elements that begin within the first `pixels` pixels. A division is dear here, and seldom
    /// needed.
    #[inline(always)]
    fn taps_in(&self, axis: usize, pixels: usize) -> usize {
        if self.dilation[axis] == 1 { pixels } else { pixels.div_ceil(self.dilation[axis]) }
    }

    /// What an average of the output at `y`, `x` divides by.
    #[inline(always)]
    pub(crate) fn divisor(&self, at: [usize; 2]) -> usize {
        let count = |axis: usize| {
            if self.count_padding {
                let start = at[axis] * self.stride[axis];
                let end = self.pad[axis] + self.input[axis] + self.pad_end[axis];
                self.taps_in(axis, end.saturating_sub(start)).min(self.kernel[axis])
            } else {
                self.window(axis, at[axis]).0.len()
            }
        };
        count(0) * count(1)
    }

    /// Calls `pixel` for each output pixel of `rows`, which count through all images, with the input of its
    /// image and its place, and its channels of the output.
    #[inline(always)]
    pub(crate) fn for_pixels<T, U>(
        &self,
        input: &[T],
        rows: Range<usize>,
        output: &mut [U],
        mut pixel: impl FnMut(&[T], [usize; 2], &mut [U]),
    ) {
        assert_eq!(output.len(), rows.len() * self.row_len(), "the output holds its rows");
        if output.is_empty() {
            return;
        }
        for (row, out) in rows.zip(output.chunks_exact_mut(self.row_len())) {
            let (image, y) = (row / self.output[0], row % self.output[0]);
            let input = &input[image * self.image_len()..][..self.image_len()];
            for (x, out) in out.chunks_exact_mut(self.channels).enumerate() {
                pixel(input, [y, x], out);
            }
        }
    }

    /// Calls `tap` with the place of every input pixel under the kernel at `at`.
    #[inline(always)]
    pub(crate) fn for_taps(&self, at: [usize; 2], mut tap: impl FnMut(usize)) {
        let ((ys, top), (xs, left)) = (self.window(0, at[0]), self.window(1, at[1]));
        for y in 0..ys.len() {
            let row = (top + y * self.dilation[0]) * self.input[1];
            for x in 0..xs.len() {
                tap((row + left + x * self.dilation[1]) * self.channels);
            }
        }
    }
}

/// Calls `$block::<N>(…, first)` for blocks of `N` channels that cover all of them, from the widest down. The
/// last block of [`NARROW`] may overlap the one before; narrower images go channel by channel.
macro_rules! for_blocks {
    ($channels:expr, $block:ident($($arg:expr),*)) => {{
        let (channels, mut first) = ($channels, 0);
        while first + 64 <= channels {
            $block::<64>($($arg,)* first);
            first += 64;
        }
        while first + NARROW <= channels {
            $block::<NARROW>($($arg,)* first);
            first += NARROW;
        }
        if first < channels && channels >= NARROW {
            $block::<NARROW>($($arg,)* channels - NARROW);
        } else {
            for channel in first..channels {
                $block::<1>($($arg,)* channel);
            }
        }
    }};
}
pub(crate) use for_blocks;

/// Channels of the narrower block.
pub(crate) const NARROW: usize = 16;

/// `N` channels at `start`.
///
/// # Panics
/// They lie beyond the slice.
#[inline(always)]
pub(crate) fn lanes<T, const N: usize>(elements: &[T], start: usize) -> &[T; N] {
    match elements[start..].first_chunk() {
        Some(lanes) => lanes,
        None => too_short(),
    }
}

/// As [`lanes`], to be written.
///
/// # Panics
/// They lie beyond the slice.
#[inline(always)]
pub(crate) fn lanes_mut<T, const N: usize>(elements: &mut [T], start: usize) -> &mut [T; N] {
    match elements[start..].first_chunk_mut() {
        Some(lanes) => lanes,
        None => too_short(),
    }
}

#[cold]
#[allow(clippy::panic, reason = "the caller has mixed up its tensors")]
fn too_short() -> ! {
    panic!("a slice is shorter than the channels say");
}

#[inline(always)]
fn max_block<const N: usize>(pool: &Pool2d, input: &[f32], at: [usize; 2], out: &mut [f32], first: usize) {
    let mut greatest = [f32::MIN; N];
    pool.for_taps(
        at,
        #[inline(always)]
        |start| {
            for (greatest, value) in greatest.iter_mut().zip(lanes::<_, N>(input, start + first)) {
                *greatest = if *value > *greatest { *value } else { *greatest };
            }
        },
    );
    *lanes_mut(out, first) = greatest;
}

#[inline(always)]
fn average_block<const N: usize>(
    pool: &Pool2d,
    input: &[f32],
    at: [usize; 2],
    out: &mut [f32],
    first: usize,
) {
    let mut sums = [0.0f32; N];
    pool.for_taps(
        at,
        #[inline(always)]
        |start| {
            for (sum, value) in sums.iter_mut().zip(lanes::<_, N>(input, start + first)) {
                *sum += value;
            }
        },
    );
    let divisor = pool.divisor(at).max(1) as f32;
    *lanes_mut(out, first) = sums.map(|sum| sum / divisor);
}

multiversion! {
    /// The greatest under each kernel. `input` holds all images, `rows` are rows of the output counted
    /// through all images, and `output` holds just those.
    ///
    /// # Panics
    /// The slices are shorter than the pooling says.
    pub fn max(pool: &Pool2d, input: &[f32], rows: Range<usize>, output: &mut [f32]) {
        pool.for_pixels(input, rows, output, #[inline(always)] |input, at, out| {
            for_blocks!(pool.channels, max_block(pool, input, at, out));
        });
    }

    /// The mean under each kernel; slices as for [`max`].
    ///
    /// # Panics
    /// The slices are shorter than the pooling says.
    pub fn average(pool: &Pool2d, input: &[f32], rows: Range<usize>, output: &mut [f32]) {
        pool.for_pixels(input, rows, output, #[inline(always)] |input, at, out| {
            for_blocks!(pool.channels, average_block(pool, input, at, out));
        });
    }
}

//! Where the input lies that each output pixel reads: the indirection that makes every convolution a matrix product.

use crate::geometry::Conv2d;
use std::ops::Range;

/// Marks an offset into the patches instead of the input.
const PATCH: u32 = 1 << 31;

/// Channels up to which the pixels of a kernel row are read as one run.
const WIDE_TAP_MAX_CHANNELS: usize = 12;

/// The runs of input elements that an output pixel reads.
#[derive(Debug)]
pub(super) struct Taps {
    geometry: Conv2d,
    /// Elements between pixels, where each output pixel reads exactly the input pixel at its own place.
    pub(super) steps: Option<usize>,
    /// Runs of an output pixel.
    pub(super) count: usize,
    /// Elements of a run that a group reads.
    pub(super) depth: usize,
    /// Whether a run is a whole kernel row.
    wide: bool,
}

/// What a table of offsets points into.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// The layer's input.
    pub(super) input: &'a [f32],
    /// Zeros, then copies of the runs that reach into the padding.
    pub(super) patches: &'a [f32],
}

impl<'a> Source<'a> {
    /// The same, so many elements further on.
    pub(super) fn skip(self, elements: usize) -> Self {
        Self { input: &self.input[elements..], patches: &self.patches[elements..] }
    }

    /// `len` elements from each offset on; `None` where all are padding and that may be left out.
    #[inline(always)]
    pub(super) fn rows<const R: usize>(
        self,
        offsets: &[u32],
        len: usize,
        skip_padding: bool,
    ) -> Option<[&'a [f32]; R]> {
        let mut rows: [&[f32]; R] = [&[]; R];
        let (mut any, mut all) = (0, PATCH);
        for i in 0..R {
            any |= offsets[i];
            all &= if offsets[i] == PATCH { PATCH } else { 0 };
        }
        if any & PATCH == 0 {
            for i in 0..R {
                rows[i] = &self.input[offsets[i] as usize..][..len];
            }
        } else if all == PATCH && skip_padding {
            return None;
        } else {
            for i in 0..R {
                rows[i] = self.row(offsets[i], len);
            }
        }
        Some(rows)
    }

    /// `len` elements from an offset on.
    #[inline(always)]
    pub(super) fn row(self, offset: u32, len: usize) -> &'a [f32] {
        let (from, offset) =
            if offset & PATCH == 0 { (self.input, offset) } else { (self.patches, offset & !PATCH) };
        &from[offset as usize..][..len]
    }
}

impl Taps {
    /// The runs of a convolution over pixels that lie `step` elements apart: `in_c`, or more if it is pointwise.
    pub(super) fn new(geometry: &Conv2d, step: usize) -> Self {
        let wide = geometry.groups == 1
            && geometry.kernel_w > 1
            && geometry.dilation_w == 1
            && geometry.in_c <= WIDE_TAP_MAX_CHANNELS;
        let channels = geometry.in_c / geometry.groups;
        let (count, depth) = if wide {
            (geometry.kernel_h, geometry.kernel_w * channels)
        } else {
            (geometry.kernel_h * geometry.kernel_w, channels)
        };
        Self { geometry: *geometry, steps: geometry.is_pointwise().then_some(step), count, depth, wide }
    }

    /// Floats that the patches of so many pixels take.
    pub(super) fn patch_len(&self, pixels: usize) -> usize {
        let run = self.run_len();
        if self.wide { run * (1 + pixels * self.count) } else { run }
    }

    fn run_len(&self) -> usize {
        if self.wide { self.depth } else { self.geometry.in_c }
    }

    /// Fills in the offsets of some output pixels, tap by tap, and the patches they need.
    pub(super) fn fill(&self, input: &[f32], pixels: Range<usize>, offsets: &mut [u32], patches: &mut [f32]) {
        let geometry = &self.geometry;
        let (out_h, out_w) = (geometry.out_h(), geometry.out_w());
        let (zeros, mut patches) = patches.split_at_mut(self.run_len());
        zeros.fill(0.0);
        let mut used = zeros.len();
        let mut pixel = pixels.start;
        while pixel < pixels.end {
            let (column, row) = (pixel % out_w, pixel / out_w);
            let columns = column..out_w.min(column + pixels.end - pixel);
            for ky in 0..geometry.kernel_h {
                let y = (row % out_h * geometry.stride_h + ky * geometry.dilation_h)
                    .wrapping_sub(geometry.pad[0]);
                let line = (y < geometry.in_h).then(|| (row / out_h * geometry.in_h + y) * geometry.in_w);
                let tap_step = pixels.len();
                if self.wide {
                    let to = &mut offsets[ky * tap_step + pixel - pixels.start..][..columns.len()];
                    let copied = self.fill_wide(input, (line, columns.clone()), to, (used, patches));
                    patches = &mut patches[copied..];
                    used += copied;
                } else {
                    for kx in 0..geometry.kernel_w {
                        let tap = ky * geometry.kernel_w + kx;
                        let to = &mut offsets[tap * tap_step + pixel - pixels.start..][..columns.len()];
                        self.fill_plain((line, columns.clone()), kx, to);
                    }
                }
            }
            pixel += columns.len();
        }
    }

    /// Fills in the offsets of a kernel column along an output row. The input's row starts at pixel `line`; it has none
    /// where the kernel row is padding.
    fn fill_plain(&self, (line, columns): (Option<usize>, Range<usize>), kx: usize, to: &mut [u32]) {
        let geometry = &self.geometry;
        let Some(line) = line else { return to.fill(PATCH) };
        let shift = kx * geometry.dilation_w;
        // The first output columns of which the kernel column is in the image, and beyond it.
        let [first, end] = [geometry.pad[1], geometry.pad[1] + geometry.in_w]
            .map(|edge| edge.saturating_sub(shift).div_ceil(geometry.stride_w));
        let first = first.clamp(columns.start, columns.end);
        let within = first..end.clamp(first, columns.end);
        let (before, rest) = to.split_at_mut(within.start - columns.start);
        let (inside, after) = rest.split_at_mut(within.len());
        before.fill(PATCH);
        after.fill(PATCH);
        let start = line + within.start * geometry.stride_w + shift;
        let start = start.wrapping_sub(geometry.pad[1]).wrapping_mul(geometry.in_c);
        count_up(inside, start, geometry.stride_w * geometry.in_c);
    }

    /// Fills in the offsets of a kernel row along an output row, and copies to the patches, of which `used` are used, what
    /// reaches into the padding. Gives the patches' elements that it used.
    fn fill_wide(
        &self,
        input: &[f32],
        (line, columns): (Option<usize>, Range<usize>),
        to: &mut [u32],
        (used, patches): (usize, &mut [f32]),
    ) -> usize {
        let geometry = &self.geometry;
        let Some(line) = line else {
            to.fill(PATCH);
            return 0;
        };
        let (left, padded) = (geometry.pad[1], geometry.pad[1] + geometry.in_w);
        let mut copied = 0;
        let mut column = columns.start;
        while column < columns.end {
            let x = column * geometry.stride_w;
            let to = &mut to[column - columns.start..];
            if x >= left && x + geometry.kernel_w <= padded {
                let whole = ((padded - geometry.kernel_w - x) / geometry.stride_w + 1).min(to.len());
                count_up(
                    &mut to[..whole],
                    (line + x - left) * geometry.in_c,
                    geometry.stride_w * geometry.in_c,
                );
                column += whole;
                continue;
            }
            let skipped = left.saturating_sub(x).min(geometry.kernel_w);
            let len = padded.saturating_sub(x).min(geometry.kernel_w).max(skipped) - skipped;
            to[0] = PATCH;
            if len > 0 {
                let patch = &mut patches[copied..][..self.depth];
                patch.fill(0.0);
                let from = &input[(line + x + skipped - left) * geometry.in_c..][..len * geometry.in_c];
                patch[skipped * geometry.in_c..][..from.len()].copy_from_slice(from);
                to[0] |= to_offset(used + copied);
                copied += self.depth;
            }
            column += 1;
        }
        copied
    }
}

/// Writes offsets from a first one on, at equal distances.
fn count_up(to: &mut [u32], first: usize, step: usize) {
    let (mut offset, step) = (to_offset(first), to_offset(step));
    for to in to {
        *to = offset;
        offset = offset.saturating_add(step).min(PATCH - 1);
    }
}

/// Offsets beyond 2^31 floats end in a panic when they are read, not in another element.
fn to_offset(element: usize) -> u32 {
    u32::try_from(element).unwrap_or(u32::MAX).min(PATCH - 1)
}

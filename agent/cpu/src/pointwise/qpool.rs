//! Pooling of quantised tensors, channels-last.

use super::{
    multiversion,
    pool::{NARROW, Pool2d, for_blocks, lanes, lanes_mut},
    quantise::{Quantisation, rounded},
};
use std::ops::Range;

/// The parts of a mean over whole images, as `QLinearGlobalAveragePool` of ONNX Runtime has them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GlobalAverage {
    /// Channels.
    pub channels: usize,
    /// Pixels of an image.
    pub pixels: usize,
    /// Of the input.
    pub input: Quantisation,
    /// Of the output.
    pub output: Quantisation,
}

#[inline(always)]
fn max_block<const N: usize>(pool: &Pool2d, input: &[u8], at: [usize; 2], out: &mut [u8], first: usize) {
    let mut greatest = [0; N];
    pool.for_taps(
        at,
        #[inline(always)]
        |start| {
            for (greatest, element) in greatest.iter_mut().zip(lanes::<_, N>(input, start + first)) {
                *greatest = (*greatest).max(*element);
            }
        },
    );
    *lanes_mut(out, first) = greatest;
}

/// How a sum becomes a mean.
#[derive(Clone, Copy)]
struct Averaging {
    from: Quantisation,
    scale: f32,
    zero: f32,
    shift: i32,
}

#[inline(always)]
fn average_block<const N: usize>(
    (pool, averaging): (&Pool2d, &Averaging),
    input: &[u8],
    at: [usize; 2],
    out: &mut [u8],
    first: usize,
) {
    let mut sums = [0.0f32; N];
    pool.for_taps(
        at,
        #[inline(always)]
        |start| {
            for (sum, element) in sums.iter_mut().zip(lanes::<_, N>(input, start + first)) {
                *sum += averaging.from.dequantise(*element);
            }
        },
    );
    // Here even what a window in mode `ceil` has beyond the padding counts.
    let divisor = if pool.count_padding { pool.kernel[0] * pool.kernel[1] } else { pool.divisor(at) };
    let divisor = divisor.max(1) as f32;
    let Averaging { scale, zero, shift, .. } = *averaging;
    let (low, high) = (-shift as f32, (255 - shift) as f32);
    for (out, sum) in lanes_mut::<_, N>(out, first).iter_mut().zip(sums) {
        *out = rounded(sum / divisor / scale + zero, low, high, shift);
    }
}

/// Sums the channels of up to 257 pixels, which a u16 holds.
#[inline(always)]
fn add_pixels<const N: usize>(pixels: &[u8], channels: usize, first: usize, sums: &mut [i32; N]) {
    let mut few = [0u16; N];
    for pixel in pixels.chunks_exact(channels) {
        for (sum, element) in few.iter_mut().zip(lanes::<_, N>(pixel, first)) {
            *sum += u16::from(*element);
        }
    }
    for (sum, few) in sums.iter_mut().zip(few) {
        *sum += i32::from(few);
    }
}

#[inline(always)]
fn global_block<const N: usize>(
    spec: &GlobalAverage,
    input: &[u8],
    from: usize,
    out: &mut [u8],
    first: usize,
) {
    let factor = spec.input.scale / (spec.output.scale * spec.pixels as f32);
    let zero = i32::from(spec.output.zero);
    let mut sums = [-i32::from(spec.input.zero) * spec.pixels as i32; N];
    for pixels in input.chunks(257 * spec.channels) {
        add_pixels(pixels, spec.channels, from + first, &mut sums);
    }
    for (out, sum) in lanes_mut::<_, N>(out, first).iter_mut().zip(sums) {
        *out = rounded(sum as f32 * factor, -zero as f32, (255 - zero) as f32, zero);
    }
}

multiversion! {
    /// The greatest under each kernel. `input` holds all images, `rows` are rows of the output counted
    /// through all images, and `output` holds just those.
    ///
    /// # Panics
    /// The slices are shorter than the pooling says.
    pub fn max(pool: &Pool2d, input: &[u8], rows: Range<usize>, output: &mut [u8]) {
        pool.for_pixels(input, rows, output, #[inline(always)] |input, at, out| {
            for_blocks!(pool.channels, max_block(pool, input, at, out));
        });
    }

    /// The mean under each kernel, as `QLinearAveragePool` of ONNX Runtime: elements are dequantised, summed
    /// in order and quantised. Slices as for [`max`].
    ///
    /// # Panics
    /// The slices are shorter than the pooling says.
    pub fn average(
        pool: &Pool2d,
        quantisations: [Quantisation; 2],
        input: &[u8],
        rows: Range<usize>,
        output: &mut [u8],
    ) {
        let [from, to] = quantisations;
        let zero = (i32::from(to.zero) - to.shift()) as f32;
        let averaging = Averaging { from, scale: to.scale, zero, shift: to.shift() };
        pool.for_pixels(input, rows, output, #[inline(always)] |input, at, out| {
            for_blocks!(pool.channels, average_block((pool, &averaging), input, at, out));
        });
    }

    /// The mean over each whole image, of the channels from `first` on: `input` is one image, `output` its
    /// channels.
    ///
    /// # Panics
    /// The slices are shorter than `spec` says.
    pub fn global_average(spec: &GlobalAverage, input: &[u8], first: usize, output: &mut [u8]) {
        assert!(first + output.len() <= spec.channels, "the channels are there");
        let input = &input[..spec.pixels * spec.channels];
        for_blocks!(output.len(), global_block(spec, input, first, output));
    }
}

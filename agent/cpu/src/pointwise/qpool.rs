//! Pooling of quantised tensors, channels-last.

use super::{
    multiversion,
    pool::Pool2d,
    quantise::{Quantisation, rounded},
};
use std::ops::Range;

/// Channels summed at a time, in registers or on the stack.
const BLOCK: usize = 64;

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

multiversion! {
    /// The greatest under each kernel. `input` holds all images, `rows` are rows of the output counted through all
    /// images, and `output` holds just those.
    ///
    /// # Panics
    /// The slices are shorter than the pooling says.
    pub fn max(pool: &Pool2d, input: &[u8], rows: Range<usize>, output: &mut [u8]) {
        pool.for_pixels(input, rows, output, #[inline(always)] |input, at, out| {
            out.fill(0);
            pool.for_taps(at, #[inline(always)] |start| {
                for (out, element) in out.iter_mut().zip(&input[start..][..pool.channels]) {
                    *out = (*out).max(*element);
                }
            });
        });
    }

    /// The mean under each kernel, as `QLinearAveragePool` of ONNX Runtime: elements are dequantised, summed in order
    /// and quantised. Slices as for [`max`].
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
        let (low, high) = (-to.shift() as f32, (255 - to.shift()) as f32);
        pool.for_pixels(input, rows, output, #[inline(always)] |input, at, out| {
            // Here even what a window in mode `ceil` has beyond the padding counts.
            let divisor = if pool.count_padding { pool.kernel[0] * pool.kernel[1] } else { pool.divisor(at) };
            let divisor = divisor.max(1) as f32;
            for (block, out) in out.chunks_mut(BLOCK).enumerate() {
                let mut sums = [0.0f32; BLOCK];
                pool.for_taps(at, #[inline(always)] |start| {
                    let elements = &input[start + block * BLOCK..][..out.len()];
                    for (sum, element) in sums.iter_mut().zip(elements) {
                        *sum += from.dequantise(*element);
                    }
                });
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = rounded(sum / divisor / to.scale + zero, low, high, to.shift());
                }
            }
        });
    }

    /// The mean over each whole image, of the channels from `first` on: `input` is one image, `output` its channels.
    ///
    /// # Panics
    /// The slices are shorter than `spec` says.
    pub fn global_average(spec: &GlobalAverage, input: &[u8], first: usize, output: &mut [u8]) {
        assert!(first + output.len() <= spec.channels, "the channels are there");
        let input = &input[..spec.pixels * spec.channels];
        let factor = spec.input.scale / (spec.output.scale * spec.pixels as f32);
        let zero = i32::from(spec.output.zero);
        let bias = -i32::from(spec.input.zero) * spec.pixels as i32;
        for (block, out) in output.chunks_mut(BLOCK).enumerate() {
            let mut sums = [bias; BLOCK];
            for pixel in input.chunks_exact(spec.channels) {
                let elements = &pixel[first + block * BLOCK..][..out.len()];
                for (sum, element) in sums.iter_mut().zip(elements) {
                    *sum += i32::from(*element);
                }
            }
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = rounded(sum as f32 * factor, -zero as f32, (255 - zero) as f32, zero);
            }
        }
    }
}

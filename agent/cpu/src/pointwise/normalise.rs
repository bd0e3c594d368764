//! Softmax and normalisations of rows, f32.

use super::{
    math::exp_normal,
    multiversion,
    reduce::{row_max, row_sum},
};

/// A normalisation of rows to mean 0 and variance 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerNorm {
    /// Added to the variance.
    pub epsilon: f32,
    /// Whether the mean stays in: only the root mean square becomes 1.
    pub root_mean_square: bool,
}

#[inline(always)]
fn rows<'a>(
    row_len: usize,
    input: &'a [f32],
    output: &'a mut [f32],
) -> impl Iterator<Item = (&'a [f32], &'a mut [f32])> {
    assert_eq!(input.len(), output.len(), "as many elements out as in");
    input.chunks_exact(row_len.max(1)).zip(output.chunks_exact_mut(row_len.max(1)))
}

multiversion! {
    /// Softmax of every row of `row_len` elements.
    ///
    /// # Panics
    /// The slices differ in length.
    pub fn softmax(row_len: usize, input: &[f32], output: &mut [f32]) {
        for (input, output) in rows(row_len, input, output) {
            let greatest = row_max(input);
            for (out, value) in output.iter_mut().zip(input) {
                *out = exp_normal::<FMA>(value - greatest);
            }
            let factor = 1.0 / row_sum(output);
            for out in output {
                *out *= factor;
            }
        }
    }

    /// The logarithm of the softmax of every row of `row_len` elements.
    ///
    /// # Panics
    /// The slices differ in length.
    pub fn log_softmax(row_len: usize, input: &[f32], output: &mut [f32]) {
        for (input, output) in rows(row_len, input, output) {
            let greatest = row_max(input);
            for (out, value) in output.iter_mut().zip(input) {
                *out = exp_normal::<FMA>(value - greatest);
            }
            let offset = row_sum(output).ln();
            for (out, value) in output.iter_mut().zip(input) {
                *out = value - greatest - offset;
            }
        }
    }

    /// Normalises every row of `scale.len()` elements, times `scale`, plus `bias` (which may be empty).
    ///
    /// # Panics
    /// The slices differ in length, or the bias is neither empty nor as long as the scale.
    pub fn layer_norm(norm: LayerNorm, scale: &[f32], bias: &[f32], input: &[f32], output: &mut [f32]) {
        assert!(bias.is_empty() || bias.len() == scale.len(), "a bias per element of the scale");
        let count = scale.len() as f32;
        for (input, output) in rows(scale.len(), input, output) {
            let mean = if norm.root_mean_square { 0.0 } else { row_sum(input) / count };
            for (out, value) in output.iter_mut().zip(input) {
                *out = (value - mean) * (value - mean);
            }
            let factor = 1.0 / (row_sum(output) / count + norm.epsilon).sqrt();
            for ((out, value), scale) in output.iter_mut().zip(input).zip(scale) {
                *out = (value - mean) * factor * scale;
            }
            for (out, bias) in output.iter_mut().zip(bias) {
                *out += bias;
            }
        }
    }

    /// `input * scale + shift`, with a scale and a shift per channel, channels last: a batch normalisation.
    ///
    /// # Panics
    /// The slices differ in length, or do not hold whole pixels.
    pub fn scale_shift(scale: &[f32], shift: &[f32], input: &[f32], output: &mut [f32]) {
        assert_eq!(scale.len(), shift.len(), "a shift per scale");
        for (input, output) in rows(scale.len(), input, output) {
            for (((out, value), scale), shift) in output.iter_mut().zip(input).zip(scale).zip(shift) {
                *out = super::math::madd::<FMA>(*value, *scale, *shift);
            }
        }
    }

    /// Normalises each channel of one channels-last image to mean 0 and variance 1, times `scale`, plus
    /// `bias`. `sums` is scratch memory for two numbers per channel.
    ///
    /// # Panics
    /// The slices differ in length, or do not hold whole pixels.
    pub fn instance_norm(affine: [&[f32]; 2], epsilon: f32, sums: &mut [f32], input: &[f32], output: &mut [f32]) {
        let [scale, bias] = affine;
        let channels = scale.len();
        assert!(bias.len() == channels && sums.len() >= 2 * channels, "two numbers per channel");
        let count = (input.len() / channels.max(1)) as f32;
        let (means, factors) = sums[..2 * channels].split_at_mut(channels);
        means.fill(0.0);
        factors.fill(0.0);
        for pixel in input.chunks_exact(channels.max(1)) {
            for (mean, value) in means.iter_mut().zip(pixel) {
                *mean += value;
            }
        }
        means.iter_mut().for_each(|mean| *mean /= count);
        for pixel in input.chunks_exact(channels.max(1)) {
            for ((factor, mean), value) in factors.iter_mut().zip(&*means).zip(pixel) {
                *factor += (value - mean) * (value - mean);
            }
        }
        for ((factor, mean), (scale, bias)) in factors.iter_mut().zip(means).zip(scale.iter().zip(bias)) {
            *factor = scale / (*factor / count + epsilon).sqrt();
            *mean = bias - *mean * *factor;
        }
        let (shifts, factors) = sums[..2 * channels].split_at(channels);
        for (input, output) in rows(channels, input, output) {
            for (((out, value), factor), shift) in output.iter_mut().zip(input).zip(factors).zip(shifts) {
                *out = super::math::madd::<FMA>(*value, *factor, *shift);
            }
        }
    }
}

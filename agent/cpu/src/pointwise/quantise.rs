//! f32 to u8 and back.
//!
//! As `QuantizeLinear` and `DequantizeLinear` of ONNX Runtime: a true division by the scale, rounding half to even,
//! saturation; NaN becomes the lowest value.

use super::multiversion;
use crate::isa::Isa;

/// How the u8 elements of a tensor stand for numbers: `(element - zero) * scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantisation {
    /// The step between neighbouring values.
    pub scale: f32,
    /// The element that stands for 0, shifted by 128 where the model's type is int8.
    pub zero: u8,
    /// Whether the model's type is int8. Where sums of floats depend on it in their last bit, results follow it.
    pub signed: bool,
}

impl Quantisation {
    /// The element nearest to `value`.
    #[must_use]
    #[inline(always)]
    pub fn quantise(self, value: f32) -> u8 {
        let zero = i32::from(self.zero);
        rounded(value / self.scale, -zero as f32, (255 - zero) as f32, zero)
    }

    /// The number that `element` stands for.
    #[must_use]
    #[inline(always)]
    pub fn dequantise(self, element: u8) -> f32 {
        (i32::from(element) - i32::from(self.zero)) as f32 * self.scale
    }

    /// What is subtracted from an element to get the model's own: 128 for int8.
    #[inline(always)]
    pub(crate) const fn shift(self) -> i32 {
        if self.signed { 128 } else { 0 }
    }
}

/// `value` limited to `low..=high`, rounded half to even, plus `zero`. A NaN counts as `low`.
#[inline(always)]
pub(crate) fn rounded(value: f32, low: f32, high: f32, zero: i32) -> u8 {
    let value = if value > low { value } else { low };
    let value = if value < high { value } else { high };
    (nearest(value) + zero) as u8
}

/// The integer nearest to `value`, half to even, for magnitudes below 2^22.
#[inline(always)]
pub(crate) fn nearest(value: f32) -> i32 {
    /// 1.5 * 2^23: a sum with it has its last bit at 1, so that the addition rounds to an integer.
    const ROUNDER: f32 = 12_582_912.0;
    (value + ROUNDER).to_bits() as i32 - ROUNDER.to_bits() as i32
}

multiversion! {
    /// Quantises `input`, element by element.
    ///
    /// # Panics
    /// The slices differ in length.
    pub fn quantise(q: Quantisation, input: &[f32], output: &mut [u8]) {
        assert_eq!(input.len(), output.len(), "as many elements out as in");
        for (out, value) in output.iter_mut().zip(input) {
            *out = q.quantise(*value);
        }
    }

    /// Dequantises `input`, element by element.
    ///
    /// # Panics
    /// The slices differ in length.
    pub fn dequantise(q: Quantisation, input: &[u8], output: &mut [f32]) {
        assert_eq!(input.len(), output.len(), "as many elements out as in");
        for (out, element) in output.iter_mut().zip(input) {
            *out = q.dequantise(*element);
        }
    }

    /// Quantises pixels of a channels-first image into channels-last order: `input` holds all `channels` planes, of
    /// equal size; `output` takes the pixels from `first` on, `channels` elements each.
    ///
    /// # Panics
    /// The slices do not hold whole planes and pixels, or the pixels lie beyond the planes.
    pub fn quantise_to_nhwc(q: Quantisation, channels: usize, input: &[f32], first: usize, output: &mut [u8]) {
        let pixels = super::layout::plane_size(channels, input.len());
        let count = super::layout::plane_size(channels, output.len());
        assert!(first + count <= pixels, "the pixels lie within the planes");
        for channel in 0..channels {
            let plane = &input[channel * pixels + first..][..count];
            for (out, value) in output[channel..].iter_mut().step_by(channels).zip(plane) {
                *out = q.quantise(*value);
            }
        }
    }

    /// Dequantises planes of a channels-last image into channels-first order: `input` holds all pixels of `channels`
    /// elements; `output` takes the whole planes from channel `first` on.
    ///
    /// # Panics
    /// The slices do not hold whole pixels and planes, or the planes lie beyond the channels.
    pub fn dequantise_to_nchw(q: Quantisation, channels: usize, input: &[u8], first: usize, output: &mut [f32]) {
        let pixels = super::layout::plane_size(channels, input.len());
        if pixels == 0 {
            return;
        }
        assert!(output.len().is_multiple_of(pixels), "whole planes");
        assert!(first + output.len() / pixels <= channels, "the planes lie within the channels");
        for (channel, plane) in output.chunks_exact_mut(pixels).enumerate() {
            for (out, element) in plane.iter_mut().zip(input[first + channel..].iter().step_by(channels)) {
                *out = q.dequantise(*element);
            }
        }
    }

    /// The least and the greatest of `input`; zeros if it is empty. NaN elements are passed over.
    pub fn range(input: &[f32]) -> (f32, f32) {
        /// Independent extremes, so that the loop has no long chain.
        const LANES: usize = 32;
        let Some(first) = input.iter().copied().find(|value| !value.is_nan()) else { return (0.0, 0.0) };
        let (mut least, mut greatest) = ([first; LANES], [first; LANES]);
        let (blocks, rest) = input.as_chunks::<LANES>();
        for block in blocks {
            for lane in 0..LANES {
                least[lane] = if block[lane] < least[lane] { block[lane] } else { least[lane] };
                greatest[lane] = if block[lane] > greatest[lane] { block[lane] } else { greatest[lane] };
            }
        }
        let least = least.iter().chain(rest).fold(first, |a, b| if *b < a { *b } else { a });
        let greatest = greatest.iter().chain(rest).fold(first, |a, b| if *b > a { *b } else { a });
        (least, greatest)
    }
}

/// What `DynamicQuantizeLinear` chooses for a tensor whose elements lie in `least..=greatest`.
#[must_use]
pub fn dynamic(least: f32, greatest: f32) -> Quantisation {
    let (least, greatest) = (least.min(0.0), greatest.max(0.0));
    let scale = if least == greatest { 1.0 } else { (greatest - least) / 255.0 };
    let zero = (0.0 - least / scale).clamp(0.0, 255.0).round_ties_even();
    Quantisation { scale, zero: zero as u8, signed: false }
}

/// Quantises with a scale per channel: element `i` belongs to channel `i / inner % channels.len()`. A part must begin at
/// channel 0.
///
/// # Panics
/// The slices differ in length.
pub fn quantise_channels(
    isa: Isa,
    channels: &[Quantisation],
    inner: usize,
    input: &[f32],
    output: &mut [u8],
) {
    assert_eq!(input.len(), output.len(), "as many elements out as in");
    let runs = input.chunks(inner.max(1)).zip(output.chunks_mut(inner.max(1)));
    for ((input, output), q) in runs.zip(channels.iter().cycle()) {
        match (input, output) {
            ([value], [out]) => *out = q.quantise(*value),
            (input, output) => quantise(isa, *q, input, output),
        }
    }
}

/// Dequantises with a scale per channel: element `i` belongs to channel `i / inner % channels.len()`. A part must begin
/// at channel 0.
///
/// # Panics
/// The slices differ in length.
pub fn dequantise_channels(
    isa: Isa,
    channels: &[Quantisation],
    inner: usize,
    input: &[u8],
    output: &mut [f32],
) {
    assert_eq!(input.len(), output.len(), "as many elements out as in");
    let runs = input.chunks(inner.max(1)).zip(output.chunks_mut(inner.max(1)));
    for ((input, output), q) in runs.zip(channels.iter().cycle()) {
        match (input, output) {
            ([element], [out]) => *out = q.dequantise(*element),
            (input, output) => dequantise(isa, *q, input, output),
        }
    }
}

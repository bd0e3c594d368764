//! f32 to u8 and back.
//!
//! As `QuantizeLinear` and `DequantizeLinear` of ONNX Runtime: a true division by the scale, rounding half to
//! even, saturation; NaN becomes the lowest value.

use super::{
    layout::{interleave, plane_size, transpose_strided},
    multiversion,
};
use crate::isa::Isa;

/// Pixels whose layout is changed at a time, so that they stay in the first cache.
const PIXELS: usize = 1024;

/// Channels at a time.
const PLANES: usize = 16;

/// How the u8 elements of a tensor stand for numbers: `(element - zero) * scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantisation {
    /// The step between neighbouring values.
    pub scale: f32,
    /// The element that stands for 0, shifted by 128 where the model's type is int8.
    pub zero: u8,
    /// Whether the model's type is int8. Where sums of floats depend on it in their last bit, results follow
    /// it.
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

/// 1.5 * 2^23: a sum with it has its last bit at 1, so that the addition rounds to an integer.
const ROUNDER: f32 = 12_582_912.0;

/// The integer nearest to `value`, half to even, for magnitudes below 2^22.
#[inline(always)]
pub(crate) fn nearest(value: f32) -> i32 {
    (value + ROUNDER).to_bits() as i32 - ROUNDER.to_bits() as i32
}

/// Elements quantised at a time.
const BLOCK: usize = 64;

/// A quantisation with the reciprocal of its scale, since a division takes as long as all else together.
#[derive(Clone, Copy)]
struct ByProduct {
    q: Quantisation,
    /// `None` where it, or the scale, is no normal number.
    reciprocal: Option<f32>,
}

impl ByProduct {
    fn new(q: Quantisation) -> Self {
        let reciprocal = 1.0 / q.scale;
        let usable = q.scale.is_normal() && reciprocal.is_normal();
        Self { q, reciprocal: usable.then_some(reciprocal) }
    }

    /// Quantises by products. Says `false` if one of them is so near to half an integer that the quotient
    /// might be rounded otherwise: they differ by less than 2^-13 within the limits.
    #[inline(always)]
    fn by_products(self, reciprocal: f32, input: &[f32; BLOCK], output: &mut [u8; BLOCK]) -> bool {
        const DOUBT: f32 = 0.5 - 1.0 / 8192.0;
        let zero = i32::from(self.q.zero);
        let (low, high) = (-zero as f32, (255 - zero) as f32);
        let mut doubts = 0;
        let offset = (ROUNDER.to_bits() as i32).wrapping_sub(zero);
        for (out, value) in output.iter_mut().zip(input) {
            let product = value * reciprocal;
            let product = if product > low { product } else { low };
            let product = if product < high { product } else { high };
            let sum = product + ROUNDER;
            doubts |= u32::from((product - (sum - ROUNDER)).abs() > DOUBT);
            *out = (sum.to_bits() as i32).wrapping_sub(offset) as u8;
        }
        doubts == 0
    }

    #[inline(always)]
    fn run(self, input: &[f32], output: &mut [u8]) {
        /// Blocks that are divided after one in doubt: some inputs consist of ties.
        const PATIENCE: u32 = 15;
        let mut divided = 0;
        let ((inputs, rest), (outputs, out_rest)) = (input.as_chunks(), output.as_chunks_mut());
        for (input, output) in inputs.iter().zip(outputs) {
            let done = match self.reciprocal {
                Some(reciprocal) if divided == 0 => self.by_products(reciprocal, input, output),
                _ => false,
            };
            if !done {
                divided = if divided == 0 { PATIENCE } else { divided - 1 };
                self.by_quotients(input, output);
            }
        }
        self.by_quotients(rest, out_rest);
    }

    #[inline(always)]
    fn by_quotients(self, input: &[f32], output: &mut [u8]) {
        for (out, value) in output.iter_mut().zip(input) {
            *out = self.q.quantise(*value);
        }
    }
}

multiversion! {
    /// Quantises `input`, element by element.
    ///
    /// # Panics
    /// The slices differ in length.
    pub fn quantise(q: Quantisation, input: &[f32], output: &mut [u8]) {
        assert_eq!(input.len(), output.len(), "as many elements out as in");
        ByProduct::new(q).run(input, output);
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

/// Quantises pixels of a channels-first image into channels-last order: `input` holds all `channels` planes,
/// of equal size; `output` takes the pixels from `first` on, `channels` elements each.
///
/// # Panics
/// The slices do not hold whole planes and pixels, or the pixels lie beyond the planes.
pub fn quantise_to_nhwc(
    isa: Isa,
    q: Quantisation,
    channels: usize,
    input: &[f32],
    first: usize,
    output: &mut [u8],
) {
    let pixels = plane_size(channels, input.len());
    let count = plane_size(channels, output.len());
    assert!(first + count <= pixels, "the pixels lie within the planes");
    let mut elements = [0u8; PIXELS * PLANES];
    for from in (0..count).step_by(PIXELS) {
        let len = PIXELS.min(count - from);
        for group in (0..channels).step_by(PLANES) {
            let planes = PLANES.min(channels - group);
            for (plane, elements) in elements.chunks_exact_mut(len).take(planes).enumerate() {
                quantise(isa, q, &input[(group + plane) * pixels + first + from..][..len], elements);
            }
            let output = &mut output[from * channels + group..];
            interleave(isa, &elements[..len * planes], [planes, len], channels, output);
        }
    }
}

/// Dequantises planes of a channels-last image into channels-first order: `input` holds all pixels of
/// `channels` elements; `output` takes the whole planes from channel `first` on.
///
/// # Panics
/// The slices do not hold whole pixels and planes, or the planes lie beyond the channels.
pub fn dequantise_to_nchw(
    isa: Isa,
    q: Quantisation,
    channels: usize,
    input: &[u8],
    first: usize,
    output: &mut [f32],
) {
    let pixels = plane_size(channels, input.len());
    if output.is_empty() || pixels == 0 {
        return;
    }
    let planes = output.len() / pixels;
    assert!(output.len().is_multiple_of(pixels) && first + planes <= channels, "whole planes of the image");
    let mut elements = [0u8; PIXELS * PLANES];
    for (group, output) in output.chunks_mut(PLANES * pixels).enumerate() {
        let planes = output.len() / pixels;
        for from in (0..pixels).step_by(PIXELS) {
            let len = PIXELS.min(pixels - from);
            let input = &input[from * channels + first + group * PLANES..];
            transpose_strided(input, channels, [len, planes], &mut elements, len);
            for (plane, elements) in elements.chunks_exact(len).take(planes).enumerate() {
                dequantise(isa, q, elements, &mut output[plane * pixels + from..][..len]);
            }
        }
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

/// Quantises with a scale per channel: element `i` belongs to channel `i / inner % channels.len()`. A part
/// must begin at channel 0.
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

/// Dequantises with a scale per channel: element `i` belongs to channel `i / inner % channels.len()`. A part
/// must begin at channel 0.
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

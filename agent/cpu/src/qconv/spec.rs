//! What a quantised convolution is made from, and where its results go.

use super::finish::{Add, Finish, Quantise};
use crate::geometry::Conv2d;

/// A convolution of u8 activations with integer weights.
#[derive(Debug, Clone, Copy)]
pub struct QConvSpec<'a> {
    /// The sizes.
    pub geometry: Conv2d,
    /// In OIHW order (`[out_c][in_c / groups][kernel_h][kernel_w]`), their zero point already subtracted: -255..=255.
    pub weights: &'a [i16],
    /// One per output channel, in units of `input_scale * weight_scale`.
    pub bias: Option<&'a [i32]>,
    /// What the input's zero is stored as; padding reads it.
    pub input_zero: u8,
    /// What becomes of the sums.
    pub output: QOutput<'a>,
}

/// What becomes of the sums.
#[derive(Debug, Clone, Copy)]
pub enum QOutput<'a> {
    /// `clamp(round_half_even(sum as f32 * multiplier[c]) + zero, min, max)`, and then the residual sum if there is one.
    Quantised {
        /// One per output channel, or one for all.
        multiplier: &'a [f32],
        /// What the output's zero is stored as.
        zero: u8,
        /// The least value.
        min: u8,
        /// The greatest value.
        max: u8,
        /// A sum with another tensor of the same shape.
        residual: Option<Residual>,
    },
    /// The sums as they are.
    Int32,
    /// `sum as f32 * multiplier[c] + bias[c]`.
    Float {
        /// One per output channel, or one for all.
        multiplier: &'a [f32],
        /// One per output channel.
        bias: Option<&'a [f32]>,
    },
}

/// A `QLinearAdd` of the convolution's own quantised output and another tensor, with ONNX Runtime's arithmetic for AVX2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Residual {
    /// The scale of the convolution's own output.
    pub own_scale: f32,
    /// Its zero, as stored.
    pub own_zero: u8,
    /// The scale of the other tensor.
    pub other_scale: f32,
    /// Its zero, as stored.
    pub other_zero: u8,
    /// The scale of the sum.
    pub scale: f32,
    /// Its zero, as stored.
    pub zero: u8,
    /// The least value of the sum.
    pub min: u8,
    /// The greatest value of the sum.
    pub max: u8,
    /// Whether the convolution is the first operand of the addition: float32 rounds differently in the other order.
    pub own_first: bool,
    /// Whether the model holds the tensors as int8 (stored shifted by 128): float32 rounds differently with those zeros.
    pub signed: bool,
}

/// Where results go: the kind must be that of [`QOutput`].
#[derive(Debug)]
pub enum QSlice<'a> {
    /// Of [`QOutput::Quantised`].
    U8(&'a mut [u8]),
    /// Of [`QOutput::Int32`].
    I32(&'a mut [i32]),
    /// Of [`QOutput::Float`].
    F32(&'a mut [f32]),
}

impl QSlice<'_> {
    /// Elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::U8(slice) => slice.len(),
            Self::I32(slice) => slice.len(),
            Self::F32(slice) => slice.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What only a run knows of a dynamically quantised input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dynamic {
    /// What the input's zero is stored as, in place of the specification's.
    pub input_zero: u8,
    /// Scales every multiplier of [`QOutput::Float`].
    pub scale: f32,
}

impl QConvSpec<'_> {
    /// Panics where the specification contradicts itself.
    pub(super) fn check(&self) {
        let geometry = &self.geometry;
        let sizes = [geometry.in_c, geometry.out_c, geometry.kernel_h, geometry.kernel_w, geometry.groups];
        let steps = [geometry.stride_h, geometry.stride_w, geometry.dilation_h, geometry.dilation_w];
        assert!(sizes.iter().chain(&steps).all(|size| *size > 0), "a size of the convolution is zero");
        let channels = [geometry.in_c, geometry.out_c];
        assert!(channels.iter().all(|c| c.is_multiple_of(geometry.groups)), "channels in unequal groups");
        assert_eq!(self.weights.len(), geometry.out_c * self.per_channel(), "weights of the convolution");
        assert!(self.bias.is_none_or(|bias| bias.len() == geometry.out_c), "biases of the convolution");
        let per_channel = |values: &[f32]| values.len() == 1 || values.len() == geometry.out_c;
        match self.output {
            QOutput::Quantised { multiplier, .. } => assert!(per_channel(multiplier), "multipliers"),
            QOutput::Int32 => {}
            QOutput::Float { multiplier, bias } => {
                assert!(per_channel(multiplier), "multipliers");
                assert!(bias.is_none_or(|bias| bias.len() == geometry.out_c), "float biases");
            }
        }
    }

    /// Weights of an output channel.
    fn per_channel(&self) -> usize {
        let geometry = &self.geometry;
        geometry.in_c / geometry.groups * geometry.kernel_h * geometry.kernel_w
    }

    /// The sum of each output channel's weights.
    pub(super) fn weight_sums(&self) -> Vec<i32> {
        self.weights.chunks_exact(self.per_channel()).map(|w| w.iter().map(|w| i32::from(*w)).sum()).collect()
    }

    /// The biases, with the `sums` of the channels' weights folded in, for sums over inputs of which `shift` is subtracted as they are read.
    pub(super) fn folded_bias(&self, sums: &[i32], shift: i32) -> Vec<i32> {
        let by = shift - i32::from(self.input_zero);
        let bias = |c: usize| self.bias.map_or(0, |bias| bias[c]);
        sums.iter().enumerate().map(|(c, sum)| bias(c).wrapping_add(by.wrapping_mul(*sum))).collect()
    }

    /// Multipliers and float biases per output channel.
    pub(super) fn factors(&self) -> (Vec<f32>, Vec<f32>) {
        let each = |values: &[f32]| match values {
            [one] => vec![*one; self.geometry.out_c],
            all => all.to_vec(),
        };
        match self.output {
            QOutput::Quantised { multiplier, .. } => (each(multiplier), Vec::new()),
            QOutput::Int32 => (Vec::new(), Vec::new()),
            QOutput::Float { multiplier, bias } => (each(multiplier), bias.unwrap_or_default().to_vec()),
        }
    }

    /// Whether no sum times its multiplier leaves i32, whatever the input.
    fn is_small(&self, multiplier: &[f32]) -> bool {
        let each = |c: usize| f64::from(multiplier[if multiplier.len() == 1 { 0 } else { c }]);
        let range = f64::from(i32::MAX);
        self.weights.chunks_exact(self.per_channel()).enumerate().all(|(c, weights)| {
            // So many magnitudes add up within u32, and that is fast.
            let some = |weights: &[i16]| weights.iter().map(|w| u32::from(w.unsigned_abs())).sum::<u32>();
            let weights: f64 = weights.chunks(1 << 16).map(|weights| f64::from(some(weights))).sum();
            let bias = self.bias.map_or(0.0, |bias| f64::from(bias[c].unsigned_abs()));
            // Beyond i32, sums wrap.
            (weights * 255.0 + bias).min(range + 1.0) * each(c).abs() < range - 128.0
        })
    }

    /// How sums become results.
    pub(super) fn finish(&self) -> Finish {
        match self.output {
            QOutput::Quantised { zero, min, max, residual, multiplier } => {
                let quantise = Quantise::new(zero, min, max, self.is_small(multiplier));
                Finish::Quantised(quantise, residual.as_ref().map(Add::new))
            }
            QOutput::Int32 => Finish::Int32,
            QOutput::Float { .. } => Finish::Float,
        }
    }
}

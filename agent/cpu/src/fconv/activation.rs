//! Activations: limits while the sums are in registers, the others in a pass over fresh rows.

use crate::simd::{Kernel, Simd};

/// What is applied to each output element.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// Limits. Relu is from zero to infinity.
    Clip {
        /// The least value.
        min: f32,
        /// The greatest value.
        max: f32,
    },
    /// Values below zero are multiplied by this.
    LeakyRelu(f32),
    /// `x * clip(x / 6 + 1/2, 0, 1)`.
    HardSwish,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x / (1 + exp(-x))`.
    Silu,
}

impl Activation {
    /// Relu.
    pub const RELU: Self = Self::Clip { min: 0.0, max: f32::INFINITY };

    /// The limits, where it is nothing else: NaN stays NaN even between infinite ones.
    pub(super) const fn limits(self) -> (f32, f32) {
        match self {
            Self::Clip { min, max } => (min, max),
            _ => (f32::NEG_INFINITY, f32::INFINITY),
        }
    }

    /// Whether it is more than limits, and applied in a pass over fresh rows.
    pub(super) const fn needs_pass(self) -> bool {
        !matches!(self, Self::None | Self::Clip { .. })
    }

    /// A number for its kind, and its parameters.
    pub(super) fn to_words(self) -> [u64; 3] {
        let word = |value: f32| u64::from(value.to_bits());
        match self {
            Self::None => [0, 0, 0],
            Self::Clip { min, max } => [1, word(min), word(max)],
            Self::LeakyRelu(slope) => [2, word(slope), 0],
            Self::HardSwish => [3, 0, 0],
            Self::Sigmoid => [4, 0, 0],
            Self::Silu => [5, 0, 0],
        }
    }

    /// What [`Self::to_words`] gave.
    pub(super) fn from_words(words: [u64; 3]) -> Option<Self> {
        let float = |word: u64| u32::try_from(word).ok().map(f32::from_bits);
        let (first, second) = (float(words[1])?, float(words[2])?);
        Some(match words[0] {
            0 => Self::None,
            1 => Self::Clip { min: first, max: second },
            2 => Self::LeakyRelu(first),
            3 => Self::HardSwish,
            4 => Self::Sigmoid,
            5 => Self::Silu,
            _ => return None,
        })
    }
}

/// Limits each vector of a tile.
#[inline(always)]
pub(super) fn clip<S: Simd, const R: usize, const N: usize>(
    simd: S,
    (min, max): (f32, f32),
    tile: &mut [[S::Vector; N]; R],
) {
    let (min, max) = (simd.splat(min), simd.splat(max));
    for i in 0..R {
        for j in 0..N {
            tile[i][j] = simd.min(max, simd.max(min, tile[i][j]));
        }
    }
}

/// Applies an activation that is more than limits to elements in place.
pub(super) struct Pass<'a> {
    pub(super) activation: Activation,
    pub(super) elements: &'a mut [f32],
}

impl Kernel for Pass<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (zero, half, one) = (simd.splat(0.0), simd.splat(0.5), simd.splat(1.0));
        match self.activation {
            Activation::None | Activation::Clip { .. } => {}
            Activation::LeakyRelu(slope) => {
                let slope = simd.splat(slope);
                map(simd, self.elements, |x| simd.mul_add(slope, simd.min(zero, x), simd.max(zero, x)));
            }
            Activation::HardSwish => {
                let sixth = simd.splat(1.0 / 6.0);
                map(simd, self.elements, |x| {
                    let gate = simd.mul_add(x, sixth, half);
                    simd.mul(x, simd.min(one, simd.max(zero, gate)))
                });
            }
            Activation::Sigmoid => map(simd, self.elements, |x| {
                simd.div(one, simd.add(one, simd.exp(simd.mul(x, simd.splat(-1.0)))))
            }),
            Activation::Silu => map(simd, self.elements, |x| {
                simd.div(x, simd.add(one, simd.exp(simd.mul(x, simd.splat(-1.0)))))
            }),
        }
    }
}

#[inline(always)]
fn map<S: Simd>(simd: S, elements: &mut [f32], apply: impl Fn(S::Vector) -> S::Vector) {
    for elements in elements.chunks_mut(S::LANES) {
        let len = elements.len();
        let x = simd.load_some(elements, len);
        simd.store_some(apply(x), elements, len);
    }
}

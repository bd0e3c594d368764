//! Functions of one f32 tensor, element by element.

use super::{
    math::{between, erf, exp, exp_normal, exp_within, sigmoid, tanh},
    multiversion,
};

/// A function of one number. Those with an exponential are as near as [`super::math`] says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unary {
    /// The greater of x and 0.
    Relu,
    /// x limited to a range.
    Clip {
        /// The least result.
        min: f32,
        /// The greatest result, which wins over `min`.
        max: f32,
    },
    /// x, times a slope where it is negative.
    LeakyRelu(f32),
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `alpha * x + beta` limited to 0..=1.
    HardSigmoid {
        /// The factor.
        alpha: f32,
        /// The summand.
        beta: f32,
    },
    /// x * (x / 6 + 1/2 limited to 0..=1).
    HardSwish,
    /// x * sigmoid(x).
    Silu,
    /// x / 2 * (1 + erf(x / sqrt 2)).
    Gelu,
    /// x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))).
    GeluTanh,
    /// The error function.
    Erf,
    /// e^x.
    Exp,
    /// The natural logarithm.
    Log,
    /// The square root.
    Sqrt,
    /// 1 / x.
    Reciprocal,
    /// -x.
    Neg,
    /// The magnitude.
    Abs,
    /// -1, 0 or 1.
    Sign,
    /// The next integer below.
    Floor,
    /// The next integer above.
    Ceil,
    /// The nearest integer, half to even.
    Round,
    /// ln(1 + e^x).
    Softplus,
    /// x / (1 + |x|).
    Softsign,
    /// x, or `alpha * (e^x - 1)` where it is negative.
    Elu(f32),
    /// `gamma * x`, or `gamma * alpha * (e^x - 1)` where it is not positive.
    Selu {
        /// The factor below 0.
        alpha: f32,
        /// The factor everywhere.
        gamma: f32,
    },
    /// x * tanh(ln(1 + e^x)).
    Mish,
    /// x, or 0 where it is not above a threshold.
    ThresholdedRelu(f32),
    /// The sine.
    Sin,
    /// The cosine.
    Cos,
}

impl Unary {
    /// The function of one number.
    #[must_use]
    pub fn of(self, x: f32) -> f32 {
        let mut out = [0.0];
        apply::<true>(self, Source::Other(&[x]), &mut out);
        out[0]
    }
}

/// Where the arguments lie.
enum Source<'a> {
    Other(&'a [f32]),
    InPlace,
}

#[inline(always)]
fn map(source: Source<'_>, output: &mut [f32], f: impl Fn(f32) -> f32) {
    match source {
        Source::Other(input) => output.iter_mut().zip(input).for_each(
            #[inline(always)]
            |(out, x)| *out = f(*x),
        ),
        Source::InPlace => output.iter_mut().for_each(
            #[inline(always)]
            |x| *x = f(*x),
        ),
    }
}

macro_rules! with_each {
    ($self:expr, $source:expr, $output:expr; $($pattern:pat => $x:ident $body:expr,)*) => {
        match $self {
            $($pattern => map($source, $output, #[inline(always)] |$x| $body),)*
        }
    };
}

#[inline(always)]
fn apply<const FMA: bool>(function: Unary, source: Source<'_>, output: &mut [f32]) {
    use std::f32::consts::FRAC_1_SQRT_2;
    with_each! { function, source, output;
        Unary::Relu => x if x < 0.0 { 0.0 } else { x },
        Unary::Clip { min, max } => x limited(x, min, max),
        Unary::LeakyRelu(slope) => x if x >= 0.0 { x } else { slope * x },
        Unary::Sigmoid => x sigmoid::<FMA>(x),
        Unary::Tanh => x tanh::<FMA>(x),
        Unary::HardSigmoid { alpha, beta } => x limited(alpha * x + beta, 0.0, 1.0),
        Unary::HardSwish => x x * limited(x * (1.0 / 6.0) + 0.5, 0.0, 1.0),
        Unary::Silu => x x * sigmoid::<FMA>(x),
        Unary::Gelu => x 0.5 * x * (1.0 + erf::<FMA>(x * FRAC_1_SQRT_2)),
        Unary::GeluTanh => x gelu_tanh::<FMA>(x),
        Unary::Erf => x erf::<FMA>(x),
        Unary::Exp => x exp::<FMA>(x),
        Unary::Log => x x.ln(),
        Unary::Sqrt => x x.sqrt(),
        Unary::Reciprocal => x 1.0 / x,
        Unary::Neg => x -x,
        Unary::Abs => x x.abs(),
        Unary::Sign => x if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x },
        Unary::Floor => x x.floor(),
        Unary::Ceil => x x.ceil(),
        Unary::Round => x x.round_ties_even(),
        Unary::Softplus => x x.max(0.0) + (-x.abs()).exp().ln_1p(),
        Unary::Softsign => x x / (1.0 + x.abs()),
        Unary::Elu(alpha) => x if x >= 0.0 { x } else { alpha * expm1::<FMA>(x) },
        Unary::Selu { alpha, gamma } => x gamma * if x > 0.0 { x } else { alpha * expm1::<FMA>(x) },
        Unary::Mish => x mish::<FMA>(x),
        Unary::ThresholdedRelu(threshold) => x if x > threshold { x } else { 0.0 },
        Unary::Sin => x x.sin(),
        Unary::Cos => x x.cos(),
    }
}

#[inline(always)]
fn limited(x: f32, min: f32, max: f32) -> f32 {
    let x = if x < min { min } else { x };
    if x > max { max } else { x }
}

/// e^x - 1, by the tangent where the difference would cancel.
#[inline(always)]
fn expm1<const FMA: bool>(x: f32) -> f32 {
    let half = tanh::<FMA>(0.5 * x);
    let near = 2.0 * half / (1.0 - half);
    let far = exp_normal::<FMA>(x) - 1.0;
    if x.abs() < 1.0 { near } else { far }
}

#[inline(always)]
fn gelu_tanh<const FMA: bool>(x: f32) -> f32 {
    /// sqrt(2 / pi).
    const FACTOR: f32 = 0.797_884_6;
    let inner = FACTOR * (x + 0.044_715 * x * x * x);
    0.5 * x * (1.0 + tanh::<FMA>(inner))
}

/// tanh(ln(1 + e)) is n / (n + 2) with n = e * (e + 2).
#[inline(always)]
fn mish<const FMA: bool>(x: f32) -> f32 {
    /// From here on the factor is 1 in f32.
    const LIMIT: f32 = 20.0;
    let e = exp_within::<FMA>(between(x, -87.0, LIMIT));
    let n = e * (e + 2.0);
    x * (n / (n + 2.0))
}

multiversion! {
    /// The function of every element.
    ///
    /// # Panics
    /// The slices differ in length.
    pub fn unary(function: Unary, input: &[f32], output: &mut [f32]) {
        assert_eq!(input.len(), output.len(), "as many elements out as in");
        apply::<FMA>(function, Source::Other(input), output);
    }

    /// The function of every element, in its place.
    pub fn unary_in_place(function: Unary, elements: &mut [f32]) {
        apply::<FMA>(function, Source::InPlace, elements);
    }
}

//! Functions of one number that compilers can vectorise, with their error bounds.
//!
//! Each takes as its constant parameter whether multiply-add is fused. A ulp is the distance between
//! neighbouring numbers at the exact result.

/// `a * b + c`, fused if that is an instruction.
#[inline(always)]
pub(crate) fn madd<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn polynomial<const FMA: bool, const N: usize>(x: f32, from_highest: [f32; N]) -> f32 {
    let mut sum = from_highest[0];
    for coefficient in &from_highest[1..] {
        sum = madd::<FMA>(sum, x, *coefficient);
    }
    sum
}

/// e to the `x`, within 2 ulp; beyond the range of f32 infinity or 0, and NaN for NaN.
#[must_use]
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    let (mantissa, exponent) = exp_parts::<FMA>(between(x, -104.0, 89.0));
    // In two steps, so that neither factor leaves the normal range.
    let half = exponent >> 1;
    mantissa * two_to(half) * two_to(exponent - half)
}

/// [`exp`] for what is to be added to other numbers: 0 below e^-87, and no more than e^88.
#[must_use]
#[inline(always)]
pub fn exp_normal<const FMA: bool>(x: f32) -> f32 {
    /// Just above the logarithm of the least normal number.
    const LEAST: f32 = -87.0;
    let (mantissa, exponent) = exp_parts::<FMA>(between(x, LEAST, 88.0));
    if x < LEAST { 0.0 } else { mantissa * two_to(exponent) }
}

/// [`exp`] of no more than 87 and no less than -87, which is not checked.
#[inline(always)]
pub(crate) fn exp_within<const FMA: bool>(x: f32) -> f32 {
    let (mantissa, exponent) = exp_parts::<FMA>(x);
    mantissa * two_to(exponent)
}

/// `x` limited to a range; a NaN stays one.
#[inline(always)]
pub(crate) fn between(x: f32, least: f32, greatest: f32) -> f32 {
    let x = if x > greatest { greatest } else { x };
    if x < least { least } else { x }
}

/// e to the `x` as a number near 1 and a power of 2.
#[inline(always)]
fn exp_parts<const FMA: bool>(x: f32) -> (f32, i32) {
    /// The natural logarithm of 2, in a part whose multiples are exact and the rest.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    /// 1.5 * 2^23, which rounds what is added to it to an integer.
    const ROUNDER: f32 = 12_582_912.0;
    let shifted = madd::<FMA>(x, std::f32::consts::LOG2_E, ROUNDER);
    let power = shifted - ROUNDER;
    let rest = madd::<FMA>(power, -LN_2[1], madd::<FMA>(power, -LN_2[0], x));
    let series = polynomial::<FMA, 6>(
        rest,
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5],
    );
    let mantissa = madd::<FMA>(series, rest * rest, rest) + 1.0;
    (mantissa, (shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32))
}

#[inline(always)]
fn two_to(exponent: i32) -> f32 {
    f32::from_bits((exponent.wrapping_add(127) << 23) as u32)
}

/// 1 / (1 + e^-x), within 4 ulp; no less than 1.6e-38.
#[must_use]
#[inline(always)]
pub fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp_within::<FMA>(between(-x, -87.0, 87.0)))
}

/// [`sigmoid`] as a quotient of polynomials, within 2e-7 of the exact result but not near it relatively where
/// that is small. ONNX Runtime uses it, so that tables for quantised tensors agree in every rounding.
#[must_use]
#[inline(always)]
pub fn sigmoid_rational<const FMA: bool>(x: f32) -> f32 {
    /// Beyond it, the result is 0 or 1 within the error.
    const LIMIT: f32 = 18.0;
    let limited = between(x, -LIMIT, LIMIT);
    let square = limited * limited;
    let numerator = polynomial::<FMA, 5>(
        square,
        [4.370_31e-11, 1.156_273_2e-7, 6.085_749e-5, 8.513_771e-3, 2.482_879_5e-1],
    );
    let denominator = polynomial::<FMA, 6>(
        square,
        [6.102_473_7e-13, 5.761_021_4e-9, 6.291_068e-6, 1.701_988_2e-3, 1.168_176_5e-1, 9.931_519e-1],
    );
    between(limited * numerator / denominator + 0.5, 0.0, 1.0)
}

/// The hyperbolic tangent, within 8 ulp.
#[must_use]
#[inline(always)]
pub fn tanh<const FMA: bool>(x: f32) -> f32 {
    /// From here on the result is 1 in f32.
    const LIMIT: f32 = 9.0;
    let limited = between(x, -LIMIT, LIMIT);
    let square = limited * limited;
    let numerator = polynomial::<FMA, 7>(
        square,
        [
            -2.760_768_4e-16,
            2.000_188e-13,
            -8.604_672e-11,
            5.122_297_3e-8,
            1.485_722_35e-5,
            6.372_619_5e-4,
            4.893_524_6e-3,
        ],
    );
    let denominator =
        polynomial::<FMA, 4>(square, [1.198_258_4e-6, 1.185_347_1e-4, 2.268_434_7e-3, 4.893_525e-3]);
    limited * numerator / denominator
}

/// The error function, within 3 ulp.
#[must_use]
#[inline(always)]
pub fn erf<const FMA: bool>(x: f32) -> f32 {
    let (size, square) = (x.abs(), x * x);
    let small = polynomial::<FMA, 6>(
        square,
        [-5.967_617e-4, 4.991_194_2e-3, -2.676_813_5e-2, 1.128_199_25e-1, -3.761_253_4e-1, 1.283_791_7e-1],
    );
    let small = madd::<FMA>(small, x, x);
    let limited = if size > 4.0 { 4.0 } else { size };
    let large = polynomial::<FMA, 7>(
        limited,
        [
            -1.728_534_7e-5,
            3.831_971_3e-4,
            -3.883_964_4e-3,
            2.425_462_2e-2,
            -1.067_778_8e-1,
            -6.348_467e-1,
            -1.287_175_1e-1,
        ],
    );
    let large = 1.0 - exp_within::<FMA>(madd::<FMA>(large, limited, -limited));
    if size > 0.927_734_4 { large.copysign(x) } else { small }
}

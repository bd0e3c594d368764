//! What becomes of int32 sums: bias, requantisation in float32, clamping, the residual sum.
//!
//! One portable implementation, compiled once per instruction set: the compiler vectorises it.

use super::spec::{QSlice, Residual};

/// Adding it to a float32 of small magnitude rounds that half to even, to an integer in the low bits.
const ROUNDER: f32 = 12_582_912.0;

/// The parameters of neighbouring output channels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns<'a> {
    /// Added to the sums.
    pub(crate) bias: &'a [i32],
    /// Multiplies them; empty where they stay integers.
    pub(crate) multiplier: &'a [f32],
    /// Added to float results; may be empty.
    pub(crate) offset: &'a [f32],
}

impl Columns<'_> {
    /// Those from `start` on.
    pub(crate) fn from(&self, start: usize) -> Self {
        Self {
            bias: &self.bias[start..],
            multiplier: self.multiplier.get(start..).unwrap_or_default(),
            offset: self.offset.get(start..).unwrap_or_default(),
        }
    }
}

/// How sums become results.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Finish {
    Quantised(Quantise, Option<Add>),
    Int32,
    Float,
}

/// Requantisation; the bounds lie around the zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quantise {
    pub(crate) low: f32,
    pub(crate) high: f32,
    pub(crate) zero: i32,
    /// Whether no sum times its multiplier leaves i32.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for kernels that finish"))]
    pub(crate) small: bool,
}

impl Quantise {
    pub(crate) fn new(zero: u8, min: u8, max: u8, small: bool) -> Self {
        let around = |value: u8| f32::from(value) - f32::from(zero);
        let (low, high) = (around(min), around(max.max(min)));
        Self { low, high, zero: zero.into(), small }
    }

    /// The least result.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for kernels that finish"))]
    pub(crate) fn least(self) -> i32 {
        self.low as i32 + self.zero
    }

    /// The greatest result.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for kernels that finish"))]
    pub(crate) fn most(self) -> i32 {
        self.high as i32 + self.zero
    }
}

/// A residual sum with its constants worked out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Add {
    pub(crate) own_ratio: f32,
    pub(crate) other_ratio: f32,
    pub(crate) fixed: f32,
    /// Subtracted from stored values: 128 for int8 tensors.
    pub(crate) shift: i32,
    pub(crate) low: f32,
    pub(crate) high: f32,
    pub(crate) own_first: bool,
}

impl Add {
    /// The constants in the order, and with the fused steps, of ONNX Runtime's kernel.
    pub(crate) fn new(residual: &Residual) -> Self {
        let shift = if residual.signed { 128 } else { 0 };
        let value = |stored: u8| (i32::from(stored) - shift) as f32;
        let (own_ratio, other_ratio) =
            (residual.own_scale / residual.scale, residual.other_scale / residual.scale);
        let own = (own_ratio, value(residual.own_zero));
        let other = (other_ratio, value(residual.other_zero));
        let (first, second) = if residual.own_first { (own, other) } else { (other, own) };
        let zeros = first.0.mul_add(first.1, second.0 * second.1);
        Self {
            own_ratio,
            other_ratio,
            fixed: value(residual.zero) - zeros,
            shift,
            low: value(residual.min),
            high: value(residual.max.max(residual.min)),
            own_first: residual.own_first,
        }
    }
}

/// A block of sums and where its results go.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    /// `rows` rows of `stride` sums.
    pub(crate) sums: &'a [i32],
    /// Sums from one row to the next.
    pub(crate) stride: usize,
    /// Sums of a row that are results.
    pub(crate) columns: usize,
    /// Rows.
    pub(crate) rows: usize,
}

/// The place of a block of results in the output.
#[derive(Debug)]
pub(crate) struct Place<'a, 'b> {
    /// The output.
    pub(crate) output: &'a mut QSlice<'b>,
    /// The element at which the first row starts.
    pub(crate) start: usize,
    /// Elements from one row to the next.
    pub(crate) stride: usize,
    /// The other tensor of a residual sum, from the output's first element on.
    pub(crate) residual: &'a [u8],
}

/// Turns a block of sums into results.
#[inline(always)]
pub(crate) fn finish<const FMA: bool>(
    block: &Block<'_>,
    columns: &Columns<'_>,
    how: &Finish,
    place: Place<'_, '_>,
) {
    let n = block.columns;
    let (start, stride) = (place.start, place.stride);
    let row = |r: usize| start + r * stride..start + r * stride + n;
    let sums = |r: usize| &block.sums[r * block.stride..][..n];
    let bias = &columns.bias[..n];
    match (how, place.output) {
        (Finish::Quantised(quantise, None), QSlice::U8(output)) => {
            for r in 0..block.rows {
                quantised(sums(r), bias, &columns.multiplier[..n], *quantise, &mut output[row(r)]);
            }
        }
        (Finish::Quantised(quantise, Some(add)), QSlice::U8(output)) => {
            for r in 0..block.rows {
                quantised(sums(r), bias, &columns.multiplier[..n], *quantise, &mut output[row(r)]);
                add_residual::<FMA>(*add, &place.residual[row(r)], &mut output[row(r)]);
            }
        }
        (Finish::Int32, QSlice::I32(output)) => {
            for r in 0..block.rows {
                for ((to, sum), bias) in output[row(r)].iter_mut().zip(sums(r)).zip(bias) {
                    *to = sum.wrapping_add(*bias);
                }
            }
        }
        (Finish::Float, QSlice::F32(output)) => {
            for r in 0..block.rows {
                float(sums(r), columns, &mut output[row(r)]);
            }
        }
        _ => unreachable!("the kind of slice is checked before a run"),
    }
}

#[inline(always)]
fn quantised(sums: &[i32], bias: &[i32], multiplier: &[f32], quantise: Quantise, output: &mut [u8]) {
    let Quantise { low, high, zero, .. } = quantise;
    for (((to, sum), bias), multiplier) in output.iter_mut().zip(sums).zip(bias).zip(multiplier) {
        let value = sum.wrapping_add(*bias) as f32 * multiplier;
        *to = (round(value, low, high) + zero) as u8;
    }
}

/// Rounded half to even within bounds of small magnitude.
#[inline(always)]
fn round(value: f32, low: f32, high: f32) -> i32 {
    let value = if value > low { value } else { low };
    let value = if value < high { value } else { high };
    ((value + ROUNDER).to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32)
}

#[inline(always)]
fn add_residual<const FMA: bool>(add: Add, others: &[u8], output: &mut [u8]) {
    let (first, second) =
        if add.own_first { (add.own_ratio, add.other_ratio) } else { (add.other_ratio, add.own_ratio) };
    for (own, other) in output.iter_mut().zip(others) {
        let (a, b) = if add.own_first { (*own, *other) } else { (*other, *own) };
        let a = (i32::from(a) - add.shift) as f32;
        let b = (i32::from(b) - add.shift) as f32;
        let value = fused::<FMA>(a, first, fused::<FMA>(b, second, add.fixed));
        *own = (round(value, add.low, add.high) + add.shift) as u8;
    }
}

/// A multiplication and an addition with one rounding.
#[inline(always)]
fn fused<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { (f64::from(a) * f64::from(b) + f64::from(c)) as f32 }
}

#[inline(always)]
fn float(sums: &[i32], columns: &Columns<'_>, output: &mut [f32]) {
    let n = output.len();
    let parameters = columns.bias[..n].iter().zip(&columns.multiplier[..n]);
    for ((to, sum), (bias, multiplier)) in output.iter_mut().zip(sums).zip(parameters) {
        *to = sum.wrapping_add(*bias) as f32 * multiplier;
    }
    for (to, offset) in output.iter_mut().zip(columns.offset) {
        *to += offset;
    }
}

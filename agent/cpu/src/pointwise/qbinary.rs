//! Sums and products of quantised tensors, as `QLinearAdd` and `QLinearMul` of ONNX Runtime on x86-64.

use super::{
    broadcast::Broadcast,
    multiversion,
    quantise::{Quantisation, nearest},
};
#[cfg(target_arch = "aarch64")]
use crate::aarch64::qbinary as arch;
use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::x86_64::qbinary as arch;
use std::ops::Range;

/// Which operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QOperation {
    /// The sum.
    Add,
    /// The product.
    Mul,
}

/// An operation on two quantised tensors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QBinary {
    /// Which.
    pub operation: QOperation,
    /// Of the first operand.
    pub a: Quantisation,
    /// Of the second operand.
    pub b: Quantisation,
    /// Of the result.
    pub out: Quantisation,
}

/// The factors of an operation on elements as the model has them: u8, or int8 where `signed`.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, reason = "nothing takes them without vectors")
)]
pub(crate) struct Factors {
    /// Whether the model's type is int8.
    pub(crate) signed: bool,
    /// The zero points of the operands, as they are subtracted from products.
    pub(crate) zeros: [i32; 2],
    /// What each operand of a sum, or the product, is multiplied with.
    pub(crate) ratios: [f32; 2],
    /// What is added in the end, or in the beginning of a sum.
    pub(crate) fixed: f32,
}

/// `a * b + c` rounded once, for an integer `a` of 9 bits at most.
#[inline(always)]
fn fused<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA {
        a.mul_add(b, c)
    } else {
        // The product is exact in 64 bits, and so is nearly every such sum.
        (f64::from(a) * f64::from(b) + f64::from(c)) as f32
    }
}

/// The factors of a sum, computed once.
#[derive(Debug, Clone, Copy)]
struct Sum {
    ratio: [f32; 2],
    fixed: f32,
    shift: [i32; 3],
}

impl Sum {
    fn new(q: &QBinary) -> Self {
        let ratio = [q.a.scale / q.out.scale, q.b.scale / q.out.scale];
        let shift = [q.a.shift(), q.b.shift(), q.out.shift()];
        let zero = |q: Quantisation| (i32::from(q.zero) - q.shift()) as f32;
        let fixed = zero(q.out) - ratio[0].mul_add(zero(q.a), ratio[1] * zero(q.b));
        Self { ratio, fixed, shift }
    }

    fn with_scalar(self, operand: usize, element: u8) -> Self {
        let value = (i32::from(element) - self.shift[operand]) as f32;
        Self { fixed: value.mul_add(self.ratio[operand], self.fixed), ..self }
    }

    #[inline(always)]
    fn part<const FMA: bool>(&self, operand: usize, element: u8, rest: f32) -> f32 {
        let value = (i32::from(element) - self.shift[operand]) as f32;
        fused::<FMA>(value, self.ratio[operand], rest)
    }
}

/// The element of a number of steps, rounded and saturated. As the conversion of x86-64 does, it makes NaN
/// and what an i32 cannot hold the lowest.
#[inline(always)]
fn element(value: f32, shift: i32) -> u8 {
    // Beyond the range of u8 and int8, where rounding no longer matters.
    const LIMIT: f32 = 4096.0;
    let value = if value < 2_147_483_648.0 { value } else { -LIMIT };
    (nearest(value.clamp(-LIMIT, LIMIT)) + shift).clamp(0, 255) as u8
}

multiversion! {
    fn add(sum: Sum, a: &[u8], b: &[u8], output: &mut [u8]) {
        for ((out, a), b) in output.iter_mut().zip(a).zip(b) {
            *out = element(sum.part::<FMA>(0, *a, sum.part::<FMA>(1, *b, sum.fixed)), sum.shift[2]);
        }
    }

    fn add_to_one(sum: Sum, operand: usize, elements: &[u8], output: &mut [u8]) {
        for (out, one) in output.iter_mut().zip(elements) {
            *out = element(sum.part::<FMA>(operand, *one, sum.fixed), sum.shift[2]);
        }
    }

    fn mul(q: &QBinary, a: &[u8], b: &[u8], output: &mut [u8]) {
        let ratio = q.a.scale * q.b.scale / q.out.scale;
        let zeros = [i32::from(q.a.zero), i32::from(q.b.zero)];
        let (shift, zero) = (q.out.shift(), (i32::from(q.out.zero) - q.out.shift()) as f32);
        for ((out, a), b) in output.iter_mut().zip(a).zip(b) {
            let product = (i32::from(*a) - zeros[0]) * (i32::from(*b) - zeros[1]);
            *out = element(product as f32 * ratio + zero, shift);
        }
    }
}

/// The operation on tensors of one shape, or a tensor and a single element.
///
/// # Panics
/// An operand has neither one element nor as many as the output.
pub fn qbinary(isa: Isa, q: &QBinary, a: &[u8], b: &[u8], output: &mut [u8]) {
    let len = output.len();
    assert!(
        [a.len(), b.len()].iter().all(|l| *l == len || *l == 1),
        "operands as long as the output, or single"
    );
    prepared(isa, q, Sum::new(q), [a, b], output);
}

/// The operation with its factors computed; the operands are as long as the output, or single.
fn prepared(isa: Isa, q: &QBinary, sum: Sum, [a, b]: [&[u8]; 2], output: &mut [u8]) {
    let len = output.len();
    match (q.operation, a.len() == len, b.len() == len) {
        (QOperation::Add, true, true) => {
            let done = vectors(isa, q, &sum, [a, b], output);
            add(isa, sum, &a[done..], &b[done..], &mut output[done..]);
        }
        (QOperation::Add, true, false) => add_to_one(isa, sum.with_scalar(1, b[0]), 0, a, output),
        (QOperation::Add, false, true) => add_to_one(isa, sum.with_scalar(0, a[0]), 1, b, output),
        (QOperation::Mul, true, true) => {
            let done = vectors(isa, q, &sum, [a, b], output);
            mul(isa, q, &a[done..], &b[done..], &mut output[done..]);
        }
        (QOperation::Mul, true, false) => mul_by_one(isa, q, a, b[0], output),
        (QOperation::Mul, false, true) => {
            mul_by_one(isa, &QBinary { a: q.b, b: q.a, ..*q }, b, a[0], output);
        }
        (_, false, false) => {
            let mut one = [0];
            prepared(isa, q, sum, [&a[..1], &b[..1]], &mut one);
            output.fill(one[0]);
        }
    }
}

/// What the architecture has vectors for, from the beginning; says how many elements that were.
fn vectors(isa: Isa, q: &QBinary, sum: &Sum, operands: [&[u8]; 2], output: &mut [u8]) -> usize {
    let signed = q.out.signed;
    if q.a.signed != signed || q.b.signed != signed {
        return 0;
    }
    let zeros = [q.a, q.b].map(|q| i32::from(q.zero) - q.shift());
    match q.operation {
        QOperation::Add => {
            let factors = Factors { signed, zeros, ratios: sum.ratio, fixed: sum.fixed };
            arch::run::<false>(isa, &factors, operands, output)
        }
        QOperation::Mul => {
            let ratios = [q.a.scale * q.b.scale / q.out.scale; 2];
            let fixed = (i32::from(q.out.zero) - q.out.shift()) as f32;
            arch::run::<true>(isa, &Factors { signed, zeros, ratios, fixed }, operands, output)
        }
    }
}

/// No vectors.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod arch {
    use super::{Factors, Isa};

    pub(super) fn run<const MUL: bool>(_: Isa, _: &Factors, _: [&[u8]; 2], _: &mut [u8]) -> usize {
        0
    }
}

/// One factor is the same throughout: a table of all products.
fn mul_by_one(isa: Isa, q: &QBinary, a: &[u8], b: u8, output: &mut [u8]) {
    let every: [u8; 256] = std::array::from_fn(|element| element as u8);
    let mut table = [0; 256];
    mul(isa, q, &every, &[b; 256], &mut table);
    super::lut::lut(isa, &table, a, output);
}

/// The operation with the first operand in the output's place; the second is as long, or a single element.
///
/// # Panics
/// The second operand has neither one element nor as many as the first.
pub fn qbinary_in_place(isa: Isa, q: &QBinary, a: &mut [u8], b: &[u8]) {
    /// Elements set aside at a time.
    const BLOCK: usize = 1024;
    assert!(b.len() == a.len() || b.len() == 1, "operands as long as the output, or single");
    let (sum, single) = (Sum::new(q), b.len() != a.len());
    let mut aside = [0; BLOCK];
    for (block, a) in a.chunks_mut(BLOCK).enumerate() {
        let aside = &mut aside[..a.len()];
        aside.copy_from_slice(a);
        let b = if single { b } else { &b[block * BLOCK..][..a.len()] };
        prepared(isa, q, sum, [aside, b], a);
    }
}

/// The operation on tensors of two shapes: `output` takes the rows `rows` of the broadcast.
///
/// # Panics
/// The operands are shorter than their shapes, or the output is not as long as its rows.
pub fn qbinary_broadcast(
    isa: Isa,
    q: &QBinary,
    broadcast: &Broadcast,
    operands: [&[u8]; 2],
    rows: Range<usize>,
    output: &mut [u8],
) {
    let [a, b] = operands;
    let lens = broadcast.operand_row_len();
    assert_eq!(output.len(), rows.len() * broadcast.row_len(), "the output holds its rows");
    let sum = Sum::new(q);
    let chunks = output.chunks_exact_mut(broadcast.row_len().max(1));
    for (row, output) in broadcast.row_starts(rows).zip(chunks) {
        let operands = [&a[row.starts[0]..][..lens[0]], &b[row.starts[1]..][..lens[1]]];
        prepared(isa, q, sum, operands, output);
    }
}

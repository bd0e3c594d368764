//! Arithmetic on two f32 tensors.

use super::{broadcast::Broadcast, multiversion};
use crate::isa::Isa;
use std::ops::Range;

/// An operation on two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// a + b.
    Add,
    /// a - b.
    Sub,
    /// a * b.
    Mul,
    /// a / b.
    Div,
    /// The lesser.
    Min,
    /// The greater.
    Max,
    /// a to the b.
    Pow,
    /// a, times the slope b where it is negative.
    PRelu,
}

/// The operands: slices as long as the output, or single numbers.
#[derive(Clone, Copy)]
enum Operands<'a> {
    Both(&'a [f32], &'a [f32]),
    First(&'a [f32], f32),
    Second(f32, &'a [f32]),
    InPlace(&'a [f32]),
    InPlaceOne(f32),
}

#[inline(always)]
fn zip(operands: Operands<'_>, output: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    match operands {
        Operands::Both(a, b) => {
            for ((out, a), b) in output.iter_mut().zip(a).zip(b) {
                *out = f(*a, *b);
            }
        }
        Operands::First(a, b) => output.iter_mut().zip(a).for_each(
            #[inline(always)]
            |(out, a)| *out = f(*a, b),
        ),
        Operands::Second(a, b) => output.iter_mut().zip(b).for_each(
            #[inline(always)]
            |(out, b)| *out = f(a, *b),
        ),
        Operands::InPlace(b) => output.iter_mut().zip(b).for_each(
            #[inline(always)]
            |(out, b)| *out = f(*out, *b),
        ),
        Operands::InPlaceOne(b) => output.iter_mut().for_each(
            #[inline(always)]
            |out| *out = f(*out, b),
        ),
    }
}

#[inline(always)]
fn apply(operation: Binary, operands: Operands<'_>, output: &mut [f32]) {
    match operation {
        Binary::Add => zip(
            operands,
            output,
            #[inline(always)]
            |a, b| a + b,
        ),
        Binary::Sub => zip(
            operands,
            output,
            #[inline(always)]
            |a, b| a - b,
        ),
        Binary::Mul => zip(
            operands,
            output,
            #[inline(always)]
            |a, b| a * b,
        ),
        Binary::Div => zip(
            operands,
            output,
            #[inline(always)]
            |a, b| a / b,
        ),
        // A NaN in either stays one, as in ONNX Runtime.
        Binary::Min => zip(
            operands,
            output,
            #[inline(always)]
            |a, b| if a < b || a.is_nan() { a } else { b },
        ),
        Binary::Max => zip(
            operands,
            output,
            #[inline(always)]
            |a, b| if a > b || a.is_nan() { a } else { b },
        ),
        Binary::Pow => zip(
            operands,
            output,
            #[inline(always)]
            |a, b| a.powf(b),
        ),
        Binary::PRelu => zip(
            operands,
            output,
            #[inline(always)]
            |a, b| if a > 0.0 { a } else { a * b },
        ),
    }
}

multiversion! {
    fn dispatched(operation: Binary, operands: Operands<'_>, output: &mut [f32]) {
        apply(operation, operands, output);
    }

    fn dispatched_rows(operation: Binary, a: &[f32], b: &[f32], output: &mut [f32]) {
        for (a, output) in a.chunks_exact(b.len()).zip(output.chunks_exact_mut(b.len())) {
            apply(operation, Operands::Both(a, b), output);
        }
    }
}

/// The operation on tensors of one shape, or a tensor and a single number.
///
/// # Panics
/// An operand has neither one element nor as many as the output.
pub fn binary(isa: Isa, operation: Binary, a: &[f32], b: &[f32], output: &mut [f32]) {
    let len = output.len();
    assert!(
        [a.len(), b.len()].iter().all(|l| *l == len || *l == 1),
        "operands as long as the output, or single"
    );
    let operands = match (a.len() == len, b.len() == len) {
        (true, true) => Operands::Both(a, b),
        (true, false) if operation == Binary::Pow && b[0] == 2.0 => {
            return dispatched(isa, Binary::Mul, Operands::Both(a, a), output);
        }
        (true, false) => Operands::First(a, b[0]),
        (false, true) => Operands::Second(a[0], b),
        (false, false) => {
            output.fill(a[0]);
            Operands::InPlaceOne(b[0])
        }
    };
    dispatched(isa, operation, operands, output);
}

/// The operation with the first operand in the output's place; the second is as long, or a single number.
///
/// # Panics
/// The second operand has neither one element nor as many as the first.
pub fn binary_in_place(isa: Isa, operation: Binary, a: &mut [f32], b: &[f32]) {
    let operands = match b {
        b if b.len() == a.len() => Operands::InPlace(b),
        [b] => Operands::InPlaceOne(*b),
        _ => panic_lengths(a.len(), b.len()),
    };
    dispatched(isa, operation, operands, a);
}

#[allow(clippy::panic, reason = "the caller has mixed up its tensors")]
fn panic_lengths(a: usize, b: usize) -> ! {
    panic!("operands of {a} and {b} elements");
}

/// The operation of every row of `a` with the one row `b`: a number per channel, channels last.
///
/// # Panics
/// `a` does not hold whole rows, or the output is not as long.
pub fn binary_channels(isa: Isa, operation: Binary, a: &[f32], b: &[f32], output: &mut [f32]) {
    assert_eq!(a.len(), output.len(), "as many elements out as in");
    if b.len() == 1 {
        return binary(isa, operation, a, b, output);
    }
    assert!(a.is_empty() || (!b.is_empty() && a.len().is_multiple_of(b.len())), "whole rows");
    if !a.is_empty() {
        dispatched_rows(isa, operation, a, b, output);
    }
}

/// The operation on tensors of two shapes: `output` takes the rows `rows` of the broadcast.
///
/// # Panics
/// The operands are shorter than their shapes, or the output is not as long as its rows.
pub fn binary_broadcast(
    isa: Isa,
    operation: Binary,
    broadcast: &Broadcast,
    operands: [&[f32]; 2],
    rows: Range<usize>,
    output: &mut [f32],
) {
    let [a, b] = operands;
    let lens = broadcast.operand_row_len();
    assert_eq!(output.len(), rows.len() * broadcast.row_len(), "the output holds its rows");
    if broadcast.repeats_one_row() && !output.is_empty() {
        let len = broadcast.row_len();
        return dispatched_rows(isa, operation, &a[rows.start * len..rows.end * len], &b[..len], output);
    }
    let chunks = output.chunks_exact_mut(broadcast.row_len().max(1));
    for (row, output) in broadcast.row_starts(rows).zip(chunks) {
        binary(isa, operation, &a[row.starts[0]..][..lens[0]], &b[row.starts[1]..][..lens[1]], output);
    }
}

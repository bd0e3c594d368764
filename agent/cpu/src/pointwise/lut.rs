//! Functions of one quantised tensor, as tables of 256 entries.

use super::{math::sigmoid_rational, quantise::Quantisation, unary::Unary};
use crate::isa::Isa;

/// What each element becomes.
pub type Table = [u8; 256];

/// The table of `function` between a tensor quantised as `from` and one quantised as `to`: each element is
/// dequantised, mapped and quantised, as ONNX Runtime builds those of its `QLinear` operators.
#[must_use]
pub fn table(from: Quantisation, to: Quantisation, function: impl Fn(f32) -> f32) -> Table {
    std::array::from_fn(|element| to.quantise(function(from.dequantise(element as u8))))
}

/// The table of a function of one number, evaluated as ONNX Runtime evaluates it.
#[must_use]
pub fn of(from: Quantisation, to: Quantisation, function: Unary) -> Table {
    match function {
        Unary::Sigmoid => table(from, to, sigmoid_rational::<true>),
        function => table(from, to, |value| function.of(value)),
    }
}

/// The table that requantises. It is the identity where `from` and `to` are the same.
#[must_use]
pub fn requantise(from: Quantisation, to: Quantisation) -> Table {
    table(from, to, |value| value)
}

/// One table after another.
#[must_use]
pub fn compose(first: &Table, second: &Table) -> Table {
    first.map(|element| second[usize::from(element)])
}

/// Looks every element up.
///
/// # Panics
/// The slices differ in length.
pub fn lut(isa: Isa, table: &Table, input: &[u8], output: &mut [u8]) {
    assert_eq!(input.len(), output.len(), "as many elements out as in");
    if vectors(isa, table, input, output) {
        return;
    }
    for (out, element) in output.iter_mut().zip(input) {
        *out = table[usize::from(*element)];
    }
}

/// Looks every element up with vectors, if the architecture has any for that; says whether it has.
fn vectors(isa: Isa, table: &Table, input: &[u8], output: &mut [u8]) -> bool {
    #[cfg(target_arch = "x86_64")]
    return crate::x86_64::lut::run(isa, table, input, output);
    #[cfg(target_arch = "aarch64")]
    return crate::aarch64::lut::run(isa, table, input, output);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = (isa, table, input, output);
        false
    }
}

/// Looks every element up, in its place.
pub fn lut_in_place(table: &Table, elements: &mut [u8]) {
    for element in elements {
        *element = table[usize::from(*element)];
    }
}

//! Whether an answer is the expected one, by the measure of ONNX's own backend test.

use whimbrel_infer::{Datatype, Tensor};

const RELATIVE: f64 = 1e-3;
/// What floats may be off by, whatever they are.
pub(crate) const ABSOLUTE: f64 = 1e-7;

/// What is wrong with `found`, if anything. Numbers may be off by `absolute`: integers only where it is 1 or more.
pub(crate) fn difference(expected: &Tensor, found: &Tensor, absolute: f64) -> Option<String> {
    if expected.datatype() != found.datatype() {
        return Some(format!("{}, expected {}", found.datatype(), expected.datatype()));
    }
    if expected.shape() != found.shape() {
        return Some(format!("shape {:?}, expected {:?}", found.shape(), expected.shape()));
    }
    let off = count_off(expected, found, absolute);
    (off > 0).then(|| format!("{off} of {} elements differ", expected.len()))
}

fn count_off(expected: &Tensor, found: &Tensor, absolute: f64) -> usize {
    if let (Some(expected), Some(found)) = (expected.as_strings(), found.as_strings()) {
        return expected.iter().zip(found).filter(|(e, f)| e != f).count();
    }
    let numbers = |tensor: &Tensor| tensor.to_f64s().expect("no strings");
    let pairs = numbers(expected).into_iter().zip(numbers(found));
    if expected.datatype().is_float() {
        return pairs.filter(|(e, f)| !close(*e, *f, absolute)).count();
    }
    if absolute >= 1.0 {
        return pairs.filter(|(e, f)| (e - f).abs() > absolute).count();
    }
    // By their bytes, since a double does not hold every 64-bit integer.
    let size = expected.datatype().size_bytes().unwrap_or(1);
    let elements = |tensor: &Tensor| -> Vec<Vec<u8>> {
        let bytes = tensor.as_le_bytes().expect("no strings");
        bytes.chunks_exact(size).map(<[u8]>::to_vec).collect()
    };
    elements(expected).into_iter().zip(elements(found)).filter(|(e, f)| e != f).count()
}

fn close(expected: f64, found: f64, absolute: f64) -> bool {
    if expected.is_finite() && found.is_finite() {
        return (expected - found).abs() <= absolute + RELATIVE * expected.abs();
    }
    expected == found || (expected.is_nan() && found.is_nan())
}

/// Whether the expected answer holds NaN or an infinity, which no run gives.
pub(crate) fn is_finite(expected: &Tensor) -> bool {
    expected.datatype() == Datatype::Bytes || !expected.has_non_finite()
}

//! Windows of signal processing: sums of cosines.

use super::call::{Answer, Call, from_floats, size};
use crate::datatype::Datatype;

pub(super) fn hann(call: &Call) -> Answer {
    cosines(call, [0.5, 0.5, 0.0])
}

pub(super) fn hamming(call: &Call) -> Answer {
    cosines(call, [25.0 / 46.0, 21.0 / 46.0, 0.0])
}

pub(super) fn blackman(call: &Call) -> Answer {
    cosines(call, [0.42, 0.5, 0.08])
}

/// `a - b * cos(t) + c * cos(2 * t)` over one turn; a periodic window leaves the turn's end out.
#[allow(clippy::cast_precision_loss, reason = "the count is within the limits")]
fn cosines(call: &Call, [a, b, c]: [f64; 3]) -> Answer {
    let count = call.ints(0)?.and_then(|v| v.first().copied()).ok_or("it has no size")?;
    let count = call.count(&[size(count)?])?;
    let steps = if call.int("periodic", 1) != 0 { count } else { count.saturating_sub(1) }.max(1) as f64;
    let turn = |i: usize| std::f64::consts::TAU * i as f64 / steps;
    let values: Vec<f64> = (0..count).map(turn).map(|t| a - b * t.cos() + c * (2.0 * t).cos()).collect();
    let datatype = i32::try_from(call.int("output_datatype", 1)).ok();
    let datatype = datatype.and_then(crate::graph::datatype_of_number).unwrap_or(Datatype::Fp32);
    Ok(vec![from_floats(datatype, vec![count], &values)?])
}

//! Spectra of signals.

use super::call::{Answer, Call, floats, from_floats, size};
use crate::{datatype::Datatype, rules::axis_index};
use std::f64::consts::TAU;

/// A number's real and imaginary part.
type Complex = [f64; 2];

/// A discrete Fourier transform of one length, by its definition.
struct Transform {
    /// What the unit circle has at each of as many steps as the signal is long.
    circle: Vec<Complex>,
    inverse: bool,
}

impl Transform {
    #[allow(clippy::cast_precision_loss, reason = "lengths of signals")]
    fn new(len: usize, inverse: bool) -> Self {
        let sign = if inverse { 1.0 } else { -1.0 };
        let step = |i: usize| (sign * TAU * i as f64 / len as f64).sin_cos();
        Self { circle: (0..len).map(step).map(|(sin, cos)| [cos, sin]).collect(), inverse }
    }

    /// One frequency of a signal, which zeros extend to the length of the transform.
    #[allow(clippy::cast_precision_loss, reason = "lengths of signals")]
    fn at(&self, frequency: usize, signal: &[Complex]) -> Complex {
        let (mut sum, mut turn) = ([0.0; 2], 0);
        for [real, imaginary] in signal.iter().take(self.circle.len()) {
            let [cos, sin] = self.circle[turn];
            sum[0] += real * cos - imaginary * sin;
            sum[1] += real * sin + imaginary * cos;
            turn = (turn + frequency) % self.circle.len();
        }
        let divisor = if self.inverse { self.circle.len() as f64 } else { 1.0 };
        sum.map(|part| part / divisor)
    }
}

/// Real or complex numbers, as the last axis has it.
fn complex(values: &[f64], parts: usize) -> Result<Vec<Complex>, String> {
    match parts {
        1 => Ok(values.iter().map(|value| [*value, 0.0]).collect()),
        2 => Ok(values.as_chunks().0.to_vec()),
        other => Err(format!("its last axis has {other} elements, a number has 1 or 2")),
    }
}

/// How many frequencies there are of a transform of this length.
fn frequencies(onesided: bool, parts: usize, len: usize) -> Result<usize, String> {
    match (onesided, parts) {
        (false, _) => Ok(len),
        (true, 1) => Ok(len / 2 + 1),
        (true, _) => Err("one side of a spectrum is asked for, which complex signals do not have".into()),
    }
}

/// `DFT`.
#[allow(clippy::cast_possible_truncation, reason = "an axis is a whole number")]
pub(super) fn fourier(call: &Call) -> Answer {
    let x = call.input(0)?;
    let [signals @ .., parts] = x.shape() else { return Err("its input has no axes".into()) };
    let axis =
        if call.node.version < 20 { call.int("axis", 1) } else { call.scalar(2)?.unwrap_or(-2.0) as i64 };
    let axis = axis_index(axis, x.shape().len())?;
    let own = *signals.get(axis).ok_or("its axis is the one of real and imaginary parts")?;
    let len = match call.ints(1)?.and_then(|len| len.first().copied()) {
        Some(len) => size(len)?,
        None => own,
    };
    let (inverse, onesided) = (call.int("inverse", 0) != 0, call.int("onesided", 0) != 0);
    if inverse && onesided {
        return Err("onesided and inverse are not supported together".into());
    }
    call.count(&[len])?;
    let count = frequencies(onesided, *parts, len)?;
    let mut shape = x.shape().to_vec();
    (shape[axis], shape[signals.len()]) = (count, 2);
    let mut values = vec![0.0; call.count(&shape)?];
    if values.is_empty() || x.is_empty() {
        return Ok(vec![from_floats(x.datatype(), shape, &values)?]);
    }
    Call::work(&[shape.as_slice(), &[own.min(len)]].concat())?;
    let inner: usize = signals[axis + 1..].iter().product();
    let (numbers, transform) = (complex(&floats(x)?, *parts)?, Transform::new(len, inverse));
    for line in 0..numbers.len() / own {
        let (outer, within) = (line / inner, line % inner);
        let signal: Vec<Complex> = (0..own).map(|at| numbers[(outer * own + at) * inner + within]).collect();
        for frequency in 0..count {
            let to = ((outer * count + frequency) * inner + within) * 2;
            values[to..to + 2].copy_from_slice(&transform.at(frequency, &signal));
        }
    }
    Ok(vec![from_floats(x.datatype(), shape, &values)?])
}

/// `STFT`: spectra of frames of a signal.
pub(super) fn fourier_of_frames(call: &Call) -> Answer {
    let x = call.input(0)?;
    let &[batch, length, parts] = x.shape() else {
        return Err(format!("its input has shape {:?}", x.shape()));
    };
    let number = |index: usize| match call.ints(index)?.and_then(|v| v.first().copied()) {
        Some(value) => size(value).map(Some),
        None => Ok(None),
    };
    let step = number(1)?.filter(|step| *step > 0).ok_or("it has no frame_step")?;
    let window = call.maybe(2).map(floats).transpose()?;
    let frame = number(3)?.or(window.as_ref().map(Vec::len)).unwrap_or(length);
    if window.as_ref().is_some_and(|window| window.len() != frame) || frame == 0 {
        return Err(format!("its window does not have the {frame} values of a frame"));
    }
    let room = length.checked_sub(frame).ok_or_else(|| format!("a frame of {frame} of {length} values"))?;
    let count = frequencies(call.int("onesided", i64::from(parts == 1)) != 0, parts, frame)?;
    let shape = vec![batch, room / step + 1, count, 2];
    let mut values = Vec::with_capacity(call.count(&shape)?);
    Call::work(&[shape.as_slice(), &[frame]].concat())?;
    let (numbers, transform) = (complex(&floats(x)?, parts)?, Transform::new(frame, false));
    for signal in numbers.chunks_exact(length) {
        for start in (0..=room).step_by(step) {
            let mut own = signal[start..start + frame].to_vec();
            for (value, factor) in own.iter_mut().zip(window.iter().flatten()) {
                *value = value.map(|part| part * factor);
            }
            values.extend((0..count).flat_map(|frequency| transform.at(frequency, &own)));
        }
    }
    Ok(vec![from_floats(x.datatype(), shape, &values)?])
}

/// `MelWeightMatrix`: how much each frequency of a spectrum weighs in each band of the mel scale.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "frequencies; they saturate")]
pub(super) fn mel_weights(call: &Call) -> Answer {
    let need = |index: usize| call.scalar(index)?.ok_or_else(|| format!("input {index} is empty"));
    let (bands, len) = (size(need(0)? as i64)?, size(need(1)? as i64)?);
    let (rate, low, high) = (need(2)?, need(3)?, need(4)?);
    let shape = vec![len / 2 + 1, bands];
    let mut weights = vec![0.0; call.count(&shape)?];
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let step = (mel(high) - mel(low)) / (bands as f64 + 2.0);
    let edge = |index: usize| {
        let hertz = 700.0 * (10f64.powf((index as f64 * step + mel(low)) / 2595.0) - 1.0);
        ((len as f64 + 1.0) * hertz / rate).floor()
    };
    for band in 0..bands {
        let (low, centre, high) = (edge(band), edge(band + 1), edge(band + 2));
        for (bin, row) in weights.chunks_exact_mut(bands).enumerate() {
            let bin = bin as f64;
            let (rises, falls) = (low < centre && bin >= low && bin < centre, bin >= centre && bin < high);
            row[band] = if bin == centre {
                1.0
            } else if rises {
                (bin - low) / (centre - low)
            } else if falls {
                (high - bin) / (high - centre)
            } else {
                0.0
            };
        }
    }
    let datatype = i32::try_from(call.int("output_datatype", 1)).ok();
    let datatype = datatype.and_then(crate::graph::datatype_of_number).unwrap_or(Datatype::Fp32);
    Ok(vec![from_floats(datatype, shape, &weights)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::Value,
        reference::testing::{f32s, int64s, run},
    };

    #[test]
    fn an_inverse_takes_a_spectrum_back() {
        let (x, none) = (f32s(&[1, 3, 1], &[1.0, -2.0, 4.0]), int64s(&[3]));
        let spectrum = run(fourier, &[], &[&x, &none]).expect("runs");
        let back = run(fourier, &[("inverse", Value::Int(1))], &[&spectrum[0], &none]).expect("runs");
        for (got, exact) in floats(&back[0]).expect("floats").iter().zip([1.0, 0.0, -2.0, 0.0, 4.0, 0.0]) {
            assert!((got - exact).abs() < 1e-6, "{got} for {exact}");
        }
        let frames =
            run(fourier_of_frames, &[("onesided", Value::Int(0))], &[&x, &int64s(&[1])]).expect("runs");
        assert_eq!(frames[0].shape(), [1, 1, 3, 2]);
        assert_eq!(floats(&frames[0]), floats(&spectrum[0]));
    }

    #[test]
    fn lengths_beyond_the_limits_are_refused_and_take_no_memory() {
        let (x, none, huge) = (f32s(&[1, 3, 1], &[1.0; 3]), f32s(&[1, 0, 1], &[]), int64s(&[1 << 60]));
        assert!(run(fourier, &[], &[&x, &huge]).is_err());
        assert!(run(fourier, &[("axis", Value::Int(2))], &[&x, &int64s(&[3]), &int64s(&[2])]).is_err());
        assert!(run(fourier, &[], &[&none]).is_ok_and(|made| made[0].is_empty()));
        assert!(run(fourier_of_frames, &[], &[&none, &int64s(&[1])]).is_err());
        assert!(run(fourier_of_frames, &[], &[&x, &int64s(&[0])]).is_err());
        let one = f32s(&[1], &[1.0]);
        assert!(run(mel_weights, &[], &[&huge, &huge, &one, &one, &one]).is_err());
        assert!(run(mel_weights, &[], &[&int64s(&[0]), &int64s(&[8]), &one, &one, &one]).is_ok());
        assert!(
            run(mel_weights, &[], &[&int64s(&[2]), &int64s(&[8]), &f32s(&[1], &[0.0]), &one, &one]).is_ok()
        );
    }
}

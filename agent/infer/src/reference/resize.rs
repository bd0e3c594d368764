//! `Resize` in all its modes but antialiasing, one axis after the other.

use super::call::{Answer, Call, floats, from_floats, text};
use super::pooling::sizes;
use crate::{
    rules::{axis_index, ints},
    tensor::Tensor,
};

/// How one axis is resized.
struct Axis {
    from: usize,
    to: usize,
    scale: f64,
    /// The part of the input that is taken, in fractions of it.
    region: [f64; 2],
}

/// Places of an input and their weights; `None` where an element lies beyond the input.
type Taps = Option<Vec<(usize, f64)>>;

pub(super) fn resize(call: &Call) -> Answer {
    if call.node.version < 11 || call.int("antialias", 0) != 0 {
        return Err("antialiasing is not supported, and versions below 11".into());
    }
    let x = call.input(0)?;
    let axes = axes(call, x.shape())?;
    let beyond = call.float("extrapolation_value", 0.0);
    let (mut values, mut shape) = (floats(x)?, x.shape().to_vec());
    for (index, axis) in axes.iter().enumerate() {
        if axis.to == axis.from && axis.region == [0.0, 1.0] && (axis.scale - 1.0).abs() < f64::EPSILON {
            continue;
        }
        shape[index] = axis.to;
        let mut out = Vec::with_capacity(call.count(&shape)?);
        if call.count(&shape)? > 0 && axis.from > 0 {
            let taps: Vec<Taps> = (0..axis.to).map(|at| axis.taps(call, at)).collect::<Result<_, _>>()?;
            let inner: usize = shape[index + 1..].iter().product();
            for plane in values.chunks_exact(axis.from * inner) {
                for taps in &taps {
                    out.extend((0..inner).map(|within| match taps {
                        None => beyond,
                        Some(taps) => {
                            taps.iter().map(|(at, weight)| plane[at * inner + within] * weight).sum()
                        }
                    }));
                }
            }
        }
        values = out;
    }
    if !x.datatype().is_float() {
        values.iter_mut().for_each(|value| *value = value.round_ties_even());
    }
    Ok(vec![from_floats(x.datatype(), shape, &values)?])
}

/// All axes of a tensor of this shape, resized as the inputs say.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "sizes; what is too large saturates and is refused"
)]
fn axes(call: &Call, shape: &[usize]) -> Result<Vec<Axis>, String> {
    let still = |len: &usize| Axis { from: *len, to: *len, scale: 1.0, region: [0.0, 1.0] };
    let mut axes: Vec<Axis> = shape.iter().map(still).collect();
    let places: Vec<usize> = match call.node.attributes.ints("axes") {
        Some(named) => named.iter().map(|axis| axis_index(*axis, shape.len())).collect::<Result<_, _>>()?,
        None => (0..shape.len()).collect(),
    };
    let given = |index: usize| call.maybe(index).filter(|tensor| !tensor.is_empty());
    let fits = |count: usize| {
        (count == places.len())
            .then_some(())
            .ok_or_else(|| format!("{count} values for {} axes", places.len()))
    };
    if let Some(wanted) = given(3) {
        let wanted = sizes(&ints(wanted)?)?;
        fits(wanted.len())?;
        let scales = places.iter().zip(&wanted).map(|(place, to)| *to as f64 / shape[*place] as f64);
        let uniform = match call.text("keep_aspect_ratio_policy", "stretch") {
            "not_larger" => scales.clone().reduce(f64::min),
            "not_smaller" => scales.clone().reduce(f64::max),
            _ => None,
        };
        for ((place, to), scale) in places.iter().zip(&wanted).zip(scales) {
            let (from, scale) = (shape[*place] as f64, uniform.unwrap_or(scale));
            axes[*place].to = if uniform.is_some() { (scale * from + 0.5) as usize } else { *to };
            axes[*place].scale = scale;
        }
    } else {
        let scales = given(2).map(Tensor::to_f32s).ok_or("it has neither scales nor sizes")?.map_err(text)?;
        fits(scales.len())?;
        for (place, scale) in places.iter().zip(&scales) {
            if !scale.is_finite() || *scale <= 0.0 {
                return Err(format!("a scale is {scale}"));
            }
            axes[*place].to = (shape[*place] as f32 * scale).floor() as usize;
            axes[*place].scale = f64::from(*scale);
        }
    }
    if call.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize" {
        let regions = floats(given(1).ok_or("it has no roi")?)?;
        fits(regions.len() / 2)?;
        for (index, place) in places.iter().enumerate() {
            axes[*place].region = [regions[index], regions[index + places.len()]];
        }
    }
    Ok(axes)
}

impl Axis {
    /// Where an element of the output lies in the input; `None` beyond it.
    #[allow(clippy::cast_precision_loss, reason = "sizes of images")]
    fn source(&self, call: &Call, at: usize) -> Result<Option<f64>, String> {
        let (at, last) = (at as f64, (self.from - 1) as f64);
        let full = self.scale * self.from as f64;
        let half = (at + 0.5) / self.scale - 0.5;
        let [start, end] = self.region;
        Ok(Some(match call.text("coordinate_transformation_mode", "half_pixel") {
            "half_pixel" => half,
            "half_pixel_symmetric" => half + self.from as f64 / 2.0 * (1.0 - self.to as f64 / full),
            "pytorch_half_pixel" => {
                if self.to > 1 {
                    half
                } else {
                    0.0
                }
            }
            "asymmetric" => at / self.scale,
            "align_corners" if self.to == 1 => 0.0,
            "align_corners" => at * last / (full - 1.0),
            "tf_crop_and_resize" => {
                let along = if self.to > 1 {
                    start + at * (end - start) / (self.to - 1) as f64
                } else {
                    (start + end) / 2.0
                };
                return Ok(Some(along * last).filter(|source| (0.0..=last).contains(source)));
            }
            other => return Err(format!("coordinate_transformation_mode {other:?} is not known")),
        }))
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "held within the input"
    )]
    fn taps(&self, call: &Call, at: usize) -> Result<Taps, String> {
        let Some(source) = self.source(call, at)? else { return Ok(None) };
        let last = (self.from - 1) as f64;
        let (floor, ratio) = (source.floor(), source - source.floor());
        let weighed: Vec<(f64, f64)> = match call.text("mode", "nearest") {
            "nearest" => vec![(nearest(source, call.text("nearest_mode", "round_prefer_floor"))?, 1.0)],
            "linear" => vec![(floor, 1.0 - ratio), (floor + 1.0, ratio)],
            "cubic" => cubic(floor, ratio, call.float("cubic_coeff_a", -0.75)),
            other => return Err(format!("mode {other:?} is not known")),
        };
        let inside = |place: &f64| call.int("exclude_outside", 0) == 0 || (0.0..=last).contains(place);
        let weighed: Vec<_> = weighed.into_iter().filter(|(place, _)| inside(place)).collect();
        let sum: f64 = weighed.iter().map(|(_, weight)| weight).sum();
        let sum = if sum == 0.0 { 1.0 } else { sum };
        Ok(Some(weighed.iter().map(|(place, w)| (place.clamp(0.0, last) as usize, w / sum)).collect()))
    }
}

fn nearest(source: f64, mode: &str) -> Result<f64, String> {
    match mode {
        "round_prefer_floor" => Ok((source - 0.5).ceil()),
        "round_prefer_ceil" => Ok((source + 0.5).floor()),
        "floor" => Ok(source.floor()),
        "ceil" => Ok(source.ceil()),
        other => Err(format!("nearest_mode {other:?} is not known")),
    }
}

/// Weights of the four places around a point, by cubic convolution.
fn cubic(floor: f64, ratio: f64, a: f64) -> Vec<(f64, f64)> {
    let near = |d: f64| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
    let far = |d: f64| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
    let weights = [far(1.0 + ratio), near(ratio), near(1.0 - ratio), far(2.0 - ratio)];
    (-1i8..3).zip(weights).map(|(step, weight)| (floor + f64::from(step), weight)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::Value,
        reference::testing::{f32s, int64s, run},
    };

    #[test]
    fn sizes_beyond_the_limits_or_of_nothing_are_refused() {
        let (x, none) = (f32s(&[2], &[1.0, 3.0]), f32s(&[0], &[]));
        let to = |x: &Tensor, sizes: &[i64]| run(resize, &[], &[x, &none, &none, &int64s(sizes)]);
        assert_eq!(to(&x, &[4]).expect("runs")[0], f32s(&[4], &[1.0, 1.0, 3.0, 3.0]));
        assert!(to(&x, &[1 << 60]).is_err());
        assert!(to(&x, &[1, 1]).is_err());
        assert!(to(&none, &[3]).is_err());
        assert!(to(&x, &[0]).is_ok_and(|made| made[0].is_empty()));
        let outside = [("exclude_outside", Value::Int(1)), ("mode", Value::Text(b"linear".to_vec()))];
        let made = run(resize, &outside, &[&x, &none, &f32s(&[1], &[2.0])]).expect("runs");
        assert_eq!(made[0], f32s(&[4], &[1.0, 1.5, 2.5, 3.0]));
    }
}

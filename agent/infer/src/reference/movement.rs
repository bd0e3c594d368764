//! Operators that move elements of any type.

use super::call::{Answer, Call, floats, from_floats, from_integers, integers, picked, size};
use crate::{
    rules::{axis_index, each_index, strides},
    tensor::Tensor,
};

/// A tensor whose index along each axis is mapped to one of `from`, or to nothing.
fn mapped(
    call: &Call,
    from: &Tensor,
    maps: &[Vec<Option<usize>>],
    fill: Option<&Tensor>,
) -> Result<Tensor, String> {
    let shape: Vec<usize> = maps.iter().map(Vec::len).collect();
    let mut places = Vec::with_capacity(call.count(&shape)?);
    let steps = strides(from.shape());
    each_index(&shape, |index| {
        let one = |axis: usize| Some(maps[axis][index[axis]]? * steps[axis]);
        places.push((0..shape.len()).map(one).sum::<Option<usize>>());
    });
    picked(from, shape, places.into_iter(), fill)
}

/// The places of the axes that an input or attribute names; all where none does.
fn axes(named: Option<&[i64]>, rank: usize) -> Result<Vec<usize>, String> {
    let Some(named) = named else { return Ok((0..rank).collect()) };
    let axes: Vec<usize> = named.iter().map(|axis| axis_index(*axis, rank)).collect::<Result<_, _>>()?;
    Ok(axes)
}

/// `Pad`, in all its modes.
pub(super) fn pad(call: &Call) -> Answer {
    let data = call.input(0)?;
    let pads = match call.ints(1)? {
        Some(pads) => pads,
        None => call.node.attributes.ints("pads").ok_or("it does not say how much")?.to_vec(),
    };
    let axes = axes(call.ints(3)?.as_deref(), data.shape().len())?;
    if pads.len() != 2 * axes.len() {
        return Err(format!("{} pads for {} axes", pads.len(), axes.len()));
    }
    let mut shape = data.shape().to_vec();
    let mut before = vec![0; shape.len()];
    for (index, axis) in axes.iter().enumerate() {
        let old = i64::try_from(data.shape()[*axis]).map_err(|_| "a size overflows")?;
        let new = old.saturating_add(pads[index]).saturating_add(pads[index + axes.len()]);
        (shape[*axis], before[*axis]) = (size(new)?, pads[index]);
    }
    if call.count(&shape)? == 0 {
        return Ok(vec![picked(data, shape, std::iter::empty(), None)?]);
    }
    let mode = call.text("mode", "constant");
    let mut maps = Vec::with_capacity(shape.len());
    for (axis, len) in shape.iter().enumerate() {
        let places = 0..i64::try_from(*len).map_err(|_| "a size overflows")?;
        let one = |place: i64| source(place.saturating_sub(before[axis]), data.shape()[axis], mode);
        maps.push(places.map(one).collect());
    }
    Ok(vec![mapped(call, data, &maps, call.maybe(2))?])
}

/// Where the padded element at `place`, counted from the first of `size` own ones, comes from.
fn source(place: i64, size: usize, mode: &str) -> Option<usize> {
    let signed = i64::try_from(size).ok()?;
    let found = match mode {
        _ if (0..signed).contains(&place) => place,
        _ if size == 0 => return None,
        "edge" => place.clamp(0, signed - 1),
        "wrap" => place.rem_euclid(signed),
        "reflect" if size == 1 => 0,
        "reflect" => {
            let turn = place.rem_euclid(2 * (signed - 1));
            turn.min(2 * (signed - 1) - turn)
        }
        _ => return None,
    };
    usize::try_from(found).ok()
}

/// `CenterCropPad`.
pub(super) fn centre(call: &Call) -> Answer {
    let data = call.input(0)?;
    let target = call.ints(1)?.ok_or("it does not say to what")?;
    let axes = axes(call.node.attributes.ints("axes"), data.shape().len())?;
    if target.len() != axes.len() {
        return Err(format!("{} sizes for {} axes", target.len(), axes.len()));
    }
    let mut shape = data.shape().to_vec();
    for (axis, target) in axes.iter().zip(&target) {
        shape[*axis] = size(*target)?;
    }
    if call.count(&shape)? == 0 {
        return Ok(vec![picked(data, shape, std::iter::empty(), None)?]);
    }
    let map = |axis: usize| -> Vec<Option<usize>> {
        let (old, new) = (data.shape()[axis], shape[axis]);
        let (cut, added) = (old.saturating_sub(new) / 2, new.saturating_sub(old) / 2);
        (0..new).map(|i| (i + cut).checked_sub(added).filter(|i| *i < old)).collect()
    };
    let maps: Vec<_> = (0..shape.len()).map(map).collect();
    Ok(vec![mapped(call, data, &maps, None)?])
}

/// `ReverseSequence`: the first elements of each sequence in opposite order.
pub(super) fn reverse_sequence(call: &Call) -> Answer {
    let data = call.input(0)?;
    let lengths = call.ints(1)?.ok_or("there are no lengths")?;
    let rank = data.shape().len();
    let time = axis_index(call.int("time_axis", 0), rank)?;
    let batch = axis_index(call.int("batch_axis", 1), rank)?;
    if lengths.len() != data.shape()[batch] {
        return Err(format!("{} lengths for {} sequences", lengths.len(), data.shape()[batch]));
    }
    let steps = strides(data.shape());
    let mut places = Vec::with_capacity(data.len());
    each_index(data.shape(), |index| {
        let len = usize::try_from(lengths[index[batch]]).unwrap_or(0).min(data.shape()[time]);
        let at: usize = index.iter().zip(&steps).map(|(i, step)| i * step).sum();
        let reversed = if index[time] < len { len - 1 - index[time] } else { index[time] };
        places.push(Some(at - index[time] * steps[time] + reversed * steps[time]));
    });
    Ok(vec![picked(data, data.shape().to_vec(), places.into_iter(), None)?])
}

/// `TensorScatter`: an update written into a cache, for each item of the batch from another place on.
pub(super) fn tensor_scatter(call: &Call) -> Answer {
    let (cache, update) = (call.input(0)?, call.input(1)?);
    let rank = cache.shape().len();
    let axis = axis_index(call.int("axis", -2), rank)?;
    let fits = |i: usize| i == axis || update.shape()[i] == cache.shape()[i];
    if update.shape().len() != rank || axis == 0 || !(0..rank).all(fits) {
        return Err(format!("an update of shape {:?} does not fit {:?}", update.shape(), cache.shape()));
    }
    if cache.datatype() != update.datatype() {
        return Err(format!("an update is {}, its cache {}", update.datatype(), cache.datatype()));
    }
    let from = call.ints(2)?.unwrap_or_else(|| vec![0; cache.shape()[0]]);
    let (len, written) = (cache.shape()[axis], update.shape()[axis]);
    let element = cache.datatype().size_bytes().ok_or("it does not take strings")?;
    if from.len() != cache.shape()[0] || written > len {
        return Err("write indices do not fit the cache".into());
    }
    let inner: usize = cache.shape()[axis + 1..].iter().product::<usize>() * element;
    let rows: usize = cache.shape()[1..axis].iter().product();
    let circular = call.text("mode", "linear") == "circular";
    let mut bytes = cache.as_le_bytes().unwrap_or_default().to_vec();
    let new = update.as_le_bytes().unwrap_or_default();
    for (batch, from) in from.iter().enumerate() {
        let start = size(*from)?;
        if start > len || (!circular && start + written > len) {
            return Err(format!("{written} places from {start} on are not within {len}"));
        }
        for row in batch * rows..(batch + 1) * rows {
            for i in 0..written {
                let to = (row * len + (start + i) % len) * inner;
                let source = (row * written + i) * inner;
                bytes[to..to + inner].copy_from_slice(&new[source..source + inner]);
            }
        }
    }
    let made = Tensor::from_le_bytes(cache.datatype(), cache.shape().to_vec(), bytes);
    Ok(vec![made.map_err(super::call::text)?])
}

/// `OneHot`.
#[allow(clippy::cast_possible_truncation, reason = "indices are whole numbers, whatever their type")]
pub(super) fn one_hot(call: &Call) -> Answer {
    let indices = call.input(0)?;
    let depth = call.scalar(1)?.ok_or("it has no depth")? as i64;
    let values = call.input(2)?;
    let rank = indices.shape().len() + 1;
    let axis = axis_index(call.int("axis", -1), rank)?;
    let mut shape = indices.shape().to_vec();
    shape.insert(axis, size(depth)?);
    let mut places = Vec::with_capacity(call.count(&shape)?);
    let steps = strides(indices.shape());
    let hot: Vec<i64> = floats(indices)?.iter().map(|v| *v as i64).collect();
    each_index(&shape, |index| {
        let outer = index.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, i)| i);
        let at: usize = outer.zip(&steps).map(|(i, step)| i * step).sum();
        let wanted = if hot[at] < 0 { hot[at].saturating_add(depth) } else { hot[at] };
        places.push(Some(usize::from(usize::try_from(wanted) == Ok(index[axis]))));
    });
    Ok(vec![picked(values, shape, places.into_iter(), None)?])
}

/// `Range`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the count is not negative and within the limits"
)]
pub(super) fn range(call: &Call) -> Answer {
    let first = call.input(0)?;
    let end = |index: usize| call.scalar(index).and_then(|v| v.ok_or_else(|| "an end is empty".into()));
    let (start, limit, step): (f64, f64, f64) = (end(0)?, end(1)?, end(2)?);
    if step == 0.0 {
        return Err("a step is 0".into());
    }
    let count = call.count(&[((limit - start) / step).ceil().max(0.0) as usize])?;
    if first.datatype().is_float() {
        let values: Vec<f64> = (0..count).map(|i| start + i as f64 * step).collect();
        return Ok(vec![from_floats(first.datatype(), vec![count], &values)?]);
    }
    let whole = |index: usize| Ok::<i64, String>(integers(call.input(index)?)?.first().copied().unwrap_or(0));
    let (start, step) = (whole(0)?, whole(2)?);
    let values: Vec<i64> = (0..count).map(|i| start.wrapping_add(step.wrapping_mul(i as i64))).collect();
    Ok(vec![from_integers(first.datatype(), vec![count], &values)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::testing::{int64s as ints, run};

    #[test]
    fn sizes_beyond_the_limits_are_refused_and_take_no_memory() {
        let scalar = |value: i64| Tensor::from_values(vec![], &[value]).expect("valid");
        let (row, none) = (ints(&[1, 2]), Tensor::from_values::<i64>(vec![0, 2], &[]).expect("valid"));
        let huge = 1i64 << 60;
        assert!(run(pad, &[], &[&row, &ints(&[huge, i64::MAX])]).is_err());
        assert!(run(centre, &[], &[&row, &ints(&[huge])]).is_err());
        assert!(run(one_hot, &[], &[&row, &scalar(huge), &ints(&[0, 1])]).is_err());
        assert!(run(range, &[], &[&scalar(0), &scalar(huge), &scalar(1)]).is_err());
        assert!(run(range, &[], &[&scalar(0), &scalar(1), &scalar(0)]).is_err());
        assert!(run(pad, &[], &[&none, &ints(&[0, huge, 0, 0])]).is_ok_and(|made| made[0].is_empty()));
        assert!(run(centre, &[], &[&none, &ints(&[0, huge])]).is_ok_and(|made| made[0].is_empty()));
    }
}

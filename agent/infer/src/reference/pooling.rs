//! Operators of windows over an image: pooling by norms, and ways back from windows to images.

use super::call::{Answer, Call, floats, from_floats, picked, size};
use crate::rules::{Window, each_index, strides, window};

/// `LpPool`: the norm of each window.
#[allow(clippy::cast_precision_loss, reason = "a small whole number")]
pub(super) fn lp_pool(call: &Call) -> Answer {
    let x = call.input(0)?;
    let [batch, channels, spatial @ ..] = x.shape() else { return Err("its input has no channels".into()) };
    let kernel = sizes(call.node.attributes.ints("kernel_shape").ok_or("it has no kernel_shape")?)?;
    let window = window(call.node, &kernel, spatial)?;
    let shape = [&[*batch, *channels], window.out.as_slice()].concat();
    let mut norms = Vec::with_capacity(call.count(&shape)?);
    Call::work(&[shape.as_slice(), &kernel].concat())?;
    let p = call.int("p", 2);
    if p < 1 {
        return Err(format!("its p is {p}"));
    }
    let (p, values) = (p as f64, floats(x)?);
    let plane = values.len().checked_div(batch * channels).unwrap_or(0);
    for start in (0..batch * channels).map(|at| at * plane) {
        each_index(&window.out, |at| {
            let mut sum = 0.0;
            each_index(&kernel, |tap| {
                sum += covered(&window, spatial, at, tap).map_or(0.0, |at| values[start + at].abs().powf(p));
            });
            norms.push(sum.powf(1.0 / p));
        });
    }
    Ok(vec![from_floats(x.datatype(), shape, &norms)?])
}

/// The place in a plane that an element of a window covers; `None` in the padding.
pub(super) fn covered(window: &Window, spatial: &[usize], at: &[usize], tap: &[usize]) -> Option<usize> {
    let mut place = 0;
    for (axis, len) in spatial.iter().enumerate() {
        let padded = at[axis] * window.strides[axis] + tap[axis] * window.dilations[axis];
        let own = padded.checked_sub(window.pads[axis].0).filter(|own| own < len)?;
        place = place * len + own;
    }
    Some(place)
}

/// `Col2Im`: images of which windows are columns; where windows overlap, their elements are added.
pub(super) fn columns_to_image(call: &Call) -> Answer {
    let data = call.input(0)?;
    let &[batch, rows, columns] = data.shape() else {
        return Err(format!("its input has shape {:?}", data.shape()));
    };
    let [image, block] = [1, 2].map(|index| call.ints(index)?.ok_or(format!("input {index} is missing")));
    let (image, block) = (sizes(&image?)?, sizes(&block?)?);
    let window = window(call.node, &block, &image)?;
    let (taps, windows) = (call.count(&block)?, call.count(&window.out)?);
    if rows.checked_rem(taps) != Some(0) || columns != windows {
        return Err(format!("{rows} by {columns} elements for {windows} windows of {taps}"));
    }
    let shape = [&[batch, rows / taps], image.as_slice()].concat();
    let mut values = vec![0.0; call.count(&shape)?];
    let plane = call.count(&image)?;
    let data_values = floats(data)?;
    for (image_index, own) in data_values.chunks_exact((taps * windows).max(1)).enumerate() {
        let mut own = own.iter();
        each_index(&block, |tap| {
            each_index(&window.out, |at| {
                if let (Some(value), Some(place)) = (own.next(), covered(&window, &image, at, tap)) {
                    values[image_index * plane + place] += value;
                }
            });
        });
    }
    Ok(vec![from_floats(data.datatype(), shape, &values)?])
}

/// `MaxUnpool`: elements put back where the pooling that chose them found them, zeros elsewhere.
pub(super) fn max_unpool(call: &Call) -> Answer {
    let x = call.input(0)?;
    let indices = call.ints(1)?.ok_or("it has no indices")?;
    let [batch, channels, spatial @ ..] = x.shape() else { return Err("its input has no channels".into()) };
    let attribute = |name: &str| call.node.attributes.ints(name);
    let kernel = attribute("kernel_shape").ok_or("it has no kernel_shape")?;
    let rank = kernel.len();
    let steps = attribute("strides").map_or_else(|| vec![1; rank], <[i64]>::to_vec);
    let pads = attribute("pads").map_or_else(|| vec![0; 2 * rank], <[i64]>::to_vec);
    if rank != spatial.len() || steps.len() != rank || pads.len() != 2 * rank || indices.len() != x.len() {
        return Err(format!("its attributes or indices do not fit an input of shape {:?}", x.shape()));
    }
    let mut pooled = vec![*batch, *channels];
    for (axis, len) in spatial.iter().enumerate() {
        let windows = i64::try_from(*len).unwrap_or(i64::MAX).saturating_sub(1);
        let padded = windows.saturating_mul(steps[axis]).saturating_add(kernel[axis]);
        pooled.push(size(padded.saturating_sub(pads[axis].saturating_add(pads[axis + rank])))?);
    }
    let shape = call.ints(2)?.map_or_else(|| Ok(pooled.clone()), |shape| sizes(&shape))?;
    if shape.len() != pooled.len() || shape.iter().zip(&pooled).any(|(out, own)| out < own) {
        return Err(format!("an output of shape {shape:?} for what was pooled from shape {pooled:?}"));
    }
    let mut places = vec![None; call.count(&shape)?];
    if places.is_empty() {
        return Ok(vec![picked(x, shape, std::iter::empty(), None)?]);
    }
    let (own_steps, steps) = (strides(&pooled), strides(&shape));
    for (from, index) in indices.iter().enumerate() {
        let mut rest = size(*index)?;
        let mut to = 0usize;
        for (own, step) in own_steps.iter().zip(&steps) {
            to = to.saturating_add(rest.checked_div(*own).unwrap_or(0).saturating_mul(*step));
            rest = rest.checked_rem(*own).unwrap_or(0);
        }
        *places.get_mut(to).ok_or("an index is out of range")? = Some(from);
    }
    Ok(vec![picked(x, shape, places.into_iter(), None)?])
}

pub(super) fn sizes(values: &[i64]) -> Result<Vec<usize>, String> {
    values.iter().map(|value| size(*value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::Value,
        reference::testing::{f32s, int64s, run},
    };

    #[test]
    fn sizes_beyond_the_limits_are_refused_and_take_no_memory() {
        let huge = 1i64 << 60;
        let ints = |name: &'static str, values: &[i64]| (name, Value::Ints(values.to_vec()));
        let (x, none) = (f32s(&[1, 1, 2], &[1.0, 2.0]), f32s(&[0, 1, 1 << 40, 1 << 40], &[]));
        let padded = [ints("kernel_shape", &[1]), ints("pads", &[huge, huge])];
        assert!(run(lp_pool, &padded, &[&x]).is_err());
        let one = [ints("kernel_shape", &[1, 1])];
        assert!(run(lp_pool, &one, &[&none]).is_ok_and(|made| made[0].is_empty()));
        assert!(run(lp_pool, &[], &[&x]).is_err());
        let far = [ints("kernel_shape", &[1]), ints("strides", &[huge])];
        assert!(run(max_unpool, &far, &[&x, &int64s(&[0, 1])]).is_err());
        let near = [ints("kernel_shape", &[1])];
        assert!(run(max_unpool, &near, &[&x, &int64s(&[0, 7])]).is_err());
        assert!(run(max_unpool, &near, &[&x, &int64s(&[0, -1])]).is_err());
        assert!(run(columns_to_image, &[], &[&x, &int64s(&[huge]), &int64s(&[1])]).is_err());
        assert!(run(columns_to_image, &[], &[&x, &int64s(&[2]), &int64s(&[0])]).is_err());
    }
}

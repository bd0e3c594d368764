//! Sums along an axis, normalisation, determinants, products, and reductions that others cannot do.

use super::call::{Answer, Call, floats, from_floats, from_integers, integers};
use crate::{
    datatype::Datatype,
    rules::{axis_index, broadcast, each_index, strides},
};

/// `CumSum`.
#[allow(clippy::cast_possible_truncation, reason = "an axis is a whole number")]
pub(super) fn cumulative_sum(call: &Call) -> Answer {
    let data = call.input(0)?;
    let axis = call.scalar(1)?.ok_or("it has no axis")? as i64;
    let axis = axis_index(axis, data.shape().len())?;
    let len = data.shape()[axis];
    let inner: usize = data.shape()[axis + 1..].iter().product();
    let (exclusive, reverse) = (call.int("exclusive", 0) != 0, call.int("reverse", 0) != 0);
    let places = |line: usize| {
        let start = line / inner * len * inner + line % inner;
        (0..len).map(move |i| start + (if reverse { len - 1 - i } else { i }) * inner)
    };
    let lines = data.len().checked_div(len).unwrap_or(0);
    let shape = data.shape().to_vec();
    if data.datatype().is_float() {
        let mut values = floats(data)?;
        for line in 0..lines {
            let mut sum = 0.0;
            for at in places(line) {
                let before = sum;
                sum += values[at];
                values[at] = if exclusive { before } else { sum };
            }
        }
        return Ok(vec![from_floats(data.datatype(), shape, &values)?]);
    }
    let mut values = integers(data)?;
    for line in 0..lines {
        let mut sum = 0i64;
        for at in places(line) {
            let before = sum;
            sum = sum.wrapping_add(values[at]);
            values[at] = if exclusive { before } else { sum };
        }
    }
    Ok(vec![from_integers(data.datatype(), shape, &values)?])
}

/// `BatchNormalization`, in training too.
#[allow(clippy::cast_precision_loss, reason = "counts of elements")]
pub(super) fn batch_normalisation(call: &Call) -> Answer {
    let data = call.input(0)?;
    let (Some(&batch), &channels) = (data.shape().first(), data.shape().get(1).unwrap_or(&1)) else {
        return Err("its input has no axes".into());
    };
    let inner: usize = data.shape().iter().skip(2).product();
    let [scale, shift, mut mean, mut variance] = [1, 2, 3, 4].map(|index| call.floats(index));
    for list in [&scale, &shift, &mean, &variance] {
        if list.as_ref().is_ok_and(|list| list.len() != channels) {
            return Err(format!("a parameter does not have {channels} values"));
        }
    }
    let mut values = call.floats(0)?;
    let places = |channel: usize| {
        (0..batch).flat_map(move |b| {
            let start = (b * channels + channel) * inner;
            start..start + inner
        })
    };
    let mut running = Vec::new();
    if call.int("training_mode", 0) != 0 {
        let count = (batch * inner) as f64;
        let own_mean: Vec<f64> =
            (0..channels).map(|c| places(c).map(|at| values[at]).sum::<f64>() / count).collect();
        let square = |c: usize| places(c).map(|at| (values[at] - own_mean[c]).powi(2)).sum::<f64>() / count;
        let own_variance: Vec<f64> = (0..channels).map(square).collect();
        let momentum = call.float("momentum", 0.9);
        for (index, (old, new)) in [(3, (&mean, &own_mean)), (4, (&variance, &own_variance))] {
            let old = old.as_ref().map_err(Clone::clone)?;
            let mixed = old.iter().zip(new).map(|(old, new)| old * momentum + new * (1.0 - momentum));
            let mixed: Vec<f64> = mixed.collect();
            running.push(from_floats(call.input(index)?.datatype(), vec![channels], &mixed)?);
        }
        (mean, variance) = (Ok(own_mean), Ok(own_variance));
    }
    let (scale, shift, mean, variance) = (scale?, shift?, mean?, variance?);
    let epsilon = call.float("epsilon", 1e-5);
    for channel in 0..channels {
        let factor = scale[channel] / (variance[channel] + epsilon).sqrt();
        for at in places(channel) {
            values[at] = (values[at] - mean[channel]) * factor + shift[channel];
        }
    }
    let mut answers = vec![from_floats(data.datatype(), data.shape().to_vec(), &values)?];
    answers.extend(running);
    Ok(answers)
}

/// `Det`: determinants of the matrices in the last two axes.
pub(super) fn determinant(call: &Call) -> Answer {
    let data = call.input(0)?;
    let [stack @ .., rows, columns] = data.shape() else { return Err("its input is no matrix".into()) };
    let n = *rows;
    if rows != columns {
        return Err(format!("a matrix of {rows} by {columns} has no determinant"));
    }
    let count = stack.iter().product::<usize>();
    Call::work(&[count, n, n, n])?;
    let mut values = floats(data)?;
    let mut found = Vec::with_capacity(count);
    for matrix in 0..count {
        let m = &mut values[matrix * n * n..(matrix + 1) * n * n];
        let mut product = 1.0;
        for step in 0..n {
            let pivot = (step..n).max_by(|a, b| m[a * n + step].abs().total_cmp(&m[b * n + step].abs()));
            let pivot = pivot.unwrap_or(step);
            if pivot != step {
                (0..n).for_each(|c| m.swap(pivot * n + c, step * n + c));
                product = -product;
            }
            product *= m[step * n + step];
            for row in step + 1..n {
                let factor = m[row * n + step] / m[step * n + step];
                if factor.is_finite() {
                    (step..n).for_each(|c| m[row * n + c] -= factor * m[step * n + c]);
                }
            }
        }
        found.push(product);
    }
    Ok(vec![from_floats(data.datatype(), stack.to_vec(), &found)?])
}

/// A product as NumPy's `matmul` has it: its shape and sums.
pub(super) fn product(
    call: &Call,
    (a, a_shape): (&[f64], &[usize]),
    (b, b_shape): (&[f64], &[usize]),
) -> Result<(Vec<usize>, Vec<f64>), String> {
    let a_full = if a_shape.len() == 1 { vec![1, a_shape[0]] } else { a_shape.to_vec() };
    let b_full = if b_shape.len() == 1 { vec![b_shape[0], 1] } else { b_shape.to_vec() };
    let ([a_stack @ .., m, k], [b_stack @ .., rows, n]) = (a_full.as_slice(), b_full.as_slice()) else {
        return Err("a factor has no dimension".into());
    };
    if k != rows {
        return Err(format!("shapes {a_shape:?} and {b_shape:?} do not multiply"));
    }
    let stack = broadcast([a_stack, b_stack])?;
    let full = [stack.as_slice(), &[*m, *n]].concat();
    call.count(&full)?;
    Call::work(&[full.iter().product(), *k])?;
    let over = |own: &[usize], item: usize| -> Vec<usize> {
        let (mut steps, offset) = (vec![0; stack.len()], stack.len() - own.len());
        for (axis, step) in strides(own).iter().enumerate() {
            steps[axis + offset] = if own[axis] == 1 { 0 } else { step * item };
        }
        steps
    };
    let (a_steps, b_steps) = (over(a_stack, m * k), over(b_stack, k * n));
    let mut sums = Vec::new();
    each_index(&stack, |index| {
        let at = |steps: &[usize]| index.iter().zip(steps).map(|(i, step)| i * step).sum::<usize>();
        let (a, b) = (&a[at(&a_steps)..], &b[at(&b_steps)..]);
        for row in 0..*m {
            for column in 0..*n {
                sums.push((0..*k).map(|i| a[row * k + i] * b[i * n + column]).sum());
            }
        }
    });
    let mut shape = stack;
    shape.extend((a_shape.len() > 1).then_some(*m));
    shape.extend((b_shape.len() > 1).then_some(*n));
    Ok((shape, sums))
}

/// `MatMul`.
pub(super) fn matrix_product(call: &Call) -> Answer {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let (shape, sums) = product(call, (&floats(a)?, a.shape()), (&floats(b)?, b.shape()))?;
    Ok(vec![from_floats(a.datatype(), shape, &sums)?])
}

/// `ReduceMax` and `ReduceMin` of numbers and truth values, of nothing too.
pub(super) fn extreme(call: &Call) -> Answer {
    let data = call.input(0)?;
    let rank = data.shape().len();
    let named = match call.ints(1)? {
        Some(axes) => axes,
        None => call.node.attributes.ints("axes").unwrap_or_default().to_vec(),
    };
    let mut axes: Vec<usize> = named.iter().map(|axis| axis_index(*axis, rank)).collect::<Result<_, _>>()?;
    if named.is_empty() && call.int("noop_with_empty_axes", 0) == 0 {
        axes = (0..rank).collect();
    }
    let kept: Vec<usize> =
        data.shape().iter().enumerate().map(|(i, size)| if axes.contains(&i) { 1 } else { *size }).collect();
    let largest = call.node.op == "ReduceMax";
    let least = if largest { f64::NEG_INFINITY } else { f64::INFINITY };
    let mut found = vec![least; call.count(&kept)?];
    let (values, steps, mut at) = (floats(data)?, strides(&kept), 0);
    each_index(data.shape(), |index| {
        let places = index.iter().enumerate().filter(|(i, _)| !axes.contains(i));
        let to = &mut found[places.map(|(i, place)| place * steps[i]).sum::<usize>()];
        *to = if largest { to.max(values[at]) } else { to.min(values[at]) };
        at += 1;
    });
    if data.datatype() == Datatype::Bool {
        // The least truth value is false, not what differs from 0.
        found.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
    }
    let mut shape = kept;
    if call.int("keepdims", 1) == 0 {
        shape = (0..rank).filter(|i| !axes.contains(i)).map(|i| shape[i]).collect();
    }
    Ok(vec![from_floats(data.datatype(), shape, &found)?])
}

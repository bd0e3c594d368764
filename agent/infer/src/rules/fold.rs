//! Evaluation of constants: what shapes are computed with, and other small tensors. The rest is asked of tract.

use super::{
    View, Views, axis_index, broadcast, infer, ints, maybe,
    movement::{permutation, shape_range, slice_ranges},
    need,
};
use crate::{
    datatype::{Datatype, Element},
    graph::Node,
    limits::ImportLimits,
    rules::Rule,
    tensor::{Tensor, element_count},
};
use std::sync::Arc;

/// A node's outputs, where they do not depend on a run and this module knows the operator.
///
/// # Errors
/// Shapes contradict each other, or the result is beyond the limits.
pub(crate) fn evaluate(
    node: &Node,
    inputs: &Views,
    limits: &ImportLimits,
) -> Result<Option<Vec<Arc<Tensor>>>, String> {
    let one = |tensor: Result<Tensor, String>| tensor.map(|tensor| Some(vec![Arc::new(tensor)]));
    match node.op.as_str() {
        "Shape" => {
            let shape = &need(inputs, 0)?.shape;
            let (start, end) = shape_range(node, shape.len());
            let part = shape.get(start..end.max(start)).unwrap_or_default();
            one(from_sizes(part))
        }
        "Size" => {
            let count = element_count(&need(inputs, 0)?.shape).and_then(|n| i64::try_from(n).ok());
            one(Tensor::from_values(vec![], &[count.ok_or("its size overflows")?]).map_err(text))
        }
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
            let Rule::Typed(types) = infer(node, inputs)? else { return Ok(None) };
            let Some((_, shape)) = types.into_iter().next() else { return Ok(None) };
            let tensor = known(inputs, 0)?.as_ref().clone();
            one(tensor.reshaped(shape).map_err(text))
        }
        "Gather" => gather(node, inputs, limits).map(wrapped),
        "Concat" => concat(node, inputs, limits).map(wrapped),
        "Slice" if node.version >= 10 => slice(inputs).map(wrapped),
        "Transpose" => transpose(node, inputs).map(wrapped),
        "Cast" => cast(node, inputs),
        "Add" | "Sub" | "Mul" | "Div" => arithmetic(node, inputs, limits),
        "ConstantOfShape" => constant_of_shape(node, inputs, limits).map(wrapped),
        _ => Ok(None),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn wrapped(tensor: Option<Tensor>) -> Option<Vec<Arc<Tensor>>> {
    tensor.map(|tensor| vec![Arc::new(tensor)])
}

fn known(inputs: &Views, index: usize) -> Result<&Arc<Tensor>, String> {
    need(inputs, index)?.constant.as_ref().ok_or_else(|| format!("input {index} is not constant"))
}

fn from_sizes(sizes: &[usize]) -> Result<Tensor, String> {
    let values: Vec<i64> = sizes.iter().map(|s| i64::try_from(*s).unwrap_or(i64::MAX)).collect();
    Tensor::from_values(vec![values.len()], &values).map_err(text)
}

/// Bytes and their size per element, where elements have one.
fn fixed(tensor: &Tensor) -> Option<(&[u8], usize)> {
    Some((tensor.as_le_bytes()?, tensor.datatype().size_bytes()?))
}

fn allowed(shape: &[usize], limits: &ImportLimits) -> Result<usize, String> {
    let fits = |n: &usize| *n <= limits.tensor_elements_max && *n as u64 <= limits.memory_bytes_max;
    element_count(shape).filter(fits).ok_or_else(|| {
        format!("a constant of shape {shape:?}, at most {} elements are accepted", limits.tensor_elements_max)
    })
}

fn gather(node: &Node, inputs: &Views, limits: &ImportLimits) -> Result<Option<Tensor>, String> {
    let (data, indices) = (known(inputs, 0)?, ints(known(inputs, 1)?)?);
    let Some((bytes, size)) = fixed(data) else { return Ok(None) };
    let axis = axis_index(node.attributes.int("axis").unwrap_or(0), data.shape().len())?;
    let shape = [&data.shape()[..axis], known(inputs, 1)?.shape(), &data.shape()[axis + 1..]].concat();
    let mut out = Vec::with_capacity(allowed(&shape, limits)? * size);
    let inner = data.shape()[axis + 1..].iter().product::<usize>() * size;
    let outer: usize = data.shape()[..axis].iter().product();
    for block in 0..outer {
        for index in &indices {
            let at = (block * data.shape()[axis] + axis_index(*index, data.shape()[axis])?) * inner;
            out.extend_from_slice(&bytes[at..at + inner]);
        }
    }
    Tensor::from_le_bytes(data.datatype(), shape, out).map(Some).map_err(text)
}

fn concat(node: &Node, inputs: &Views, limits: &ImportLimits) -> Result<Option<Tensor>, String> {
    let Rule::Typed(types) = infer(node, inputs)? else { return Ok(None) };
    let Some((datatype, shape)) = types.into_iter().next() else { return Ok(None) };
    let Some(size) = datatype.size_bytes() else { return Ok(None) };
    let axis = axis_index(node.attributes.int("axis").unwrap_or(1), shape.len())?;
    let mut out = Vec::with_capacity(allowed(&shape, limits)? * size);
    let outer: usize = shape[..axis].iter().product();
    for block in 0..outer {
        for view in inputs.iter().flatten() {
            let Some((bytes, _)) = view.constant.as_deref().and_then(fixed) else { return Ok(None) };
            let len = view.shape[axis..].iter().product::<usize>() * size;
            let part = bytes.get(block * len..(block + 1) * len).ok_or("parts differ in type")?;
            out.extend_from_slice(part);
        }
    }
    Tensor::from_le_bytes(datatype, shape, out).map(Some).map_err(text)
}

fn slice(inputs: &Views) -> Result<Option<Tensor>, String> {
    let data = known(inputs, 0)?;
    let Some((bytes, size)) = fixed(data) else { return Ok(None) };
    let list = |index: usize| maybe(inputs, index).map(|_| ints(known(inputs, index)?)).transpose();
    let (starts, ends) = (list(1)?.ok_or("no starts")?, list(2)?.ok_or("no ends")?);
    let ranges = slice_ranges(data.shape(), &starts, &ends, list(3)?.as_deref(), list(4)?.as_deref())?;
    let shape: Vec<usize> = ranges.iter().map(|(_, count, _)| *count).collect();
    let strides = strides(data.shape());
    let mut out = Vec::new();
    each_index(&shape, |index| {
        let at = index.iter().zip(&ranges).zip(&strides).map(|((i, (start, _, step)), stride)| {
            let at = start + i64::try_from(*i).unwrap_or(0) * step;
            usize::try_from(at).unwrap_or(0) * stride
        });
        let at = at.sum::<usize>() * size;
        out.extend_from_slice(bytes.get(at..at + size).unwrap_or_default());
    });
    Tensor::from_le_bytes(data.datatype(), shape, out).map(Some).map_err(text)
}

fn transpose(node: &Node, inputs: &Views) -> Result<Option<Tensor>, String> {
    let data = known(inputs, 0)?;
    let order = permutation(node, data.shape().len())?;
    Ok(transposed(data, &order))
}

/// A tensor with its axes in another order; `None` for strings.
pub(crate) fn transposed(data: &Tensor, order: &[usize]) -> Option<Tensor> {
    let (bytes, size) = fixed(data)?;
    let shape: Vec<usize> = order.iter().map(|axis| data.shape()[*axis]).collect();
    let all = strides(data.shape());
    let strides: Vec<usize> = order.iter().map(|axis| all[*axis]).collect();
    let mut out = Vec::with_capacity(bytes.len());
    each_index(&shape, |index| {
        let at = index.iter().zip(&strides).map(|(i, stride)| i * stride).sum::<usize>() * size;
        out.extend_from_slice(&bytes[at..at + size]);
    });
    Tensor::from_le_bytes(data.datatype(), shape, out).ok()
}

/// Elements between neighbours along each axis of a row-major tensor.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        out[axis - 1] = out[axis] * shape[axis];
    }
    out
}

/// Calls `then` for every index of a shape, the last axis fastest.
pub(crate) fn each_index(shape: &[usize], mut then: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        then(&index);
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

fn cast(node: &Node, inputs: &Views) -> Result<Option<Vec<Arc<Tensor>>>, String> {
    let from = known(inputs, 0)?;
    let to = node.attributes.int("to").and_then(|to| i32::try_from(to).ok());
    let to = to.and_then(crate::graph::datatype_of_number);
    let shape = from.shape().to_vec();
    let made = match (from.datatype(), to) {
        (a, Some(b)) if a == b => return Ok(Some(vec![Arc::clone(from)])),
        (Datatype::Int64 | Datatype::Int32, Some(Datatype::Int64)) => {
            Tensor::from_values(shape, &ints(from)?)
        }
        #[allow(clippy::cast_possible_truncation, reason = "a cast wraps")]
        (Datatype::Int64, Some(Datatype::Int32)) => {
            Tensor::from_values(shape, &ints(from)?.iter().map(|v| *v as i32).collect::<Vec<_>>())
        }
        (Datatype::Int64 | Datatype::Int32, Some(Datatype::Fp32)) => {
            Tensor::from_values(shape, &from.to_f32s().map_err(text)?)
        }
        #[allow(clippy::cast_possible_truncation, reason = "a cast truncates")]
        (Datatype::Fp32, Some(Datatype::Int64)) => {
            let values: Vec<i64> = from.to_f32s().map_err(text)?.iter().map(|v| *v as i64).collect();
            Tensor::from_values(shape, &values)
        }
        _ => return Ok(None),
    };
    Ok(Some(vec![Arc::new(made.map_err(text)?)]))
}

fn arithmetic(
    node: &Node,
    inputs: &Views,
    limits: &ImportLimits,
) -> Result<Option<Vec<Arc<Tensor>>>, String> {
    if node.version < 7 {
        return Ok(None);
    }
    let (a, b) = (need(inputs, 0)?, need(inputs, 1)?);
    let op = node.op.as_str();
    let made = match (a.datatype, b.datatype) {
        (Datatype::Int64, Datatype::Int64) => pairwise::<i64>(a, b, limits, |x, y| match op {
            "Add" => Some(x.wrapping_add(y)),
            "Sub" => Some(x.wrapping_sub(y)),
            "Mul" => Some(x.wrapping_mul(y)),
            _ => x.checked_div(y),
        })?,
        (Datatype::Fp32, Datatype::Fp32) => pairwise::<f32>(a, b, limits, |x, y| {
            Some(match op {
                "Add" => x + y,
                "Sub" => x - y,
                "Mul" => x * y,
                _ => x / y,
            })
        })?,
        _ => return Ok(None),
    };
    Ok(Some(vec![Arc::new(made)]))
}

fn pairwise<T: Element>(
    a: &View,
    b: &View,
    limits: &ImportLimits,
    op: impl Fn(T, T) -> Option<T>,
) -> Result<Tensor, String> {
    let shape = broadcast([a.shape.as_slice(), b.shape.as_slice()])?;
    allowed(&shape, limits)?;
    let values = |view: &View| -> Result<(Vec<T>, Vec<usize>), String> {
        let tensor = view.constant.as_ref().ok_or("an input is not constant")?;
        let own = strides(&view.shape);
        let offset = shape.len() - view.shape.len();
        let stride = |axis: usize| {
            let own_axis = axis.checked_sub(offset)?;
            (view.shape[own_axis] > 1).then(|| own[own_axis])
        };
        let strides = (0..shape.len()).map(|axis| stride(axis).unwrap_or(0)).collect();
        Ok((tensor.values::<T>().map_err(text)?.collect(), strides))
    };
    let ((a, a_strides), (b, b_strides)) = (values(a)?, values(b)?);
    let mut out = Vec::new();
    let mut failed = false;
    each_index(&shape, |index| {
        let at = |strides: &[usize]| index.iter().zip(strides).map(|(i, s)| i * s).sum::<usize>();
        match op(a[at(&a_strides)], b[at(&b_strides)]) {
            Some(value) => out.push(value),
            None => failed = true,
        }
    });
    if failed {
        return Err("a constant is divided by 0".into());
    }
    Tensor::from_values(shape, &out).map_err(text)
}

fn constant_of_shape(node: &Node, inputs: &Views, limits: &ImportLimits) -> Result<Option<Tensor>, String> {
    let target = ints(known(inputs, 0)?)?;
    let shape = reshaped_sizes(&target)?;
    let count = allowed(&shape, limits)?;
    let (datatype, element) = match node.attributes.tensor("value") {
        Some(value) => (value.datatype(), value.as_le_bytes().map(<[u8]>::to_vec)),
        None => (Datatype::Fp32, Some(0f32.to_le_bytes().to_vec())),
    };
    let Some(element) = element else { return Ok(None) };
    Tensor::from_le_bytes(datatype, shape, element.repeat(count)).map(Some).map_err(text)
}

fn reshaped_sizes(target: &[i64]) -> Result<Vec<usize>, String> {
    target.iter().map(|v| usize::try_from(*v).map_err(|_| format!("a size is {v}"))).collect()
}

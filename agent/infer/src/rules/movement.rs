//! Operators that move elements.

use super::{Rule, Views, broadcast, maybe, need};
use crate::{datatype::Datatype, graph::Node, tensor::Tensor};

pub(super) fn infer(node: &Node, inputs: &Views) -> Result<Rule, String> {
    match node.op.as_str() {
        "Shape" => {
            let rank = need(inputs, 0)?.shape.len();
            let (start, end) = shape_range(node, rank);
            Ok(Rule::one(Datatype::Int64, vec![end.saturating_sub(start)]))
        }
        "Size" => Ok(Rule::one(Datatype::Int64, vec![])),
        "Reshape" => with_ints(inputs, 1, |target| reshape(node, inputs, target)),
        "Flatten" => flatten(node, inputs),
        "Transpose" => transpose(node, inputs),
        "Concat" => concat(node, inputs),
        "com.microsoft.QLinearConcat" => qlinear_concat(node, inputs),
        "Squeeze" => squeeze(node, inputs),
        "Unsqueeze" => unsqueeze(node, inputs),
        "Slice" if node.version >= 10 => slice(inputs),
        "Gather" => gather(node, inputs),
        "GatherElements" => Ok(Rule::one(need(inputs, 0)?.datatype, need(inputs, 1)?.shape.clone())),
        "Expand" => with_ints(inputs, 1, |target| {
            let target = sizes(&target)?;
            let shape = broadcast([need(inputs, 0)?.shape.as_slice(), target.as_slice()])?;
            Ok(Rule::one(need(inputs, 0)?.datatype, shape))
        }),
        "Tile" if node.version >= 6 => with_ints(inputs, 1, |repeats| {
            let repeats = sizes(&repeats)?;
            let shape = &need(inputs, 0)?.shape;
            if repeats.len() != shape.len() {
                return Err(format!("{} repeats for {} dimensions", repeats.len(), shape.len()));
            }
            let shape = shape.iter().zip(&repeats).map(|(a, b)| a.checked_mul(*b).ok_or("a size overflows"));
            Ok(Rule::one(need(inputs, 0)?.datatype, shape.collect::<Result<_, _>>()?))
        }),
        "Split" => split(node, inputs),
        "Pad" if node.version >= 11 => pad(inputs),
        "ConstantOfShape" => with_ints(inputs, 0, |target| {
            let datatype = node.attributes.tensor("value").map_or(Datatype::Fp32, |t| t.datatype());
            Ok(Rule::one(datatype, sizes(&target)?))
        }),
        "Range" => range(inputs),
        "Identity" | "Dropout" if node.outputs.len() == 1 => {
            Ok(Rule::one(need(inputs, 0)?.datatype, need(inputs, 0)?.shape.clone()))
        }
        "DepthToSpace" | "SpaceToDepth" => depth_space(node, inputs),
        _ => Ok(Rule::Unknown),
    }
}

/// The elements of an integer tensor.
///
/// # Errors
/// It is of another type.
pub(crate) fn ints(tensor: &Tensor) -> Result<Vec<i64>, String> {
    match tensor.datatype() {
        Datatype::Int64 => tensor.values::<i64>().map(Iterator::collect),
        Datatype::Int32 => tensor.values::<i32>().map(|values| values.map(i64::from).collect()),
        _ => return Err(format!("a tensor of integers is {}", tensor.datatype())),
    }
    .map_err(|e| e.to_string())
}

/// An axis counted from the front.
///
/// # Errors
/// The tensor has no such axis.
pub(crate) fn axis_index(axis: i64, rank: usize) -> Result<usize, String> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let from_front = if axis < 0 { axis.saturating_add(signed) } else { axis };
    usize::try_from(from_front)
        .ok()
        .filter(|axis| *axis < rank)
        .ok_or_else(|| format!("there is no axis {axis} among {rank}"))
}

fn with_ints(
    inputs: &Views,
    index: usize,
    then: impl FnOnce(Vec<i64>) -> Result<Rule, String>,
) -> Result<Rule, String> {
    match &need(inputs, index)?.constant {
        Some(tensor) => then(ints(tensor)?),
        None => Ok(Rule::Needs(index)),
    }
}

fn sizes(values: &[i64]) -> Result<Vec<usize>, String> {
    values.iter().map(|v| usize::try_from(*v).map_err(|_| format!("a size is {v}"))).collect()
}

/// The part of a shape that `Shape` asks for.
pub(super) fn shape_range(node: &Node, rank: usize) -> (usize, usize) {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let clamp = |value: i64| {
        let value = if value < 0 { value.saturating_add(signed) } else { value };
        usize::try_from(value.clamp(0, signed)).unwrap_or(0)
    };
    let start = clamp(node.attributes.int("start").unwrap_or(0));
    let end = clamp(node.attributes.int("end").unwrap_or(signed));
    (start, end)
}

/// The shape that a `Reshape` asks for.
fn reshaped(node: &Node, from: &[usize], target: &[i64]) -> Result<Vec<usize>, String> {
    let keep_zero = node.attributes.flag("allowzero");
    let count: usize = from.iter().product();
    let mut out = Vec::with_capacity(target.len());
    let mut free = None;
    for (axis, size) in target.iter().enumerate() {
        out.push(match size {
            -1 if free.is_none() => {
                free = Some(axis);
                1
            }
            0 if !keep_zero => *from.get(axis).ok_or("a size of 0 copies one that is not there")?,
            size => usize::try_from(*size).map_err(|_| format!("a size is {size}"))?,
        });
    }
    let rest: usize = out.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).ok_or("a shape overflows")?;
    if let Some(axis) = free {
        if rest == 0 || !count.is_multiple_of(rest) {
            return Err(format!("{count} elements do not fill {target:?}"));
        }
        out[axis] = count / rest;
    } else if rest != count {
        return Err(format!("{count} elements do not fill {target:?}"));
    }
    Ok(out)
}

fn reshape(node: &Node, inputs: &Views, target: Vec<i64>) -> Result<Rule, String> {
    let input = need(inputs, 0)?;
    Ok(Rule::one(input.datatype, reshaped(node, &input.shape, &target)?))
}

fn flatten(node: &Node, inputs: &Views) -> Result<Rule, String> {
    let input = need(inputs, 0)?;
    let rank = input.shape.len();
    let axis = node.attributes.int("axis").unwrap_or(1);
    let axis = if axis == i64::try_from(rank).unwrap_or(-1) { rank } else { axis_index(axis, rank)? };
    let (a, b) = input.shape.split_at(axis);
    Ok(Rule::one(input.datatype, vec![a.iter().product(), b.iter().product()]))
}

/// The order of axes that a `Transpose` asks for.
pub(crate) fn permutation(node: &Node, rank: usize) -> Result<Vec<usize>, String> {
    let Some(order) = node.attributes.ints("perm") else { return Ok((0..rank).rev().collect()) };
    let order: Vec<usize> = order.iter().map(|axis| axis_index(*axis, rank)).collect::<Result<_, _>>()?;
    let mut seen = order.clone();
    seen.sort_unstable();
    if !seen.iter().copied().eq(0..rank) {
        return Err(format!("perm {order:?} is no order of {rank} axes"));
    }
    Ok(order)
}

fn transpose(node: &Node, inputs: &Views) -> Result<Rule, String> {
    let input = need(inputs, 0)?;
    let order = permutation(node, input.shape.len())?;
    Ok(Rule::one(input.datatype, order.iter().map(|axis| input.shape[*axis]).collect()))
}

fn concat(node: &Node, inputs: &Views) -> Result<Rule, String> {
    let first = need(inputs, 0)?;
    let axis = axis_index(node.attributes.int("axis").unwrap_or(1), first.shape.len())?;
    Ok(Rule::one(first.datatype, joined(inputs.iter().flatten().map(|view| view.shape.as_slice()), axis)?))
}

fn qlinear_concat(node: &Node, inputs: &Views) -> Result<Rule, String> {
    let parts: Vec<&[usize]> =
        inputs.iter().skip(2).step_by(3).flatten().map(|v| v.shape.as_slice()).collect();
    let rank = parts.first().map_or(0, |shape| shape.len());
    let axis = axis_index(node.attributes.int("axis").unwrap_or(1), rank)?;
    Ok(Rule::one(need(inputs, 1)?.datatype, joined(parts, axis)?))
}

fn joined<'a>(shapes: impl IntoIterator<Item = &'a [usize]>, axis: usize) -> Result<Vec<usize>, String> {
    let mut out: Option<Vec<usize>> = None;
    for shape in shapes {
        let Some(sum) = &mut out else {
            out = Some(shape.to_vec());
            continue;
        };
        let agrees = |(i, (a, b)): (usize, (&usize, &usize))| i == axis || a == b;
        if shape.len() != sum.len() || !sum.iter().zip(shape).enumerate().all(agrees) {
            return Err(format!("shapes {sum:?} and {shape:?} do not join along axis {axis}"));
        }
        sum[axis] = sum[axis].checked_add(shape[axis]).ok_or("a size overflows")?;
    }
    out.ok_or_else(|| "there is nothing to join".into())
}

fn axes(node: &Node, inputs: &Views) -> Result<Result<Option<Vec<i64>>, usize>, String> {
    Ok(match (node.attributes.ints("axes"), maybe(inputs, 1)) {
        (Some(axes), _) => Ok(Some(axes.to_vec())),
        (None, Some(view)) => match &view.constant {
            Some(tensor) => Ok(Some(ints(tensor)?)),
            None => Err(1),
        },
        (None, None) => Ok(None),
    })
}

fn squeeze(node: &Node, inputs: &Views) -> Result<Rule, String> {
    let input = need(inputs, 0)?;
    let rank = input.shape.len();
    let axes = match axes(node, inputs)? {
        Err(index) => return Ok(Rule::Needs(index)),
        Ok(None) => (0..rank).filter(|axis| input.shape[*axis] == 1).collect(),
        Ok(Some(axes)) => axes.iter().map(|axis| axis_index(*axis, rank)).collect::<Result<Vec<_>, _>>()?,
    };
    if let Some(axis) = axes.iter().find(|axis| input.shape[**axis] != 1) {
        return Err(format!("axis {axis} has size {}, not 1", input.shape[*axis]));
    }
    let kept = input.shape.iter().enumerate().filter(|(axis, _)| !axes.contains(axis));
    Ok(Rule::one(input.datatype, kept.map(|(_, size)| *size).collect()))
}

fn unsqueeze(node: &Node, inputs: &Views) -> Result<Rule, String> {
    let input = need(inputs, 0)?;
    let axes = match axes(node, inputs)? {
        Err(index) => return Ok(Rule::Needs(index)),
        Ok(axes) => axes.ok_or("it does not say which axes")?,
    };
    let rank = input.shape.len() + axes.len();
    let axes: Vec<usize> = axes.iter().map(|axis| axis_index(*axis, rank)).collect::<Result<_, _>>()?;
    let mut old = input.shape.iter();
    let mut out = Vec::with_capacity(rank);
    for axis in 0..rank {
        out.push(if axes.contains(&axis) { 1 } else { *old.next().ok_or("an axis stands twice")? });
    }
    Ok(Rule::one(input.datatype, out))
}

/// Of each axis, the first index, how many there are, and the step, as a `Slice` asks for them.
pub(crate) fn slice_ranges(
    shape: &[usize],
    starts: &[i64],
    ends: &[i64],
    axes: Option<&[i64]>,
    steps: Option<&[i64]>,
) -> Result<Vec<(i64, usize, i64)>, String> {
    let mut out: Vec<(i64, usize, i64)> = shape.iter().map(|size| (0, *size, 1)).collect();
    let same_len =
        axes.is_none_or(|a| a.len() == starts.len()) && steps.is_none_or(|s| s.len() == starts.len());
    if starts.len() != ends.len() || !same_len || (axes.is_none() && starts.len() > shape.len()) {
        return Err("starts, ends, axes and steps differ in length".into());
    }
    for (index, (start, end)) in starts.iter().zip(ends).enumerate() {
        let axis = match axes {
            Some(axes) => axis_index(axes[index], shape.len())?,
            None => index,
        };
        let step = steps.map_or(1, |steps| steps[index]);
        let size = i64::try_from(shape[axis]).map_err(|_| "a size overflows")?;
        let from_front = |v: i64| if v < 0 { v.saturating_add(size) } else { v };
        let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
        let start = from_front(*start).clamp(low.max(0), high.max(0));
        let end = from_front(*end).clamp(low, high);
        let span = if step > 0 { end - start } else { start - end };
        if step == 0 {
            return Err("a step is 0".into());
        }
        let count = if span <= 0 || size == 0 { 0 } else { (span - 1) / step.saturating_abs() + 1 };
        out[axis] = (start, usize::try_from(count).unwrap_or(0), step);
    }
    Ok(out)
}

fn slice(inputs: &Views) -> Result<Rule, String> {
    let input = need(inputs, 0)?;
    let mut parts = Vec::new();
    for index in 1..5 {
        match maybe(inputs, index) {
            None => parts.push(None),
            Some(view) => match &view.constant {
                None => return Ok(Rule::Needs(index)),
                Some(tensor) => parts.push(Some(ints(tensor)?)),
            },
        }
    }
    let [Some(starts), Some(ends), axes, steps] = parts.as_slice() else {
        return Err("starts or ends are missing".into());
    };
    let ranges = slice_ranges(&input.shape, starts, ends, axes.as_deref(), steps.as_deref())?;
    Ok(Rule::one(input.datatype, ranges.iter().map(|(_, count, _)| *count).collect()))
}

fn gather(node: &Node, inputs: &Views) -> Result<Rule, String> {
    let (data, indices) = (need(inputs, 0)?, need(inputs, 1)?);
    let axis = axis_index(node.attributes.int("axis").unwrap_or(0), data.shape.len())?;
    let shape = [&data.shape[..axis], &indices.shape, &data.shape[axis + 1..]].concat();
    Ok(Rule::one(data.datatype, shape))
}

fn split(node: &Node, inputs: &Views) -> Result<Rule, String> {
    let input = need(inputs, 0)?;
    let axis = axis_index(node.attributes.int("axis").unwrap_or(0), input.shape.len())?;
    let parts = match (node.attributes.ints("split"), maybe(inputs, 1)) {
        (Some(parts), _) => sizes(parts)?,
        (None, Some(view)) => match &view.constant {
            Some(tensor) => sizes(&ints(tensor)?)?,
            None => return Ok(Rule::Needs(1)),
        },
        (None, None) => {
            let count = node.attributes.int("num_outputs").and_then(|n| usize::try_from(n).ok());
            let count = count.unwrap_or(node.outputs.len()).max(1);
            let chunk = input.shape[axis].div_ceil(count);
            (0..count).map(|i| input.shape[axis].saturating_sub(i * chunk).min(chunk)).collect()
        }
    };
    if parts.iter().sum::<usize>() != input.shape[axis] {
        return Err(format!("parts {parts:?} do not make up {}", input.shape[axis]));
    }
    let shape = |part: &usize| {
        let mut shape = input.shape.clone();
        shape[axis] = *part;
        (input.datatype, shape)
    };
    Ok(Rule::Typed(parts.iter().map(shape).collect()))
}

fn pad(inputs: &Views) -> Result<Rule, String> {
    let input = need(inputs, 0)?;
    with_ints(inputs, 1, |pads| {
        let rank = input.shape.len();
        let axes: Vec<usize> = match maybe(inputs, 3) {
            None => (0..rank).collect(),
            Some(view) => match &view.constant {
                None => return Ok(Rule::Needs(3)),
                Some(tensor) => {
                    ints(tensor)?.iter().map(|axis| axis_index(*axis, rank)).collect::<Result<_, _>>()?
                }
            },
        };
        if pads.len() != 2 * axes.len() {
            return Err(format!("{} pads for {} axes", pads.len(), axes.len()));
        }
        let mut shape = input.shape.clone();
        for (index, axis) in axes.iter().enumerate() {
            let size = i64::try_from(shape[*axis]).map_err(|_| "a size overflows")?;
            let sum = size.saturating_add(pads[index]).saturating_add(pads[index + axes.len()]);
            shape[*axis] = usize::try_from(sum).map_err(|_| format!("a padded size is {sum}"))?;
        }
        Ok(Rule::one(input.datatype, shape))
    })
}

fn range(inputs: &Views) -> Result<Rule, String> {
    let mut ends = Vec::new();
    for index in 0..3 {
        let Some(tensor) = &need(inputs, index)?.constant else { return Ok(Rule::Needs(index)) };
        ends.push(tensor.to_f64s().map_err(|e| e.to_string())?.first().copied().ok_or("an end is empty")?);
    }
    let count = ((ends[1] - ends[0]) / ends[2]).ceil().max(0.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; saturates")]
    Ok(Rule::one(need(inputs, 0)?.datatype, vec![count as usize]))
}

fn depth_space(node: &Node, inputs: &Views) -> Result<Rule, String> {
    let input = need(inputs, 0)?;
    let block = node.attributes.int("blocksize").and_then(|b| usize::try_from(b).ok()).filter(|b| *b > 0);
    let (Some(b), [n, c, h, w]) = (block, input.shape.as_slice()) else { return Ok(Rule::Unknown) };
    let shape = if node.op == "DepthToSpace" {
        vec![*n, c / (b * b), h * b, w * b]
    } else {
        vec![*n, c * b * b, h / b, w / b]
    };
    if shape.iter().product::<usize>() != input.shape.iter().product::<usize>() {
        return Err(format!("shape {:?} does not divide by blocks of {b}", input.shape));
    }
    Ok(Rule::one(input.datatype, shape))
}

//! Operators that slide a window: convolutions, pooling; and resizing.

use super::{Rule, View, Views, ints, maybe, need};
use crate::{datatype::Datatype, graph::Node};

/// Where a window stands, for each spatial axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) kernel: Vec<usize>,
    pub(crate) strides: Vec<usize>,
    pub(crate) dilations: Vec<usize>,
    /// Before and after each axis.
    pub(crate) pads: Vec<(usize, usize)>,
    /// Sizes of the output.
    pub(crate) out: Vec<usize>,
}

/// The window of a node over an input of these spatial sizes.
///
/// # Errors
/// Attributes contradict each other or the input.
pub(crate) fn window(node: &Node, kernel: &[usize], spatial: &[usize]) -> Result<Window, String> {
    let rank = spatial.len();
    let list = |name: &str, default: usize, count: usize| -> Result<Vec<usize>, String> {
        let Some(values) = node.attributes.ints(name) else { return Ok(vec![default; count]) };
        if values.len() != count {
            return Err(format!("{name} has {} values for {rank} axes", values.len()));
        }
        values.iter().map(|v| usize::try_from(*v).map_err(|_| format!("{name} holds {v}"))).collect()
    };
    let strides = list("strides", 1, rank)?;
    let dilations = list("dilations", 1, rank)?;
    let pads = list("pads", 0, 2 * rank)?;
    if kernel.len() != rank || strides.contains(&0) || dilations.contains(&0) || kernel.contains(&0) {
        return Err("a kernel, stride or dilation does not fit the input".into());
    }
    let auto = node.attributes.text("auto_pad").unwrap_or("NOTSET");
    let ceil = node.attributes.flag("ceil_mode");
    let mut result = Window { kernel: kernel.to_vec(), strides, dilations, pads: vec![], out: vec![] };
    for axis in 0..rank {
        let (size, stride) = (spatial[axis], result.strides[axis]);
        let span = (kernel[axis] - 1).checked_mul(result.dilations[axis]).ok_or("a kernel overflows")? + 1;
        let (before, after) = match auto {
            "SAME_UPPER" | "SAME_LOWER" => {
                let total = ((size.div_ceil(stride).max(1) - 1) * stride + span).saturating_sub(size);
                let half = total / 2;
                if auto == "SAME_UPPER" { (half, total - half) } else { (total - half, half) }
            }
            "VALID" => (0, 0),
            _ => (pads[axis], pads[axis + rank]),
        };
        let padded = size.checked_add(before).and_then(|n| n.checked_add(after)).ok_or("a size overflows")?;
        let room = padded.checked_sub(span).ok_or_else(|| {
            format!("a window of {span} does not fit into {padded} along spatial axis {axis}")
        })?;
        let mut out = room / stride + 1;
        // A window that would begin in the padding after the input is left out.
        if ceil && !room.is_multiple_of(stride) && out * stride < size + before {
            out += 1;
        }
        result.pads.push((before, after));
        result.out.push(out);
    }
    Ok(result)
}

pub(super) fn infer(node: &Node, inputs: &Views) -> Result<Rule, String> {
    match node.op.as_str() {
        "Conv" => convolution(node, inputs, 1, need(inputs, 0)?.datatype),
        "ConvInteger" => convolution(node, inputs, 1, Datatype::Int32),
        "QLinearConv" => convolution(node, inputs, 3, need(inputs, 7)?.datatype),
        "MaxPool" | "AveragePool" | "com.microsoft.QLinearAveragePool"
            if node.outputs.iter().filter(|name| !name.is_empty()).count() == 1 =>
        {
            pool(node, inputs)
        }
        "GlobalAveragePool" | "GlobalMaxPool" => Ok(global(need(inputs, 0)?)),
        "com.microsoft.QLinearGlobalAveragePool" if !node.attributes.flag("channels_last") => {
            Ok(global(need(inputs, 0)?))
        }
        "Resize" if node.version >= 11 => resize(node, inputs),
        "Upsample" if node.version >= 9 => scaled(need(inputs, 0)?, maybe(inputs, 1), 1),
        _ => Ok(Rule::Unknown),
    }
}

fn convolution(node: &Node, inputs: &Views, weights: usize, out: Datatype) -> Result<Rule, String> {
    let (x, w) = (&need(inputs, 0)?.shape, &need(inputs, weights)?.shape);
    if x.len() < 3 || x.len() != w.len() {
        return Err(format!("an input of shape {x:?} and weights of shape {w:?} do not convolve"));
    }
    let groups = node.attributes.int("group").unwrap_or(1);
    let groups = usize::try_from(groups).ok().filter(|g| *g > 0).ok_or("its group is not positive")?;
    if w[1].checked_mul(groups) != Some(x[1]) || !w[0].is_multiple_of(groups) {
        return Err(format!("{} channels do not fit weights of shape {w:?} in {groups} groups", x[1]));
    }
    if node.attributes.ints("kernel_shape").is_some_and(|k| {
        k.len() != w.len() - 2 || k.iter().zip(&w[2..]).any(|(a, b)| usize::try_from(*a) != Ok(*b))
    }) {
        return Err("kernel_shape and the weights contradict each other".into());
    }
    let window = window(node, &w[2..], &x[2..])?;
    Ok(Rule::one(out, [&[x[0], w[0]], window.out.as_slice()].concat()))
}

fn pool(node: &Node, inputs: &Views) -> Result<Rule, String> {
    let x = need(inputs, 0)?;
    if x.shape.len() < 3 || node.attributes.flag("channels_last") {
        return Ok(Rule::Unknown);
    }
    let kernel = node.attributes.ints("kernel_shape").ok_or("it has no kernel_shape")?;
    let kernel: Vec<usize> = kernel.iter().map(|k| usize::try_from(*k).unwrap_or(0)).collect();
    let window = window(node, &kernel, &x.shape[2..])?;
    Ok(Rule::one(x.datatype, [&x.shape[..2], window.out.as_slice()].concat()))
}

fn global(x: &View) -> Rule {
    let shape = x.shape.iter().enumerate().map(|(axis, size)| if axis < 2 { *size } else { 1 });
    Rule::one(x.datatype, shape.collect())
}

fn resize(node: &Node, inputs: &Views) -> Result<Rule, String> {
    let x = need(inputs, 0)?;
    let plain = node.attributes.ints("axes").is_none()
        && node.attributes.text("keep_aspect_ratio_policy").unwrap_or("stretch") == "stretch";
    if !plain {
        return Ok(Rule::Unknown);
    }
    if let Some(view) = maybe(inputs, 3) {
        let Some(sizes) = &view.constant else { return Ok(Rule::Needs(3)) };
        let sizes: Vec<usize> = ints(sizes)?.iter().map(|s| usize::try_from(*s).unwrap_or(0)).collect();
        if sizes.len() != x.shape.len() {
            return Err(format!("{} sizes for {} axes", sizes.len(), x.shape.len()));
        }
        return Ok(Rule::one(x.datatype, sizes));
    }
    scaled(x, maybe(inputs, 2), 2)
}

fn scaled(x: &View, scales: Option<&View>, index: usize) -> Result<Rule, String> {
    let Some(tensor) = &scales.ok_or("it has neither scales nor sizes")?.constant else {
        return Ok(Rule::Needs(index));
    };
    let scales = tensor.to_f32s().map_err(|e| e.to_string())?;
    if scales.len() != x.shape.len() || scales.iter().any(|s| !s.is_finite() || *s <= 0.0) {
        return Err(format!("scales {scales:?} do not fit a shape {:?}", x.shape));
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "positive; saturates"
    )]
    let shape = x.shape.iter().zip(&scales).map(|(size, scale)| (*size as f32 * scale).floor() as usize);
    Ok(Rule::one(x.datatype, shape.collect()))
}

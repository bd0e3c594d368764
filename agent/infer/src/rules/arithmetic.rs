//! Element-wise operators, matrix products, reductions, and conversions of type.

use super::{Rule, Views, axis_index, ints, maybe, need};
use crate::{datatype::Datatype, graph::Node};

pub(super) fn infer(node: &Node, inputs: &Views) -> Result<Rule, String> {
    let same = |datatype: Datatype| Ok(Rule::one(datatype, need(inputs, 0)?.shape.clone()));
    match node.op.as_str() {
        "Relu"
        | "Clip"
        | "LeakyRelu"
        | "PRelu"
        | "Sigmoid"
        | "Tanh"
        | "HardSigmoid"
        | "HardSwish"
        | "Elu"
        | "Selu"
        | "Celu"
        | "Softplus"
        | "Softsign"
        | "ThresholdedRelu"
        | "Mish"
        | "Gelu"
        | "Erf"
        | "Exp"
        | "Log"
        | "Sqrt"
        | "Reciprocal"
        | "Neg"
        | "Abs"
        | "Floor"
        | "Ceil"
        | "Round"
        | "Sign"
        | "Sin"
        | "Cos"
        | "Tan"
        | "Asin"
        | "Acos"
        | "Atan"
        | "Sinh"
        | "Cosh"
        | "Asinh"
        | "Acosh"
        | "Atanh"
        | "Not"
        | "BitwiseNot"
        | "Softmax"
        | "LogSoftmax"
        | "Hardmax"
        | "InstanceNormalization"
        | "GroupNormalization"
        | "LpNormalization"
        | "LRN"
        | "CumSum"
        | "com.microsoft.QLinearSigmoid"
        | "com.microsoft.QLinearLeakyRelu"
        | "com.microsoft.QLinearSoftmax"
        | "com.microsoft.Gelu"
        | "com.microsoft.FastGelu"
        | "com.microsoft.QuickGelu"
        | "com.microsoft.BiasGelu" => same(need(inputs, 0)?.datatype),
        "BatchNormalization" if node.outputs.iter().filter(|o| !o.is_empty()).count() == 1 => {
            same(need(inputs, 0)?.datatype)
        }
        "LayerNormalization" if node.outputs.iter().filter(|o| !o.is_empty()).count() == 1 => {
            same(need(inputs, 0)?.datatype)
        }
        "IsNaN" | "IsInf" => same(Datatype::Bool),
        "Cast" => cast(node, inputs),
        "CastLike" => same(need(inputs, 1)?.datatype),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor"
        | "BitShift" | "Min" | "Max" | "Sum" | "Mean" => element_wise(node, inputs, None),
        "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "And" | "Or" | "Xor" => {
            element_wise(node, inputs, Some(Datatype::Bool))
        }
        "Where" => {
            let shape = broadcast(inputs.iter().flatten().map(|view| view.shape.as_slice()))?;
            Ok(Rule::one(need(inputs, 1)?.datatype, shape))
        }
        "com.microsoft.QLinearAdd" | "com.microsoft.QLinearMul" => {
            let shape = broadcast([need(inputs, 0)?.shape.as_slice(), need(inputs, 3)?.shape.as_slice()])?;
            Ok(Rule::one(need(inputs, 0)?.datatype, shape))
        }
        "MatMul" => Ok(Rule::one(need(inputs, 0)?.datatype, product(inputs, 0, 1)?)),
        "com.microsoft.FusedMatMul" => fused_product(node, inputs),
        "MatMulInteger" => Ok(Rule::one(Datatype::Int32, product(inputs, 0, 1)?)),
        "com.microsoft.DynamicQuantizeMatMul" => Ok(Rule::one(Datatype::Fp32, product(inputs, 0, 1)?)),
        "com.microsoft.MatMulIntegerToFloat" => {
            Ok(Rule::one(need(inputs, 2)?.datatype, product(inputs, 0, 1)?))
        }
        "QLinearMatMul" => Ok(Rule::one(quantised_type(inputs, 7)?, product(inputs, 0, 3)?)),
        "Gemm" => Ok(Rule::one(need(inputs, 0)?.datatype, gemm(node, inputs, 1)?)),
        "com.microsoft.QGemm" => {
            let datatype = maybe(inputs, 8).map_or(Datatype::Fp32, |zero| zero.datatype);
            Ok(Rule::one(datatype, gemm(node, inputs, 3)?))
        }
        "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL1" | "ReduceL2"
        | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceSumSquare" => reduce(node, inputs),
        "ArgMax" | "ArgMin" => arg(node, inputs),
        "QuantizeLinear" | "com.microsoft.QuantizeLinear" => quantise(node, inputs),
        "DequantizeLinear" | "com.microsoft.DequantizeLinear" => same(need(inputs, 1)?.datatype),
        "DynamicQuantizeLinear" => {
            let shape = need(inputs, 0)?.shape.clone();
            let (u8, f32) = (Datatype::Uint8, Datatype::Fp32);
            Ok(Rule::Typed(vec![(u8, shape), (f32, vec![]), (u8, vec![])]))
        }
        _ => Ok(Rule::Unknown),
    }
}

/// The shape that shapes broadcast to, by ONNX's (NumPy's) rule.
///
/// # Errors
/// They do not broadcast.
pub(crate) fn broadcast<'a>(shapes: impl IntoIterator<Item = &'a [usize]>) -> Result<Vec<usize>, String> {
    let mut out: Vec<usize> = Vec::new();
    for shape in shapes {
        if shape.len() > out.len() {
            let missing = shape.len() - out.len();
            out.splice(0..0, std::iter::repeat_n(1, missing));
        }
        let offset = out.len() - shape.len();
        for (to, from) in out[offset..].iter_mut().zip(shape) {
            *to = match (*to, *from) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                (a, b) => return Err(format!("sizes {a} and {b} do not broadcast")),
            };
        }
    }
    Ok(out)
}

fn element_wise(node: &Node, inputs: &Views, datatype: Option<Datatype>) -> Result<Rule, String> {
    if node.version < 7 && inputs.len() == 2 && need(inputs, 0)?.shape != need(inputs, 1)?.shape {
        // Older versions broadcast by an attribute.
        return Ok(Rule::Unknown);
    }
    let shape = broadcast(inputs.iter().flatten().map(|view| view.shape.as_slice()))?;
    Ok(Rule::one(datatype.unwrap_or(need(inputs, 0)?.datatype), shape))
}

fn cast(node: &Node, inputs: &Views) -> Result<Rule, String> {
    let to =
        node.attributes.int("to").and_then(|to| i32::try_from(to).ok()).ok_or("it does not say to what")?;
    let datatype = crate::graph::datatype_of_number(to);
    Ok(match datatype {
        Some(datatype) => Rule::one(datatype, need(inputs, 0)?.shape.clone()),
        None => Rule::Unknown,
    })
}

/// The shape of a product of stacks of matrices, as NumPy's `matmul` has it.
fn product(inputs: &Views, a: usize, b: usize) -> Result<Vec<usize>, String> {
    let (a, b) = (&need(inputs, a)?.shape, &need(inputs, b)?.shape);
    let (Some(&k), false) = (a.last(), b.is_empty()) else {
        return Err("a factor has no dimension".into());
    };
    let rows = if b.len() == 1 { b[0] } else { b[b.len() - 2] };
    if k != rows {
        return Err(format!("shapes {a:?} and {b:?} do not multiply"));
    }
    let stack = |shape: &[usize]| shape[..shape.len().saturating_sub(2)].to_vec();
    let mut out = broadcast([stack(a).as_slice(), stack(b).as_slice()])?;
    if a.len() > 1 {
        out.push(a[a.len() - 2]);
    }
    if b.len() > 1 {
        out.push(b[b.len() - 1]);
    }
    Ok(out)
}

/// A product of stacks whose matrices may lie transposed.
fn fused_product(node: &Node, inputs: &Views) -> Result<Rule, String> {
    if node.attributes.flag("transBatchA") || node.attributes.flag("transBatchB") {
        return Ok(Rule::Unknown);
    }
    let mut views = vec![Some(need(inputs, 0)?.clone()), Some(need(inputs, 1)?.clone())];
    for (view, name) in views.iter_mut().flatten().zip(["transA", "transB"]) {
        let rank = view.shape.len();
        if rank >= 2 && node.attributes.flag(name) {
            view.shape.swap(rank - 2, rank - 1);
        }
    }
    Ok(Rule::one(need(inputs, 0)?.datatype, product(&views, 0, 1)?))
}

fn gemm(node: &Node, inputs: &Views, b: usize) -> Result<Vec<usize>, String> {
    let (a, b) = (&need(inputs, 0)?.shape, &need(inputs, b)?.shape);
    let ([a0, a1], [b0, b1]) = (a.as_slice(), b.as_slice()) else {
        return Err(format!("shapes {a:?} and {b:?} are not matrices"));
    };
    let (m, k) = if node.attributes.flag("transA") { (a1, a0) } else { (a0, a1) };
    let (k2, n) = if node.attributes.flag("transB") { (b1, b0) } else { (b0, b1) };
    if k != k2 {
        return Err(format!("shapes {a:?} and {b:?} do not multiply"));
    }
    Ok(vec![*m, *n])
}

/// Axes of a reduction, by attribute or input; `Err(index)` where the input's elements are needed.
fn reduced_axes(node: &Node, inputs: &Views) -> Result<Result<Vec<usize>, usize>, String> {
    let rank = need(inputs, 0)?.shape.len();
    let axes = match (node.attributes.ints("axes"), maybe(inputs, 1)) {
        (Some(axes), _) => axes.to_vec(),
        (None, Some(view)) => match &view.constant {
            Some(tensor) => ints(tensor)?,
            None if view.shape == [0] => vec![],
            None => return Ok(Err(1)),
        },
        (None, None) => vec![],
    };
    if axes.is_empty() {
        let none = node.attributes.flag("noop_with_empty_axes");
        return Ok(Ok(if none { vec![] } else { (0..rank).collect() }));
    }
    axes.iter().map(|axis| axis_index(*axis, rank)).collect::<Result<_, _>>().map(Ok)
}

fn reduce(node: &Node, inputs: &Views) -> Result<Rule, String> {
    let axes = match reduced_axes(node, inputs)? {
        Ok(axes) => axes,
        Err(index) => return Ok(Rule::Needs(index)),
    };
    let keep = node.attributes.int("keepdims").unwrap_or(1) != 0;
    Ok(Rule::one(need(inputs, 0)?.datatype, without(&need(inputs, 0)?.shape, &axes, keep)))
}

fn without(shape: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    let sizes = shape.iter().enumerate();
    if keep {
        sizes.map(|(axis, size)| if axes.contains(&axis) { 1 } else { *size }).collect()
    } else {
        sizes.filter(|(axis, _)| !axes.contains(axis)).map(|(_, size)| *size).collect()
    }
}

fn arg(node: &Node, inputs: &Views) -> Result<Rule, String> {
    let shape = &need(inputs, 0)?.shape;
    let axis = axis_index(node.attributes.int("axis").unwrap_or(0), shape.len())?;
    let keep = node.attributes.int("keepdims").unwrap_or(1) != 0;
    Ok(Rule::one(Datatype::Int64, without(shape, &[axis], keep)))
}

fn quantise(node: &Node, inputs: &Views) -> Result<Rule, String> {
    let by_attribute = node.attributes.int("output_dtype").filter(|to| *to != 0);
    let datatype = match (maybe(inputs, 2), by_attribute) {
        (Some(zero), _) => Some(zero.datatype),
        (None, Some(to)) => i32::try_from(to).ok().and_then(crate::graph::datatype_of_number),
        (None, None) => Some(Datatype::Uint8),
    };
    let shape = need(inputs, 0)?.shape.clone();
    Ok(datatype.map_or(Rule::Unknown, |datatype| Rule::one(datatype, shape)))
}

/// The type of a quantised output: that of its zero point.
fn quantised_type(inputs: &Views, zero: usize) -> Result<Datatype, String> {
    Ok(need(inputs, zero)?.datatype)
}

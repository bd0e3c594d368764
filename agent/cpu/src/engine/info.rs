//! What steps are, for people.

use crate::isa::Isa;
use whimbrel_infer::{
    LayerInfo,
    plan::{Conv2d, Operation, Plan, Step},
};

/// What a step is.
pub(super) fn layer(isa: Isa, plan: &Plan, step: &Step) -> LayerInfo {
    let fallback = match &step.operation {
        Operation::Single(single) => Some(single.runner()),
        _ => None,
    };
    let kernel = match fallback {
        Some(runner) => runner.to_owned(),
        None if is_packed(&step.operation) => format!("{} {isa}", kind(plan, step)),
        None => kind(plan, step),
    };
    let shape = step.outputs.first().map_or_else(Vec::new, |id| plan.buffer(*id).shape.clone());
    LayerInfo {
        name: step.name.clone(),
        operators: step.operators.clone(),
        kernel,
        fallback,
        shape,
        macs: step.operation.macs(),
    }
}

/// Whether its weights or operands are packed for one instruction set.
const fn is_packed(operation: &Operation) -> bool {
    use Operation::{Conv, DynamicConv, MatMul, QConv, Recurrent};
    matches!(operation, Conv(_) | QConv(_) | DynamicConv(_) | MatMul(_) | Recurrent(_))
}

/// The kind of kernel, and what it works on where it is there for several types.
fn kind(plan: &Plan, step: &Step) -> String {
    let of = |name: &str, datatype: &str| format!("{name} {datatype}");
    let input = || match step.inputs.first().map(|id| plan.buffer(*id).datatype) {
        Some(datatype) => datatype.as_str().to_ascii_lowercase(),
        None => String::new(),
    };
    match &step.operation {
        Operation::Conv(conv) => of(method(&conv.geometry), "f32"),
        Operation::QConv(conv) => of(method(&conv.geometry), "int8"),
        Operation::DynamicConv(conv) => of(method(&conv.geometry), "int8, quantised in the run"),
        Operation::MatMul(_) => of("matmul", "f32"),
        Operation::Quantise(_) => "quantise".to_owned(),
        Operation::Dequantise(_) => "dequantise".to_owned(),
        Operation::DynamicQuantise { .. } => "quantise by range".to_owned(),
        Operation::QAdd(_) => of("add", "int8"),
        Operation::QMul(_) => of("multiply", "int8"),
        Operation::QBroadcast(pair) if pair.sum => of("broadcast add", "int8"),
        Operation::QBroadcast(_) => of("broadcast multiply", "int8"),
        Operation::Map(_) => of("table", "int8"),
        Operation::QSoftmax { .. } => of("softmax", "int8"),
        Operation::MaxPool(_) => of("max pool", &input()),
        Operation::AveragePool(_) => of("average pool", "f32"),
        Operation::QAveragePool { .. } => of("average pool", "int8"),
        Operation::Binary(_) => of("binary", "f32"),
        Operation::Unary(_) => of("unary", "f32"),
        Operation::Softmax { .. } => of("softmax", "f32"),
        Operation::Concat { .. } => of("concat", &input()),
        Operation::Transpose { .. } => of("transpose", &input()),
        Operation::Flip => of("shift", "int8"),
        Operation::Resize(_) => of("resize", &input()),
        Operation::Recurrent(_) => of("recurrent", "f32"),
        Operation::Single(single) => single.runner().to_owned(),
    }
}

/// The kind of a convolution.
const fn method(geometry: &Conv2d) -> &'static str {
    if geometry.is_depthwise() {
        "depthwise"
    } else if geometry.groups > 1 {
        "grouped"
    } else if geometry.is_pointwise() && geometry.out_h() * geometry.out_w() == 1 {
        "vector"
    } else if geometry.is_pointwise() {
        "pointwise"
    } else {
        "conv"
    }
}

//! What operators make of types, shapes and constants, without running them.
//!
//! | module | holds |
//! |---|---|
//! | `arithmetic` | element-wise operators, matrix products, reductions |
//! | `movement` | operators that move elements: reshape, slice, gather, concat … |
//! | `recurrent` | recurrent layers |
//! | `window` | convolutions, pooling, resizing |
//! | `fold` | evaluation of the small integer tensors that shapes are computed with |
//!
//! Operators without a rule here are asked of tract, which is slower to load but knows more of them.

mod arithmetic;
mod fold;
mod movement;
mod recurrent;
mod window;

pub(crate) use arithmetic::broadcast;
pub(crate) use fold::{each_index, evaluate, strides, transposed};
pub(crate) use movement::{axis_index, ints, permutation};
pub(crate) use window::{Window, window};

use crate::{datatype::Datatype, graph::Node, tensor::Tensor};
use std::sync::Arc;

/// Operators that tract lacks and this crate evaluates or lowers itself.
const NATIVE: &[&str] = &["If", "Loop", "Upsample"];

/// The same, of Microsoft's domain.
const NATIVE_MICROSOFT: &[&str] = &[
    "BiasGelu",
    "DequantizeLinear",
    "DynamicQuantizeLSTM",
    "FastGelu",
    "FusedMatMul",
    "Gelu",
    "QGemm",
    "QLinearAdd",
    "QLinearAveragePool",
    "QLinearConcat",
    "QLinearGlobalAveragePool",
    "QLinearLeakyRelu",
    "QLinearMul",
    "QLinearSigmoid",
    "QuantizeLinear",
    "SkipLayerNormalization",
];

/// Whether an operator is known here, whatever tract knows.
pub(crate) fn is_native(domain: &str, op: &str) -> bool {
    let list = if domain == "com.microsoft" { NATIVE_MICROSOFT } else { NATIVE };
    list.contains(&op) || crate::reference::knows(domain, op)
}

/// What is known of an input.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) datatype: Datatype,
    pub(crate) shape: Vec<usize>,
    pub(crate) constant: Option<Arc<Tensor>>,
}

/// Inputs by place; `None` where an optional one is absent.
pub(crate) type Views = [Option<View>];

/// What a rule says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rule {
    /// Types and shapes of the outputs.
    Typed(Vec<(Datatype, Vec<usize>)>),
    /// They depend on the elements of this input.
    Needs(usize),
    /// They depend on the data, and only running the node tells.
    Dynamic,
    /// No rule here.
    Unknown,
}

impl Rule {
    fn one(datatype: Datatype, shape: Vec<usize>) -> Self {
        Self::Typed(vec![(datatype, shape)])
    }
}

/// Operators whose outputs differ from run to run.
pub(crate) fn is_random(op: &str) -> bool {
    matches!(
        op,
        "RandomNormal"
            | "RandomNormalLike"
            | "RandomUniform"
            | "RandomUniformLike"
            | "Bernoulli"
            | "Multinomial"
    )
}

/// The types and shapes of a node's outputs.
///
/// # Errors
/// Shapes or attributes contradict each other.
pub(crate) fn infer(node: &Node, inputs: &Views) -> Result<Rule, String> {
    if matches!(node.op.as_str(), "Loop" | "Scan" | "NonZero" | "NonMaxSuppression" | "Unique" | "Compress")
        || node.op.starts_with("Sequence")
        || !node.graphs.is_empty()
    {
        return Ok(Rule::Dynamic);
    }
    for rule in [arithmetic::infer, movement::infer, recurrent::infer, window::infer] {
        match rule(node, inputs)? {
            Rule::Unknown => {}
            known => return Ok(known),
        }
    }
    Ok(Rule::Unknown)
}

/// The input at a place.
fn need(inputs: &Views, index: usize) -> Result<&View, String> {
    inputs.get(index).and_then(Option::as_ref).ok_or_else(|| format!("input {index} is missing"))
}

/// The input at a place, where it is there.
fn maybe(inputs: &Views, index: usize) -> Option<&View> {
    inputs.get(index).and_then(Option::as_ref)
}

//! Keeps tract from computing constants beyond the limits.
//!
//! While it infers shapes, tract evaluates every node whose inputs are constants. A file of a few bytes (a constant
//! of one element, expanded to a huge shape) could so take all memory, before any shape of the whole is known. Each
//! operator is therefore put behind one that first asks for the shapes alone.

use crate::limits::ImportLimits;
use tract_onnx::{
    prelude::{InferenceFact, InferenceModel, InferenceModelExt, TractResult},
    tract_core::ops::konst::Const,
    tract_hir::{
        infer::{Factoid, InferenceNode, InferenceOp},
        internal::{EvalOp, Op, OutletId, StaticName, TValue, TVec, TypedOp, bail},
    },
};

/// Infers types and shapes, computing no constant beyond the limits.
///
/// # Errors
/// A tensor is larger than the limits allow, or shapes contradict each other.
pub(crate) fn analyse(mut model: InferenceModel, limits: &ImportLimits) -> TractResult<InferenceModel> {
    for node in model.nodes_mut() {
        if !node.inputs.is_empty() && !node.op_is::<Const>() {
            let op = node.op.clone();
            node.op = Box::new(Bounded { op, elements_max: limits.tensor_elements_max });
        }
    }
    model.analyse(false)?;
    for node in model.nodes_mut() {
        if let Some(bounded) = node.op_as::<Bounded>() {
            node.op = bounded.op.clone();
        }
    }
    for node in model.nodes() {
        for output in &node.outputs {
            check(&node.name, &output.fact, limits.tensor_elements_max)?;
        }
    }
    Ok(model)
}

fn check(node: &str, fact: &InferenceFact, max: usize) -> TractResult<()> {
    let Some(shape) = fact.shape.as_concrete_finite()? else { return Ok(()) };
    if crate::tensor::element_count(&shape).is_none_or(|n| n > max) {
        bail!(
            "node {node:?} makes a tensor of shape {:?}, at most {max} elements are accepted",
            shape.as_slice()
        );
    }
    Ok(())
}

#[derive(Debug, Clone)]
struct Bounded {
    op: Box<dyn InferenceOp>,
    elements_max: usize,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.elements_max == other.elements_max && self.op.as_op() == other.op.as_op()
    }
}
impl Eq for Bounded {}

impl EvalOp for Bounded {
    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.op.eval_out_of_plan(inputs)
    }
}

impl Op for Bounded {
    fn name(&self) -> StaticName {
        self.op.name()
    }
    fn as_typed(&self) -> Option<&dyn TypedOp> {
        None
    }
}

type Facts = TVec<InferenceFact>;

impl InferenceOp for Bounded {
    fn infer(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(Facts, Facts, Facts)> {
        if inputs.iter().all(|fact| fact.value.is_concrete()) {
            let (_, facts, _) = self.op.infer_facts(inputs.clone(), outputs.clone(), observed.clone())?;
            for fact in &facts {
                check(&self.op.name(), fact, self.elements_max)?;
            }
        }
        self.op.infer(inputs, outputs, observed)
    }

    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(Facts, Facts, Facts)> {
        self.op.infer_facts(inputs, outputs, observed)
    }

    fn observe_outlets(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Vec<OutletId>> {
        self.op.observe_outlets(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.op.nboutputs()
    }

    fn as_op(&self) -> &dyn Op {
        self
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self
    }
}

//! One optimised graph for one set of input shapes.

use super::{bound, convert, guard::guarded, softmax};
use crate::{datatype::Datatype, limits::ImportLimits, tensor::element_count};
use std::sync::Arc;
use tract_onnx::{
    prelude::{InferenceFact, InferenceModel, InferenceModelExt, TractResult, TypedModel, TypedSimplePlan},
    tract_hir::internal::{Cost, TDim, bail},
};

/// An optimised graph, shared by all sessions that run its shapes.
pub(crate) struct Plan {
    /// What tract runs.
    pub(crate) runnable: Arc<TypedSimplePlan>,
    /// What it answers; `None` for an element type or a size that only a run can tell.
    pub(crate) outputs: Vec<(Option<Datatype>, Vec<Option<usize>>)>,
    /// Multiplications with accumulation per run.
    pub(crate) macs: Option<u64>,
}

/// Makes the plan of a graph for inputs of these types and shapes.
///
/// # Errors
/// tract's own words: shapes contradict each other, an operator cannot do what is asked, a tensor is too large.
pub(crate) fn build(
    template: &InferenceModel,
    inputs: &[(Datatype, &[usize])],
    limits: &ImportLimits,
) -> Result<Plan, String> {
    guarded(|| {
        let mut model = template.clone();
        for (index, (datatype, shape)) in inputs.iter().enumerate() {
            model.set_input_fact(index, InferenceFact::dt_shape(convert::datum_type(*datatype), *shape))?;
        }
        let mut model = bound::analyse(model, limits)?.into_typed()?;
        softmax::declare_axes(&mut model);
        model.declutter()?;
        check_sizes(&model, limits)?;
        let macs = count_macs(&model);
        model.optimize()?;
        let outputs = model
            .output_outlets()?
            .iter()
            .map(|outlet| {
                let fact = model.outlet_fact(*outlet)?;
                let shape = fact.shape.iter().map(|d| d.to_i64().ok().and_then(|d| usize::try_from(d).ok()));
                Ok((convert::datatype(fact.datum_type), shape.collect()))
            })
            .collect::<TractResult<_>>()?;
        Ok(Plan { runnable: TypedSimplePlan::new(model)?, outputs, macs })
    })
}

fn check_sizes(model: &TypedModel, limits: &ImportLimits) -> TractResult<()> {
    for node in model.nodes() {
        for output in &node.outputs {
            let too_large = |shape| element_count(shape).is_none_or(|n| n > limits.tensor_elements_max);
            if output.fact.shape.as_concrete().is_some_and(too_large) {
                bail!(
                    "node {:?} makes a tensor of shape {:?}, at most {} elements are accepted",
                    node.name,
                    output.fact.shape,
                    limits.tensor_elements_max
                );
            }
        }
    }
    Ok(())
}

/// Sums what tract says its convolutions and products cost (pooling and additions are not multiplications); `None`
/// where a cost is not known or depends on the data.
fn count_macs(model: &TypedModel) -> Option<u64> {
    let mut sum = 0u64;
    for node in model.nodes().iter().filter(|node| matches!(&*node.op.name(), "Conv" | "Deconv" | "EinSum")) {
        let facts = model.node_input_facts(node.id).ok()?;
        for (cost, count) in node.op.cost(&facts).ok()? {
            if matches!(cost, Cost::FMA(_)) {
                sum = sum.checked_add(macs_of(&count)?)?;
            }
        }
    }
    Some(sum)
}

fn macs_of(count: &TDim) -> Option<u64> {
    count.to_i64().ok().and_then(|n| u64::try_from(n).ok())
}

//! What steps are, for people.

use super::{build::Dispatch, stages::Stage};
use whimbrel_infer::{Engine, LayerInfo, plan::Plan};

/// The kernels of a step.
pub(super) fn kernels(dispatches: &[Dispatch]) -> String {
    let names: Vec<&str> = dispatches.iter().map(|dispatch| dispatch.kernel.shader.name).collect();
    format!("{} wgsl", names.join(" + "))
}

/// What the steps of a plan on the other engine are: that engine is what stands in for kernels.
pub(super) fn of_other<F: Engine>(other: &F, prepared: &F::Prepared) -> Vec<LayerInfo> {
    let stands_in = |layer: &LayerInfo| LayerInfo {
        fallback: Some(layer.fallback.unwrap_or_else(|| other.name())),
        ..layer.clone()
    };
    other.layers(prepared).iter().map(stands_in).collect()
}

/// What the steps of a plan are: those with kernels by these, the rest by what the other engine says.
pub(super) fn of_plan<F: Engine>(
    other: &F,
    plan: &Plan,
    kernels: Vec<Option<String>>,
    stages: &[Stage<F>],
) -> Vec<LayerInfo> {
    let islands = stages.iter().filter_map(|stage| match stage {
        Stage::Island { prepared, .. } => Some(of_other(other, prepared)),
        Stage::Kernels { .. } => None,
    });
    let mut elsewhere = islands.flatten();
    let steps = plan.steps.iter().zip(kernels);
    let layer = steps.filter_map(|(step, kernel)| match kernel {
        None => elsewhere.next(),
        Some(kernel) => Some(LayerInfo {
            name: step.name.clone(),
            operators: step.operators.clone(),
            kernel,
            fallback: None,
            shape: step.outputs.first().map_or_else(Vec::new, |id| plan.buffer(*id).shape.clone()),
            macs: step.operation.macs(),
        }),
    });
    layer.collect()
}

//! Makes the layers of a plan, on several threads.

use super::{CpuEngine, layer::Layer};
use crate::threads::team;
use whimbrel_infer::{
    CompileError,
    plan::{Operation, Plan},
};

/// The layers of a plan's steps, in their order. Each step's weights exist only while they are packed.
pub(super) fn layers(engine: &CpuEngine, plan: &Plan) -> Result<Vec<Layer>, CompileError> {
    // Those with most weights first, so that the threads end at about the same time.
    let mut order: Vec<usize> = (0..plan.steps.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(weights(&plan.steps[*index].operation)));
    let mut layers: Vec<(usize, Option<Made>)> = order.into_iter().map(|index| (index, None)).collect();
    let mut team = team().claim(engine.threads, engine.cores);
    let mut rest = &mut layers[..];
    // A layer for each thread, then others may have some of the processors: they answer requests meanwhile.
    while !rest.is_empty() {
        team.adjust();
        let (here, later) = rest.split_at_mut(team.threads().min(rest.len()));
        team.each(here, |_, (index, made)| *made = Some(Layer::new(engine.isa, plan, &plan.steps[*index])));
        rest = later;
    }
    drop(team);
    layers.sort_by_key(|(index, _)| *index);
    layers.into_iter().filter_map(|(_, made)| made).collect()
}

type Made = Result<Layer, CompileError>;

fn weights(operation: &Operation) -> usize {
    match operation {
        Operation::QConv(conv) | Operation::DynamicConv(conv) => conv.weights.len(),
        Operation::Conv(conv) => conv.weights.len(),
        _ => 0,
    }
}

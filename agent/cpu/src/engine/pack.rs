//! Makes the layers of a plan, on several threads.

use super::layer::Layer;
use crate::{isa::Isa, threads::team};
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};
use whimbrel_infer::{
    CompileError,
    plan::{Operation, Plan},
};

/// The layers of a plan's steps, in their order. Each step's weights exist only while they are packed.
pub(super) fn layers(isa: Isa, threads: usize, plan: &Plan) -> Result<Vec<Layer>, CompileError> {
    // Those with most weights first, so that the threads end at about the same time.
    let mut order: Vec<usize> = (0..plan.steps.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(weights(&plan.steps[*index].operation)));
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(order.len())));
    let work = || {
        while let Some(index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let layer = Layer::new(isa, plan, &plan.steps[*index]);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((*index, layer));
        }
    };
    let team = team().claim(threads);
    let mut parts = vec![(); team.threads()];
    team.each(&mut parts, |_, ()| work());
    drop(team);
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, layer)| layer).collect()
}

fn weights(operation: &Operation) -> usize {
    match operation {
        Operation::QConv(conv) | Operation::DynamicConv(conv) => conv.weights.len(),
        Operation::Conv(conv) => conv.weights.len(),
        _ => 0,
    }
}

//! What of a plan runs on the device, and what on the other engine.

use super::build::{Builder, Dispatch};
use crate::kernels;
use std::{ops::Range, sync::Arc};
use whimbrel_infer::{
    CompileError, Datatype, Engine, Tensor,
    plan::{BufferId, Place, Plan, Step},
};

/// Steps that run in one place, one after another.
pub(crate) enum Stage<F: Engine> {
    /// On the device; then these bytes of the arena are fetched.
    Kernels {
        /// What runs.
        dispatches: Vec<Dispatch>,
        /// How many of these each step has.
        steps: Vec<usize>,
        /// What is asked for afterwards.
        fetched: Vec<Slot>,
    },
    /// On the other engine, for which there is no kernel.
    Island {
        /// The steps, as a plan over the same arena.
        prepared: Arc<F::Prepared>,
        /// Where its results go.
        results: Vec<Slot>,
    },
}

impl<F: Engine> Stage<F> {
    /// What runs on the device.
    pub(crate) fn dispatches(&self) -> &[Dispatch] {
        match self {
            Self::Kernels { dispatches, .. } => dispatches,
            Self::Island { .. } => &[],
        }
    }

    /// Bytes that are fetched, in whole words.
    pub(crate) fn fetched_bytes(&self) -> usize {
        match self {
            Self::Kernels { fetched, .. } => fetched.iter().map(Slot::padded_bytes).sum(),
            Self::Island { .. } => 0,
        }
    }
}

/// A tensor in the arena.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slot {
    /// Where it begins, in bytes.
    pub(crate) start: usize,
    /// Its bytes.
    pub(crate) bytes: usize,
    /// Its element type.
    pub(crate) datatype: Datatype,
    /// Its sizes.
    pub(crate) shape: Vec<usize>,
}

impl Slot {
    fn of(plan: &Plan, id: BufferId) -> Option<Self> {
        let buffer = plan.buffer(id);
        let Place::Arena(start) = buffer.place else { return None };
        let (bytes, datatype, shape) = (buffer.size_bytes(), buffer.datatype, buffer.shape.clone());
        Some(Self { start, bytes, datatype, shape })
    }

    fn range(&self) -> Range<usize> {
        self.start..self.start + self.bytes
    }

    /// Its bytes in whole words.
    pub(crate) const fn padded_bytes(&self) -> usize {
        self.bytes.next_multiple_of(4)
    }
}

/// An answer of a plan.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// The next of what the last stage fetches.
    Fetched,
    /// A constant of the model.
    Constant(Arc<Tensor>),
}

/// Where given tensors go, and where answers are.
#[derive(Debug)]
pub(crate) struct Ends {
    /// Nothing where a constant stands in for what is given.
    pub(crate) inputs: Vec<Option<Slot>>,
    pub(crate) outputs: Vec<Answer>,
}

impl Ends {
    pub(crate) fn of(plan: &Plan) -> Self {
        let answer = |id: &BufferId| match &plan.buffer(*id).place {
            Place::Constant(tensor) => Answer::Constant(Arc::clone(tensor)),
            _ => Answer::Fetched,
        };
        Self {
            inputs: plan.inputs.iter().map(|id| Slot::of(plan, *id)).collect(),
            outputs: plan.outputs.iter().map(answer).collect(),
        }
    }
}

/// The dispatches of each step; nothing where no kernel does it.
///
/// # Errors
/// A step is beyond what the device can take.
pub(crate) fn lower(b: &mut Builder<'_>) -> Result<Vec<Option<Vec<Dispatch>>>, CompileError> {
    b.plan.steps.iter().map(|step| kernels::lower(b, step)).collect()
}

/// Splits a plan: stages of kernels and islands by turns, kernels first and last.
///
/// # Errors
/// The other engine refuses a step that has no kernel.
pub(crate) fn split<F: Engine>(
    plan: &Plan,
    lowered: Vec<Option<Vec<Dispatch>>>,
    other: &F,
) -> Result<Vec<Stage<F>>, CompileError> {
    let mut stages = Vec::new();
    let (mut dispatches, mut steps) = (Vec::new(), Vec::new());
    let mut lowered = lowered.into_iter().enumerate().peekable();
    while let Some((at, list)) = lowered.next() {
        if let Some(mut list) = list {
            steps.push(list.len());
            dispatches.append(&mut list);
            continue;
        }
        while lowered.next_if(|(_, list)| list.is_none()).is_some() {}
        let end = lowered.peek().map_or(plan.steps.len(), |(index, _)| *index);
        let Island { inner, given, results } = island(plan, at..end);
        let (dispatches, steps) = (std::mem::take(&mut dispatches), std::mem::take(&mut steps));
        stages.push(Stage::Kernels { dispatches, steps, fetched: given });
        stages.push(Stage::Island { prepared: Arc::new(other.prepare(inner)?), results });
    }
    let fetched = plan.outputs.iter().filter_map(|id| Slot::of(plan, *id)).collect();
    stages.push(Stage::Kernels { dispatches, steps, fetched });
    Ok(stages)
}

struct Island {
    inner: Plan,
    given: Vec<Slot>,
    results: Vec<Slot>,
}

/// Some steps as a plan of their own: what they read from before is given, and what is read afterwards is their result.
fn island(plan: &Plan, steps: Range<usize>) -> Island {
    let inside = &plan.steps[steps.clone()];
    let mut written: Vec<Range<usize>> = Vec::new();
    let (mut inputs, mut outputs): (Vec<BufferId>, Vec<BufferId>) = (Vec::new(), Vec::new());
    for step in inside {
        for id in &step.inputs {
            let Some(range) = arena_range(plan, *id) else { continue };
            let made = written.iter().any(|made| made.start <= range.start && range.end <= made.end);
            if !made && !inputs.contains(id) {
                inputs.push(*id);
            }
        }
        written.extend(step.outputs.iter().filter_map(|id| arena_range(plan, *id)));
    }
    let later = reads(plan, &plan.steps[steps.end..]);
    for id in inside.iter().flat_map(|step| &step.outputs) {
        let Some(range) = arena_range(plan, *id) else { continue };
        let read = later.iter().any(|read| read.start < range.end && range.start < read.end);
        if read && !outputs.contains(id) {
            outputs.push(*id);
        }
    }
    let slots = |ids: &[BufferId]| ids.iter().filter_map(|id| Slot::of(plan, *id)).collect();
    let (given, results) = (slots(&inputs), slots(&outputs));
    let inner = Plan { steps: inside.to_vec(), inputs, outputs, ..plan.clone() };
    Island { inner, given, results }
}

/// The bytes of the arena that a buffer has; none where it is empty or lies elsewhere.
fn arena_range(plan: &Plan, id: BufferId) -> Option<Range<usize>> {
    Slot::of(plan, id).map(|slot| slot.range()).filter(|range| !range.is_empty())
}

/// What steps and the plan's answers read of the arena.
fn reads(plan: &Plan, steps: &[Step]) -> Vec<Range<usize>> {
    let inputs = steps.iter().flat_map(|step| &step.inputs);
    inputs.chain(&plan.outputs).filter_map(|id| arena_range(plan, *id)).collect()
}

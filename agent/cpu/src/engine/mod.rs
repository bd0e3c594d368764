//! Runs plans: each step a packed layer over slices of one arena.
//!
//! | module | holds |
//! |---|---|
//! | `layer` | operations made ready: weights packed, tables built, an instruction set chosen |
//! | `arena` | the memory of a run, and the slices that a step may see of it |
//! | `execute` | steps over slices, in parts |
//! | `recurrent` | recurrent layers as layers |
//! | `copy` | concatenation and transposition of elements of any size |

mod arena;
mod copy;
mod execute;
mod layer;
mod recurrent;

use crate::{
    isa::Isa,
    threads::{THREADS_MAX, team},
};
use arena::{Source, State};
use layer::Layer;
use std::{ops::Range, sync::Arc};
use whimbrel_infer::{
    Backend, CompileError, Datatype, Engine, LoadError, LoadOptions, Model, RunError, Tensor, plan::Plan,
    program,
};

/// The backend of this crate.
pub struct Cpu;

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn load(&self, onnx: &[u8], options: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
        let isa = Isa::chosen().map_err(|e| LoadError::Processor { why: e.to_string() })?;
        let threads = options.threads.map_or(1, std::num::NonZeroUsize::get).min(THREADS_MAX);
        program::load(CpuEngine { isa, threads }, onnx, options)
    }

    fn knows(&self, operator: &str) -> bool {
        program::knows(operator)
    }
}

/// Runs plans on an instruction set and at most so many threads.
#[derive(Debug, Clone, Copy)]
pub struct CpuEngine {
    /// Which kernels.
    pub isa: Isa,
    /// The most threads of a run, the caller's included.
    pub threads: usize,
}

/// A plan made ready.
pub struct Prepared {
    steps: Vec<Ready>,
    /// Where the given tensors go.
    inputs: Vec<Source>,
    outputs: Vec<Answer>,
    arena_bytes: usize,
    /// Of one thread.
    scratch_bytes: usize,
    /// Slots outside the arena.
    outside: usize,
}

/// A step made ready.
struct Ready {
    layer: Layer,
    inputs: Vec<Source>,
    outputs: Vec<Source>,
}

/// Where an answer is, and what it is.
struct Answer {
    from: Source,
    datatype: Datatype,
    shape: Vec<usize>,
}

impl Engine for CpuEngine {
    type Prepared = Prepared;
    type State = State;

    fn name(&self) -> &'static str {
        "cpu"
    }

    fn prepare(&self, plan: Plan) -> Result<Prepared, CompileError> {
        let mut steps = Vec::with_capacity(plan.steps.len());
        let mut scratch_bytes = 0;
        for step in &plan.steps {
            let layer = Layer::new(self.isa, &plan, step)?;
            scratch_bytes = scratch_bytes.max(layer.scratch_bytes());
            let source = |id: &whimbrel_infer::plan::BufferId| Source::of(plan.buffer(*id));
            let inputs = step.inputs.iter().map(source).collect();
            let outputs = step.outputs.iter().map(source).collect();
            steps.push(Ready { layer, inputs, outputs });
        }
        let answer = |id: &whimbrel_infer::plan::BufferId| {
            let buffer = plan.buffer(*id);
            Answer { from: Source::of(buffer), datatype: buffer.datatype, shape: buffer.shape.clone() }
        };
        Ok(Prepared {
            steps,
            inputs: plan.inputs.iter().map(|id| Source::of(plan.buffer(*id))).collect(),
            outputs: plan.outputs.iter().map(answer).collect(),
            arena_bytes: plan.arena_bytes,
            scratch_bytes,
            outside: plan.outside,
        })
    }

    fn state(&self, prepared: &Arc<Prepared>) -> State {
        State::new(prepared.arena_bytes, prepared.scratch_bytes, self.threads, prepared.outside)
    }

    fn run(
        &self,
        prepared: &Prepared,
        state: &mut State,
        inputs: &[&Tensor],
    ) -> Result<Vec<Tensor>, RunError> {
        for (tensor, to) in inputs.iter().zip(&prepared.inputs) {
            state.store(to, tensor)?;
        }
        let team = team().claim(self.threads);
        for ready in &prepared.steps {
            execute::step(self.isa, ready, state, &team)?;
        }
        drop(team);
        prepared.outputs.iter().map(|answer| state.load(answer)).collect()
    }
}

/// The bytes of an arena range with the slack after it.
fn with_slack(range: &Range<usize>, arena_len: usize) -> Range<usize> {
    range.start..(range.end + whimbrel_infer::plan::SLACK_BYTES).min(arena_len)
}

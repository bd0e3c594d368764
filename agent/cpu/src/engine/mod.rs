//! Runs plans: each step a packed layer over slices of one arena.
//!
//! | module | holds |
//! |---|---|
//! | `layer` | operations made ready: weights packed, tables built, an instruction set chosen |
//! | `footprint` | what plans take of memory, before and after they are made ready |
//! | `info` | what steps are, for people |
//! | `pack` | makes the layers of a plan, on several threads |
//! | `arena` | the memory of a run, and the slices that a step may see of it |
//! | `execute` | steps over slices, in parts |
//! | `recurrent` | recurrent layers as layers |
//! | `restore` | layers whose weights were packed before |
//! | `trust` | what is known of packed parts in a cache |
//! | `copy` | concatenation and transposition of elements of any size |

mod arena;
mod copy;
mod execute;
mod footprint;
mod info;
mod layer;
mod pack;
mod recurrent;
mod restore;
mod trust;

use crate::{
    isa::Isa,
    threads::{Claimed, THREADS_MAX, team},
};
use arena::{Source, State};
use layer::Layer;
use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};
use trust::Trust;
use whimbrel_infer::{
    Backend, CompileError, Cores, Datatype, Engine, Footprint, LayerInfo, LoadError, LoadOptions, Model,
    RunError, Source as File, Tensor,
    cache::{Blob, Part, Piece},
    plan::{BufferId, Plan, Step},
    program,
};

/// The backend of this crate.
pub struct Cpu;

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn load(&self, onnx: &[u8], options: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
        self.load_source(&File::of_bytes(onnx.to_vec()), options)
    }

    fn load_source(&self, source: &File, options: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
        program::load(CpuEngine::new(options)?, source, options)
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
    /// The processors that runs are bound to; any where it is not said.
    pub cores: Option<Cores>,
}

impl CpuEngine {
    /// On the best instruction set of this processor, or the one that `WHIMBREL_CPU` names.
    ///
    /// # Errors
    /// The processor lacks what was asked of it, or has not the cores.
    pub fn new(options: &LoadOptions) -> Result<Self, LoadError> {
        let isa = Isa::chosen().map_err(|e| LoadError::Processor { why: e.to_string() })?;
        let threads = options.threads.map_or(1, std::num::NonZeroUsize::get).min(THREADS_MAX);
        if let Some(cores) = options.cores
            && cores.among(team().processors()).is_none()
        {
            let why = format!("bound to processors {cores}, and there are {}", team().processors());
            return Err(LoadError::Processor { why });
        }
        Ok(Self { isa, threads, cores: options.cores })
    }
}

/// A plan made ready.
pub struct Prepared {
    steps: Vec<Ready>,
    /// What each step is.
    layers: Vec<LayerInfo>,
    /// Where the given tensors go.
    inputs: Vec<Source>,
    outputs: Vec<Answer>,
    arena_bytes: usize,
    footprint: Footprint,
    /// Of one thread.
    scratch_bytes: usize,
    /// Slots outside the arena.
    outside: usize,
    trust: Trust,
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

    fn estimate(&self, plan: &Plan) -> Footprint {
        footprint::estimate(self.isa, self.threads, plan)
    }

    fn footprint(&self, prepared: &Prepared) -> Option<Footprint> {
        Some(prepared.footprint)
    }

    fn prepare(&self, plan: Plan) -> Result<Prepared, CompileError> {
        let layers = pack::layers(self, &plan)?;
        Ok(self.prepared(&plan, layers, Trust::default()))
    }

    fn packs_for(&self) -> Option<String> {
        let (version, build) = (env!("CARGO_PKG_VERSION"), env!("WHIMBREL_BUILD"));
        Some(format!("cpu-{} {version} {build} {}", self.isa, std::env::consts::ARCH))
    }

    fn packed(&self, prepared: &Prepared) -> Option<Vec<Vec<Piece<Part>>>> {
        Some(prepared.steps.iter().map(|ready| restore::packed(&ready.layer)).collect())
    }

    fn restore(&self, plan: Plan, packed: Vec<Vec<Piece<Blob>>>) -> Option<Prepared> {
        if plan.steps.len() != packed.len() {
            return None;
        }
        let parts = |pieces: &Vec<Piece<Blob>>| pieces.iter().flat_map(|piece| piece.parts.clone()).collect();
        let trust = Trust::open(packed.iter().map(parts).collect());
        // Layers take for granted what a plan of a model keeps to: one from elsewhere that does not is no plan.
        trust::guarded(|| {
            let steps = plan.steps.iter().zip(&packed);
            let layers = steps.map(|(step, pieces)| restore::restored(self.isa, &plan, step, pieces));
            Some(self.prepared(&plan, layers.collect::<Option<_>>()?, trust))
        })?
    }

    fn is_damaged(&self, prepared: &Prepared) -> bool {
        prepared.trust.is_damaged()
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
        self.around(prepared, state, inputs, |ready, state, team| execute::step(self.isa, ready, state, team))
    }

    fn layers<'a>(&self, prepared: &'a Prepared) -> &'a [LayerInfo] {
        &prepared.layers
    }

    fn run_timed(
        &self,
        prepared: &Prepared,
        state: &mut State,
        inputs: &[&Tensor],
        times: &mut Vec<Duration>,
    ) -> Result<Vec<Tensor>, RunError> {
        self.around(prepared, state, inputs, |ready, state, team| {
            let start = Instant::now();
            execute::step(self.isa, ready, state, team)?;
            times.push(start.elapsed());
            Ok(())
        })
    }
}

impl CpuEngine {
    /// A plan and its layers.
    fn prepared(&self, plan: &Plan, layers: Vec<Layer>, trust: Trust) -> Prepared {
        let scratch_bytes = layers.iter().map(Layer::scratch_bytes).max().unwrap_or(0);
        let footprint = footprint::of_layers(self.threads, plan, &layers, scratch_bytes);
        let source = |id: &BufferId| Source::of(plan.buffer(*id));
        let ready = |(layer, step): (Layer, &Step)| Ready {
            layer,
            inputs: step.inputs.iter().map(source).collect(),
            outputs: step.outputs.iter().map(source).collect(),
        };
        let steps = layers.into_iter().zip(&plan.steps).map(ready).collect();
        let answer = |id: &BufferId| {
            let buffer = plan.buffer(*id);
            Answer { from: Source::of(buffer), datatype: buffer.datatype, shape: buffer.shape.clone() }
        };
        let layers = plan.steps.iter().map(|step| info::layer(self.isa, plan, step)).collect();
        Prepared {
            steps,
            layers,
            inputs: plan.inputs.iter().map(|id| Source::of(plan.buffer(*id))).collect(),
            outputs: plan.outputs.iter().map(answer).collect(),
            arena_bytes: plan.arena_bytes,
            footprint,
            scratch_bytes,
            outside: plan.outside,
            trust,
        }
    }

    /// Runs a plan, each step by `step`.
    fn around(
        &self,
        prepared: &Prepared,
        state: &mut State,
        inputs: &[&Tensor],
        mut step: impl FnMut(&Ready, &mut State, &Claimed<'_>) -> Result<(), RunError>,
    ) -> Result<Vec<Tensor>, RunError> {
        for (tensor, to) in inputs.iter().zip(&prepared.inputs) {
            state.store(to, tensor)?;
        }
        let mut team = team().claim(self.threads, self.cores);
        let trust = &prepared.trust;
        let open = trust.is_open();
        for (index, ready) in prepared.steps.iter().enumerate() {
            team.adjust();
            if open {
                trust.check(index)?;
                trust.watch(|| step(ready, state, &team))?;
            } else {
                step(ready, state, &team)?;
            }
        }
        if open {
            trust.close();
        }
        drop(team);
        prepared.outputs.iter().map(|answer| state.load(answer)).collect()
    }
}

/// The bytes of an arena range with the slack after it.
fn with_slack(range: &Range<usize>, arena_len: usize) -> Range<usize> {
    range.start..(range.end + whimbrel_infer::plan::SLACK_BYTES).min(arena_len)
}

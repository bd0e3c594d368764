//! Runs plans on a GPU.
//!
//! A plan's own arena, offsets and all, is one buffer on the device, bound for reading and writing. Steps become a flat list of dispatches;
//! all of them go into one pass of one submission, and what is asked for comes back through one staging buffer. Steps for which there is
//! no kernel run on another engine between two submissions: what they read is fetched, and what they write is put back, at the same
//! offsets. Where the device is lost or has no memory left, that engine runs the whole plan.
//!
//! | module | holds |
//! |---|---|
//! | `build` | places, constants and scratch memory of dispatches |
//! | `footprint` | memory that plans take |
//! | `info` | what steps are, for people |
//! | `pipelines` | pipelines and the layout that they share |
//! | `run` | the memory of a run, and runs |
//! | `stages` | what runs where |
//! | `tables` | functions of bytes, as the other engine computes them |

pub(crate) mod build;
mod footprint;
mod info;
pub(crate) mod pipelines;
mod run;
mod stages;
pub(crate) mod tables;

use crate::device::{Gpu, GpuError};
use build::Builder;
use run::Passes;
use run::State;
use stages::{Ends, Stage};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use whimbrel_infer::{CompileError, Engine, Footprint, LayerInfo, RunError, Tensor, plan::Plan};

/// Runs plans on a GPU, and on another engine what no kernel does.
#[derive(Debug)]
pub struct GpuEngine<F> {
    gpu: Arc<Gpu>,
    fallback: F,
}

/// A plan made ready.
pub struct Prepared<F: Engine> {
    runs: Runs<F>,
    layers: Vec<LayerInfo>,
    footprint: Footprint,
    /// What the other engine runs when the device is lost.
    plan: Plan,
    /// That plan made ready.
    stand_in: OnceLock<Arc<F::Prepared>>,
}

impl<F: Engine> Prepared<F> {
    /// The plan, ready on the other engine.
    fn stand_in(&self, other: &F) -> Result<Arc<F::Prepared>, CompileError> {
        if let Some(prepared) = self.stand_in.get() {
            return Ok(Arc::clone(prepared));
        }
        let prepared = Arc::new(other.prepare(self.plan.clone())?);
        Ok(Arc::clone(self.stand_in.get_or_init(|| prepared)))
    }
}

/// What runs a plan.
enum Runs<F: Engine> {
    /// The device, at least in part.
    Device(Whole<F>),
    /// The other engine: no step of it has a kernel, or it holds what has no size.
    Other,
}

/// A plan on the device.
struct Whole<F: Engine> {
    passes: Passes,
    stages: Vec<Stage<F>>,
    ends: Ends,
}

impl<F> GpuEngine<F> {
    /// On an open device.
    pub(crate) const fn new(gpu: Arc<Gpu>, fallback: F) -> Self {
        Self { gpu, fallback }
    }

    /// A plan that the other engine runs as a whole.
    fn elsewhere(&self, plan: Plan) -> Result<Prepared<F>, CompileError>
    where
        F: Engine,
    {
        let prepared = Arc::new(self.fallback.prepare(plan.clone())?);
        let layers = info::of_other(&self.fallback, &prepared);
        let footprint = self.fallback.footprint(&prepared).unwrap_or_default();
        Ok(Prepared { runs: Runs::Other, layers, footprint, plan, stand_in: OnceLock::from(prepared) })
    }

    /// Takes the device away, as a driver does that resets it: for tests of what happens then.
    #[doc(hidden)]
    pub fn lose_device(&self) {
        self.gpu.device.destroy();
    }
}

fn failed(error: &GpuError) -> CompileError {
    CompileError::Failed { why: error.to_string() }
}

impl<F: Engine> Engine for GpuEngine<F> {
    type Prepared = Prepared<F>;
    type State = State<F>;

    fn name(&self) -> &'static str {
        "gpu"
    }

    fn estimate(&self, plan: &Plan) -> Footprint {
        footprint::estimate(&self.fallback, plan)
    }

    fn footprint(&self, prepared: &Prepared<F>) -> Option<Footprint> {
        Some(prepared.footprint)
    }

    fn prepare(&self, plan: Plan) -> Result<Prepared<F>, CompileError> {
        if plan.outside > 0 {
            return self.elsewhere(plan);
        }
        let limits = self.gpu.device.limits();
        let buffer_bytes_max = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let mut builder = Builder::new(&plan, &self.fallback, buffer_bytes_max);
        builder.invocations_min = self.gpu.invocations_min;
        builder.subgroup = self.gpu.subgroup;
        let lowered = stages::lower(&mut builder)?;
        if lowered.iter().all(Option::is_none) {
            return self.elsewhere(plan);
        }
        let kernels = lowered.iter().map(|list| list.as_deref().map(info::kernels)).collect();
        let stages = stages::split(&plan, lowered, &self.fallback)?;
        if builder.arena_bytes as u64 > buffer_bytes_max {
            let (needs, most) = (builder.arena_bytes, buffer_bytes_max);
            let why = format!("its tensors take {needs} bytes, the GPU gives a shader at most {most}");
            return Err(CompileError::Failed { why });
        }
        let passes = Passes::new(&self.gpu, builder, &stages).map_err(|e| failed(&e))?;
        let layers = info::of_plan(&self.fallback, &plan, kernels, &stages);
        let footprint = footprint::found(&self.fallback, &passes, &stages);
        let runs = Runs::Device(Whole { passes, stages, ends: Ends::of(&plan) });
        Ok(Prepared { runs, layers, footprint, plan, stand_in: OnceLock::new() })
    }

    fn state(&self, prepared: &Arc<Prepared<F>>) -> State<F> {
        State::new(&self.gpu, &self.fallback, prepared)
    }

    fn run(
        &self,
        prepared: &Prepared<F>,
        state: &mut State<F>,
        inputs: &[&Tensor],
    ) -> Result<Vec<Tensor>, RunError> {
        state.run(&self.gpu, &self.fallback, prepared, (inputs, None))
    }

    fn layers<'a>(&self, prepared: &'a Prepared<F>) -> &'a [LayerInfo] {
        &prepared.layers
    }

    fn run_timed(
        &self,
        prepared: &Prepared<F>,
        state: &mut State<F>,
        inputs: &[&Tensor],
        times: &mut Vec<Duration>,
    ) -> Result<Vec<Tensor>, RunError> {
        state.run(&self.gpu, &self.fallback, prepared, (inputs, Some(times)))
    }
}

//! What runs a plan.

use crate::{
    cache::{Blob, Part, Piece},
    compile::CompileError,
    error::RunError,
    memory::Footprint,
    plan::Plan,
    profile::LayerInfo,
    tensor::Tensor,
};
use std::{sync::Arc, time::Duration};

/// A processor that runs plans.
pub trait Engine: Send + Sync + 'static {
    /// A plan made ready: weights packed, kernels chosen.
    type Prepared: Send + Sync + 'static;
    /// The working memory of one run at a time.
    type State: Send + 'static;

    /// Its name on command lines and in reports.
    fn name(&self) -> &'static str;

    /// What a plan will take, told before anything of it is allocated: rather too much than too little.
    fn estimate(&self, plan: &Plan) -> Footprint;

    /// What a plan has turned out to take, and each of its runs will; `None` where the engine cannot tell.
    fn footprint(&self, _prepared: &Self::Prepared) -> Option<Footprint> {
        None
    }

    /// Makes a plan ready.
    ///
    /// # Errors
    /// The plan asks for what the processor cannot do, or for more memory than there is.
    fn prepare(&self, plan: Plan) -> Result<Self::Prepared, CompileError>;

    /// Says what packed parts depend on besides the plan, the build included, after a word that files can be called by; `None` where
    /// plans are not to be kept.
    fn packs_for(&self) -> Option<String> {
        None
    }

    /// What was packed for each step, from which [`Self::restore`] makes the plan ready again; `None` where that cannot be done.
    fn packed(&self, prepared: &Self::Prepared) -> Option<Vec<Vec<Piece<Part>>>> {
        let _ = prepared;
        None
    }

    /// Makes a plan ready without its weights: they were packed before. What the parts hold is looked at when they are first used.
    /// `None` where plan and pieces do not fit.
    fn restore(&self, plan: Plan, packed: Vec<Vec<Piece<Blob>>>) -> Option<Self::Prepared> {
        let _ = (plan, packed);
        None
    }

    /// Whether a run failed since packed parts were not what was written.
    fn is_damaged(&self, prepared: &Self::Prepared) -> bool {
        let _ = prepared;
        false
    }

    /// Working memory for a plan.
    fn state(&self, prepared: &Arc<Self::Prepared>) -> Self::State;

    /// Runs a plan on tensors of the types and shapes that it was made for.
    ///
    /// # Errors
    /// A node that another library runs failed.
    fn run(
        &self,
        prepared: &Self::Prepared,
        state: &mut Self::State,
        inputs: &[&Tensor],
    ) -> Result<Vec<Tensor>, RunError>;

    /// What the steps of a plan are, in their order; none where the engine does not tell how long they take.
    fn layers<'a>(&self, _prepared: &'a Self::Prepared) -> &'a [LayerInfo] {
        &[]
    }

    /// Runs a plan as [`Self::run`] does, and adds the time of each of [`Self::layers`] to `times`.
    ///
    /// # Errors
    /// See [`Self::run`].
    fn run_timed(
        &self,
        prepared: &Self::Prepared,
        state: &mut Self::State,
        inputs: &[&Tensor],
        _times: &mut Vec<Duration>,
    ) -> Result<Vec<Tensor>, RunError> {
        self.run(prepared, state, inputs)
    }
}

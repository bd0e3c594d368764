//! What is told about each request before it is answered.

use semver::Version;
use std::{sync::Arc, time::Duration};
use whimbrel_infer::Tensor;
use whimbrel_pipeline::Environment;
use whimbrel_wire::ModelName;

/// Told about every request that reached a model, once, before the response is sent, on a thread that may block.
///
/// Requests that never ran (unknown model, malformed, wrong shape, queue full) are not told: they say nothing about
/// the model. They are in the metrics.
pub trait Observer: Send + Sync {
    /// Takes note of one request.
    fn observe(&self, observation: &Observation<'_>);
}

/// How the primary version did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Ok,
    /// It failed; the kind is stable, see [`crate::InferError::kind`].
    Failed {
        /// Which kind of failure.
        kind: &'static str,
    },
}

/// One request.
#[derive(Debug)]
pub struct Observation<'a> {
    /// Which model.
    pub model: &'a ModelName,
    /// The version that serves: the one that `outcome` is about.
    pub version: &'a Version,
    /// How it did.
    pub outcome: Outcome,
    /// The version whose answer is sent: another than `version` where the fallback stepped in, `None` where nobody
    /// answered.
    pub answered_by: Option<&'a Version>,
    /// From the start of the steps before the model to the end of those after it, the fallback's included.
    pub latency: Duration,
    /// What the app sent.
    pub inputs: &'a [(String, Arc<Tensor>)],
    /// All tensors after the steps behind the model, of the version that answered.
    pub environment: Option<&'a Environment>,
}

/// Takes no note of anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn observe(&self, _: &Observation<'_>) {}
}

//! Name to model, fallback, live counts.

use crate::{
    loaded::{Answer, InferError, LoadedModel},
    observer::{Observation, Observer, Outcome},
};
use arc_swap::ArcSwap;
use semver::Version;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use whimbrel_infer::Tensor;
use whimbrel_wire::ModelName;

/// Which model answers to which name. Reading never waits; a request keeps what it found until it is answered.
#[derive(Default)]
pub struct Registry {
    models: ArcSwap<BTreeMap<ModelName, Arc<Serving>>>,
}

/// What answers to one name, and how it has done since it was put there.
pub struct Serving {
    primary: Arc<LoadedModel>,
    fallback: Option<Arc<LoadedModel>>,
    requests: AtomicU64,
    errors: AtomicU64,
}

/// Live counts of the version that serves, since it was put there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests that reached the model, failed ones included.
    pub requests: u64,
    /// Those among them that the model failed, those answered by the fallback included.
    pub errors: u64,
}

/// A request's answer and who gave it.
#[derive(Debug)]
pub struct Answered {
    /// What the app gets.
    pub answer: Answer,
    /// The version that answered.
    pub version: Version,
    /// Whether the fallback stepped in.
    pub fallback: bool,
}

impl Registry {
    /// Puts a model in place of whatever answered to its name, with fresh counts. Requests in flight finish on the old.
    pub fn set(&self, primary: Arc<LoadedModel>, fallback: Option<Arc<LoadedModel>>) {
        let name = primary.name().clone();
        let serving = Arc::new(Serving { primary, fallback, requests: 0.into(), errors: 0.into() });
        self.models.rcu(|models| {
            let mut models = BTreeMap::clone(models);
            models.insert(name.clone(), Arc::clone(&serving));
            models
        });
    }

    /// Takes a model away. Requests in flight finish.
    pub fn remove(&self, name: &ModelName) {
        self.models.rcu(|models| {
            let mut models = BTreeMap::clone(models);
            models.remove(name);
            models
        });
    }

    /// What answers to a name.
    #[must_use]
    pub fn get(&self, name: &ModelName) -> Option<Arc<Serving>> {
        self.models.load().get(name).cloned()
    }

    /// Everything that serves, ordered by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Serving>> {
        self.models.load().values().cloned().collect()
    }

    /// Live counts of the version that serves under that name; zeros where none does.
    #[must_use]
    pub fn traffic(&self, name: &ModelName) -> Traffic {
        self.get(name).map(|serving| serving.traffic()).unwrap_or_default()
    }
}

impl Serving {
    /// The version that serves.
    #[must_use]
    pub const fn primary(&self) -> &Arc<LoadedModel> {
        &self.primary
    }

    /// The version that steps in where the primary fails.
    #[must_use]
    pub const fn fallback(&self) -> Option<&Arc<LoadedModel>> {
        self.fallback.as_ref()
    }

    /// Live counts since this was put in place.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        // Errors first: a count read later may only be higher, and errors never exceed requests.
        let errors = self.errors.load(Ordering::Acquire);
        Traffic { requests: self.requests.load(Ordering::Acquire), errors }
    }

    /// Answers a request: by the primary, or by the fallback where the primary fails. Tells the observer before it
    /// returns. Blocks for as long as the model runs.
    ///
    /// # Errors
    /// The inputs do not fit (not observed, not counted), or both versions failed (the primary's error).
    pub fn answer(
        &self,
        inputs: Vec<(String, Tensor)>,
        observer: &dyn Observer,
    ) -> Result<Answered, InferError> {
        let inputs: Vec<(String, Arc<Tensor>)> = inputs.into_iter().map(|(n, t)| (n, Arc::new(t))).collect();
        let start = Instant::now();
        let (outcome, result) = self.try_both(&inputs)?;
        self.requests.fetch_add(1, Ordering::AcqRel);
        if outcome != Outcome::Ok {
            self.errors.fetch_add(1, Ordering::AcqRel);
        }
        observer.observe(&Observation {
            model: self.primary.name(),
            version: self.primary.version(),
            outcome,
            answered_by: result.as_ref().ok().map(|answered| &answered.version),
            latency: start.elapsed(),
            inputs: &inputs,
            environment: result.as_ref().ok().map(|answered| &answered.answer.environment),
        });
        result
    }

    /// The outer error is a request that is not the model's fault.
    fn try_both(
        &self,
        inputs: &[(String, Arc<Tensor>)],
    ) -> Result<(Outcome, Result<Answered, InferError>), InferError> {
        let answered = |model: &LoadedModel, answer, fallback| Answered {
            answer,
            version: model.version().clone(),
            fallback,
        };
        let error = match self.primary.infer_shared(inputs) {
            Ok(answer) => return Ok((Outcome::Ok, Ok(answered(&self.primary, answer, false)))),
            Err(error) if error.is_bad_input() => return Err(error),
            Err(error) => error,
        };
        let outcome = Outcome::Failed { kind: error.kind() };
        tracing::warn!(model = %self.primary.name(), version = %self.primary.version(), %error, "the model failed");
        let stepped_in = self.fallback.as_ref().and_then(|model| match model.infer_shared(inputs) {
            Ok(answer) => Some(answered(model, answer, true)),
            Err(error) => {
                tracing::warn!(model = %model.name(), version = %model.version(), %error, "the fallback failed too");
                None
            }
        });
        Ok((outcome, stepped_in.ok_or(error)))
    }
}

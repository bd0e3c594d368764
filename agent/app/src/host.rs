//! Models of installed bundles: judged by their golden vectors, put in place, taken away. What the updater's engine asks.

use crate::{
    config::Models,
    failure::chain,
    golden,
    observer::AgentObserver,
    platform::{meminfo_bytes, rss_bytes},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use whimbrel_infer::{Backend, LoadOptions, PlanCache};
use whimbrel_serve::{LoadedModel, Registry};
use whimbrel_updater::{
    engine::{Host, Traffic},
    slots::InstalledBundle,
};
use whimbrel_wire::{
    Digest, ModelName,
    manifest::{Manifest, NeededBackend, Needs},
    report::{Reason, ReasonKind},
};

/// Loads, judges and serves the models of bundles.
#[derive(Clone)]
pub(crate) struct AgentHost {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Arc<Registry>,
    observer: Option<Arc<AgentObserver>>,
    backend: &'static dyn Backend,
    /// What each model may use.
    models: Models,
    /// Per model: the versions that serve or step in, and one that passed its self-test and is about to.
    loaded: Mutex<LoadedVersions>,
}

/// Models by the hash of their bundle, per name.
type LoadedVersions = BTreeMap<ModelName, Vec<(Digest, Arc<LoadedModel>)>>;

impl AgentHost {
    pub(crate) fn new(
        registry: Arc<Registry>,
        observer: Option<Arc<AgentObserver>>,
        backend: &'static dyn Backend,
        models: Models,
    ) -> Self {
        let inner = Inner { registry, observer, backend, models, loaded: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }
}

impl Host for AgentHost {
    fn accepts(&self, manifest: &Manifest) -> Result<(), Reason> {
        preflight(&manifest.needs, self.inner.backend, meminfo_bytes("MemAvailable:"))
    }

    async fn self_test(&self, bundle: &InstalledBundle) -> Result<(), Reason> {
        let (inner, bundle) = (Arc::clone(&self.inner), bundle.clone());
        blocking(move || inner.self_test(&bundle)).await
    }

    async fn serve(
        &self,
        active: &InstalledBundle,
        fallback: Option<&InstalledBundle>,
    ) -> Result<(), Reason> {
        let (inner, active, fallback) = (Arc::clone(&self.inner), active.clone(), fallback.cloned());
        blocking(move || inner.serve(&active, fallback.as_ref())).await
    }

    async fn withdraw(&self, model: &ModelName) {
        self.inner.registry.remove(model);
        self.inner.lock().remove(model);
        tracing::info!(%model, "the model is not served any more");
    }

    fn traffic(&self, model: &ModelName) -> Traffic {
        let whimbrel_serve::Traffic { requests, errors } = self.inner.registry.traffic(model);
        Traffic { requests, errors }
    }
}

impl Inner {
    fn self_test(&self, bundle: &InstalledBundle) -> Result<(), Reason> {
        let needs = &bundle.manifest.needs;
        has_memory(needs, meminfo_bytes("MemAvailable:"))?;
        let before_bytes = rss_bytes();
        let model = self.load(bundle)?;
        // Other threads use memory meanwhile: this is a check against gross excess, not a measurement.
        if let (Some(before_bytes), Some(after_bytes)) = (before_bytes, rss_bytes()) {
            let used_bytes = after_bytes.saturating_sub(before_bytes);
            if used_bytes > needs.memory_bytes_max {
                let detail = format!(
                    "the loaded model takes {used_bytes} bytes of memory, it may take {}",
                    needs.memory_bytes_max
                );
                return Err(Reason::new(ReasonKind::Memory, detail));
            }
        }
        let passed = golden::check(&model, &bundle.dir, &bundle.manifest)?;
        tracing::info!(
            model = %bundle.manifest.name,
            version = %bundle.manifest.version,
            vectors = passed.vectors,
            median = ?passed.median,
            "the self-test passed"
        );
        self.keep(bundle, model);
        Ok(())
    }

    fn serve(&self, active: &InstalledBundle, fallback: Option<&InstalledBundle>) -> Result<(), Reason> {
        let primary = self.load(active)?;
        // A version that steps in is worth having, but its loss must not keep the other from serving.
        let second = fallback.and_then(|bundle| match self.load(bundle) {
            Ok(model) => Some(model),
            Err(reason) => {
                tracing::error!(version = %bundle.manifest.version, %reason, "the fallback cannot be loaded");
                None
            }
        });
        if let Some(observer) = &self.observer {
            observer.watch(&active.manifest);
        }
        self.registry.set(Arc::clone(&primary), second.clone());
        let kept = [Some((active.digest, primary)), fallback.map(|b| b.digest).zip(second)];
        self.lock().insert(active.manifest.name.clone(), kept.into_iter().flatten().collect());
        tracing::info!(
            model = %active.manifest.name,
            version = %active.manifest.version,
            fallback = fallback.map(|b| b.manifest.version.to_string()),
            "serving"
        );
        Ok(())
    }

    /// The model of a bundle: as it was loaded before, or from its files.
    fn load(&self, bundle: &InstalledBundle) -> Result<Arc<LoadedModel>, Reason> {
        let known = self.lock().get(&bundle.manifest.name).and_then(|versions| {
            versions.iter().find(|(digest, _)| *digest == bundle.digest).map(|(_, model)| Arc::clone(model))
        });
        if let Some(model) = known {
            return Ok(model);
        }
        let cache = Some(PlanCache::beside(&bundle.dir, *bundle.digest.as_bytes()));
        let options = LoadOptions { cache, ..self.models.options(&bundle.manifest.name) };
        LoadedModel::from_bundle(&bundle.dir, &bundle.manifest, self.backend, &options).map(Arc::new).map_err(
            |error| {
                let kind = if error.is_memory() { ReasonKind::Memory } else { ReasonKind::Load };
                Reason::new(kind, chain(&error))
            },
        )
    }

    fn keep(&self, bundle: &InstalledBundle, model: Arc<LoadedModel>) {
        let mut loaded = self.lock();
        let versions = loaded.entry(bundle.manifest.name.clone()).or_default();
        if !versions.iter().any(|(digest, _)| *digest == bundle.digest) {
            versions.push((bundle.digest, model));
        }
    }

    fn lock(&self) -> MutexGuard<'_, LoadedVersions> {
        // Whole entries are put in and taken out: nothing is half changed after a panic.
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this device can run a model with such needs, as far as can be told without it.
fn preflight(needs: &Needs, backend: &dyn Backend, available_bytes: Option<u64>) -> Result<(), Reason> {
    let wrong = match needs.backend {
        NeededBackend::Any => None,
        NeededBackend::Cpu => backend.is_gpu().then_some("the processor"),
        NeededBackend::Gpu => (!backend.is_gpu()).then_some("a GPU"),
    };
    if let Some(wrong) = wrong {
        let detail = format!("the bundle needs {wrong}, models are run by {} here", backend.name());
        return Err(Reason::new(ReasonKind::Backend, detail));
    }
    if let Some(operator) = needs.operators.iter().find(|operator| !backend.knows(operator)) {
        let detail = format!("the model uses {operator}, which {} does not know", backend.name());
        return Err(Reason::new(ReasonKind::Operators, detail));
    }
    has_memory(needs, available_bytes)
}

fn has_memory(needs: &Needs, available_bytes: Option<u64>) -> Result<(), Reason> {
    let Some(available_bytes) = available_bytes.filter(|bytes| *bytes < needs.memory_bytes_max) else {
        return Ok(());
    };
    let detail = format!(
        "the bundle needs up to {} bytes of memory, {available_bytes} are available",
        needs.memory_bytes_max
    );
    Err(Reason::new(ReasonKind::Memory, detail))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Reason> + Send + 'static,
) -> Result<T, Reason> {
    // A panic below is the model's or the backend's doing: the version is refused, the agent goes on.
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(Reason::new(ReasonKind::Load, format!("loading or running it panicked: {e}")))
    })
}

#[cfg(test)]
mod tests;

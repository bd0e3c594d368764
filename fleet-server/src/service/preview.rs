//! What a rollout would do, before it is started.

use super::{Fault, Fleet, Kind, observe::has_tags};
use crate::rollout::{Candidate, Costs, preview, to_compare};
use std::sync::Arc;
use whimbrel_updater::bundle::delta;
use whimbrel_wire::{
    Digest,
    api::{NewRollout, RolloutPlan},
    decode,
    index::Index,
};

impl Fleet {
    /// Whom a rollout would ask and what they would fetch. Nothing is started.
    ///
    /// # Errors
    /// Those of [`Self::start_rollout`].
    pub(crate) async fn plan_rollout(&self, new: &NewRollout) -> Result<RolloutPlan, Fault> {
        let model = self.check_new(new).await?;
        let candidates = self.candidates(new).await?;
        // Indexes are large: there is one plan at a time, and in it one index beside the new one.
        let _guard = self.previewing.lock().await;
        let Some(index) = self.index(&model.bundle).await? else {
            let detail = format!("plan a rollout: the index {} of {} is gone", model.bundle, model.target);
            return Err(Fault::new(Kind::Internal, detail));
        };
        let index = Arc::new(index);
        let mut costs =
            Costs { whole_bytes: moved_bytes(None, Arc::clone(&index)).await?, ..Costs::default() };
        for bundle in to_compare(&candidates) {
            // A bundle that was never published here, or is no longer.
            let Some(old) = self.index(&bundle).await? else { continue };
            costs.moved_bytes.insert(bundle, moved_bytes(Some(old), Arc::clone(&index)).await?);
        }
        Ok(preview(new, candidates, &costs))
    }

    async fn candidates(&self, new: &NewRollout) -> Result<Vec<Candidate>, Fault> {
        let tenant = &self.settings().tenant;
        let fleet = self.store().model_fleet(tenant, &new.model).await?;
        let mut active = self.store().active_of(tenant, &new.model).await?;
        let matching = fleet.devices.into_iter().filter(|device| has_tags(&new.tags, device));
        Ok(matching.map(|d| Candidate { active: active.remove(&d.device), device: d.device }).collect())
    }

    async fn index(&self, bundle: &Digest) -> Result<Option<Index>, Fault> {
        let Some(bytes) = self.targets().get(bundle).await? else { return Ok(None) };
        let index = blocking(move || decode(&bytes)).await?;
        let damaged = |e| Fault::new(Kind::Internal, format!("plan a rollout: the index {bundle}: {e}"));
        index.map(Some).map_err(damaged)
    }
}

async fn moved_bytes(old: Option<Index>, new: Arc<Index>) -> Result<u64, Fault> {
    blocking(move || delta(&old, &new).moved_bytes).await
}

/// Carries out what takes a while for large bundles beside the tasks that answer requests.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Fault::internal(&e))
}

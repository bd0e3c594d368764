//! What operators are shown about devices, models and telemetry.

use super::{Fault, Fleet, observe::selects};
use crate::{
    rollout::{Facts, Waiting, why},
    store::{devices::Device, rollouts::ModelFleet},
};
use std::collections::BTreeSet;
use whimbrel_wire::{
    DeviceId, ModelName,
    api::{DeviceView, ModelView, RolloutState, TelemetrySummary},
};

/// A device's view, and what only the web UI shows.
#[derive(Debug, Clone)]
pub(crate) struct DeviceState {
    /// What the API shows.
    pub(crate) view: DeviceView,
    /// Whether its certificates were ended.
    pub(crate) revoked: bool,
    /// Versions it was asked to run.
    pub(crate) desired: Vec<whimbrel_wire::desired::DesiredModel>,
}

impl Fleet {
    /// Every device, in order of name.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn devices(&self) -> Result<Vec<DeviceState>, Fault> {
        let fleets = self.model_fleets().await?;
        let devices = self.store().devices(&self.settings().tenant).await?;
        Ok(devices.into_iter().map(|device| self.device_state(device, &fleets)).collect())
    }

    /// One device.
    ///
    /// # Errors
    /// 404 when there is none of that name.
    pub(crate) async fn device(&self, device: DeviceId) -> Result<DeviceState, Fault> {
        let who = self.address(device);
        let found = self.store().device(&who).await?;
        let found = found.ok_or_else(|| Fault::not_found(format!("there is no device {}", who.device)))?;
        Ok(self.device_state(found, &self.model_fleets().await?))
    }

    /// Every published model version.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn models(&self) -> Result<Vec<ModelView>, Fault> {
        let active = self.store().active_counts(&self.settings().tenant).await?;
        let models = self.store().models().await?;
        let view = |m: crate::store::metadata::Model| ModelView {
            devices_active: active.get(&(m.name.clone(), m.version.clone(), m.bundle)).copied().unwrap_or(0),
            name: m.name,
            version: m.version,
            target: m.target,
            bundle: m.bundle,
            size_bytes: m.size_bytes,
            description: m.description,
        };
        let mut views: Vec<ModelView> = models.into_iter().map(view).collect();
        views.sort_by(|a, b| (&a.name, &b.version).cmp(&(&b.name, &a.version)));
        Ok(views)
    }

    /// Sums of telemetry per model version.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn telemetry(&self) -> Result<Vec<TelemetrySummary>, Fault> {
        Ok(self.store().telemetry_summary(&self.settings().tenant).await?)
    }

    fn device_state(&self, device: Device, fleets: &[(ModelName, ModelFleet)]) -> DeviceState {
        let mut models: BTreeSet<&ModelName> = device.desired.iter().map(|d| &d.name).collect();
        models.extend(device.report.iter().flat_map(|r| &r.models).map(|m| &m.name));
        let waits: Vec<_> = fleets
            .iter()
            .filter_map(|(model, fleet)| waiting(fleet, &device.address.device).map(|w| (model, w)))
            .collect();
        models.extend(waits.iter().map(|(model, _)| *model));
        let sentence = |model: &ModelName| {
            why(&Facts {
                model,
                desired: device.desired.iter().find(|d| d.name == *model),
                reported: device.report.as_ref().and_then(|r| r.models.iter().find(|m| m.name == *model)),
                waiting_for: waits.iter().find(|(m, _)| *m == model).map(|(_, w)| w.borrow()),
            })
        };
        let mut why: Vec<String> = models.iter().map(|m| sentence(m)).collect();
        if device.revoked {
            why.insert(0, "revoked: it must be enrolled again".into());
        } else if why.is_empty() {
            why.push("no rollout matches it yet".into());
        }
        let view = DeviceView {
            online: self.is_online(&device.address),
            seen_ms: self.seen_ms(&device.address, device.seen_ms),
            id: device.address.device,
            tags: device.tags,
            report: device.report,
            why,
        };
        DeviceState { view, revoked: device.revoked, desired: device.desired }
    }
}

/// The newest running or paused rollout that matches a device and has not asked it.
struct Wait<'a> {
    name: String,
    stored: &'a crate::store::rollouts::StoredRollout,
}

impl Wait<'_> {
    fn borrow(&self) -> Waiting<'_> {
        Waiting {
            rollout: &self.name,
            version: &self.stored.spec.version,
            stage: self.stored.rollout.stage,
            stages: &self.stored.spec.stages,
            paused: self.stored.rollout.state == RolloutState::Paused,
        }
    }
}

fn waiting<'a>(fleet: &'a ModelFleet, device: &DeviceId) -> Option<Wait<'a>> {
    let known = fleet.devices.iter().find(|d| d.device == *device)?;
    let live = |s: RolloutState| matches!(s, RolloutState::Running | RolloutState::Paused);
    let stored = fleet.rollouts.iter().rev().find(|r| live(r.rollout.state) && selects(r, known))?;
    let asked = fleet.asked.contains_key(&(stored.id, device.clone()));
    (!asked).then(|| Wait { name: stored.name(), stored })
}

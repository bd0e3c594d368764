//! What the story looks for: in the server's answers, and in what the apps see.

use super::{
    traffic::Tally,
    world::{DEVICES, World},
};
use crate::error::Failure;
use semver::Version;
use std::time::Duration;
use whimbrel_wire::{
    api::{DeviceView, RolloutView},
    report::{ModelReport, Progress, ReasonKind, Update},
};

/// Longest time for one wait within a step.
pub(crate) const WAIT: Duration = Duration::from_secs(180);
/// Answers per device that are seen while something lasts.
const SEEN_MIN: u64 = 60;

/// How a device's attempt at a version ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Confirmed,
    Refused(ReasonKind),
    TakenBack(ReasonKind),
}

impl World {
    /// How the attempts at a version ended on the devices where they did.
    pub(crate) async fn endings(&self, version: &Version) -> Result<Vec<Ending>, Failure> {
        let devices = self.fleet.client.devices().await?;
        let endings = updates(&devices).filter(|u| u.version == *version).filter_map(|u| match &u.progress {
            Progress::Active {} => Some(Ending::Confirmed),
            Progress::Rejected { reason } => Some(Ending::Refused(reason.kind)),
            Progress::RolledBack { reason } => Some(Ending::TakenBack(reason.kind)),
            _ => None,
        });
        Ok(endings.collect())
    }

    /// On how many devices a version is active.
    pub(crate) async fn active(&self, version: &Version) -> Result<usize, Failure> {
        let devices = self.fleet.client.devices().await?;
        let runs = |m: &ModelReport| m.active.as_ref().is_some_and(|a| a.version == *version);
        let reports = devices.iter().filter_map(|d| d.report.as_ref());
        Ok(reports.filter(|r| r.models.iter().any(runs)).count())
    }

    /// Why a rollout stopped, with what its devices say.
    pub(crate) async fn stopped(&self, rollout: &RolloutView) -> Result<String, Failure> {
        let devices = self.fleet.client.devices().await?;
        let said: Vec<String> =
            updates(&devices).map(|u| format!("{} {:?}", u.version, u.progress)).collect();
        Ok(format!(
            "the rollout is {:?}: {}; devices say {}",
            rollout.state,
            rollout.state_reason,
            said.join(", ")
        ))
    }

    /// Requests that the server knows of.
    pub(crate) async fn received(&self) -> Result<u64, Failure> {
        Ok(self.fleet.client.telemetry_summary().await?.iter().map(|s| s.requests).sum())
    }

    /// Waits until every device has gone on answering with a version.
    pub(crate) async fn still_serves(&self, version: &str) -> Result<(), Failure> {
        let what = format!("version {version} to answer on");
        for device in 0..DEVICES {
            self.more(device, &what, |t| t.share(&[version]).of).await?;
        }
        Ok(())
    }

    /// Waits until a device has gone on answering.
    pub(crate) async fn more_answers(&self, device: usize, what: &str) -> Result<(), Failure> {
        self.more(device, what, |t| t.predictions).await
    }

    async fn more(&self, device: usize, what: &str, count: impl Fn(&Tally) -> u64) -> Result<(), Failure> {
        let enough = count(&self.traffic.tally(device)) + SEEN_MIN;
        self.traffic.wait(device, what, WAIT, |t| count(t) >= enough).await.map(drop)
    }
}

/// The last update of every model of every device.
fn updates(devices: &[DeviceView]) -> impl Iterator<Item = &Update> {
    devices.iter().filter_map(|d| d.report.as_ref()).flat_map(|r| &r.models).filter_map(|m| m.update.as_ref())
}

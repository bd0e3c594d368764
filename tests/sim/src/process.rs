//! The device's software while it runs.

use crate::{device::Stopped, disk::SimDisk, host::SimHost, release::model};
use std::time::Duration;
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use whimbrel_wire::{
    desired::DesiredState,
    report::{ModelReport, Update},
};

/// Longer than any update takes, in paused time.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What a process says about its models, the newest only.
pub type Reports = watch::Receiver<Vec<ModelReport>>;

/// The device's software while it runs.
#[derive(Debug)]
pub struct Process {
    /// What serves.
    pub host: SimHost,
    disk: SimDisk,
    desired: watch::Sender<Option<DesiredState>>,
    reports: Reports,
    task: JoinHandle<()>,
}

impl Process {
    /// A process whose engine runs as this task.
    #[must_use]
    pub(crate) fn new(
        host: SimHost,
        disk: SimDisk,
        (desired, reports): (watch::Sender<Option<DesiredState>>, Reports),
        task: JoinHandle<()>,
    ) -> Self {
        Self { host, disk, desired, reports, task }
    }

    /// Passes on what is asked of the device.
    pub(crate) fn ask(&self, state: DesiredState) {
        self.desired.send_replace(Some(state));
    }

    /// Waits until what it says about the update is to the point; `None` when that never comes.
    pub(crate) async fn until<T>(
        &mut self,
        pick: impl Fn(Update) -> Option<T>,
    ) -> Option<Result<T, Stopped>> {
        let disk = self.disk.clone();
        let picked = timeout(PATIENCE, async {
            loop {
                if let Some(picked) = self.update().and_then(&pick) {
                    return picked;
                }
                if self.reports.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        });
        tokio::select! {
            biased;
            () = disk.until_off() => Some(Err(Stopped::PowerOff)),
            picked = picked => picked.ok().map(Ok),
        }
    }

    /// What it says about the model.
    #[must_use]
    pub fn report(&self) -> Option<ModelReport> {
        of_the_model(&self.reports)
    }

    /// What it says, now and later.
    #[must_use]
    pub fn listener(&self) -> Reports {
        self.reports.clone()
    }

    /// What it says about the last update.
    #[must_use]
    pub fn update(&mut self) -> Option<Update> {
        let reports = self.reports.borrow_and_update();
        reports.iter().find(|report| report.name == model()).and_then(|report| report.update.clone())
    }

    /// Ends it in the middle of whatever it does.
    pub async fn kill(self) {
        self.task.abort();
        // Cancelled is how it is meant to end.
        let _ = self.task.await;
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(self) -> Result<(), Stopped> {
        drop(self.desired);
        match timeout(PATIENCE, self.task).await {
            Ok(Ok(())) => Ok(()),
            other => Err(Stopped::Wrong(format!("an orderly stop: {other:?}"))),
        }
    }
}

/// The report of the one model.
pub(crate) fn of_the_model(reports: &Reports) -> Option<ModelReport> {
    reports.borrow().iter().find(|report| report.name == model()).cloned()
}

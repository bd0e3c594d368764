//! The recorder and the spool inside the agent: opened when the disk allows it, and never in the way of an answer.

use crate::{config::Config, failure::chain};
use arc_swap::ArcSwapOption;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::sync::Notify;
use whimbrel_telemetry::{
    BatchId, Observation, Recorder, RecorderConfig, RecorderError, RecorderStat, SledSpool, Spool,
    SpoolConfig, SpoolError, SpoolStat,
};
use whimbrel_wire::{ModelName, telemetry::Reference};

/// How often finished windows are looked for.
const TICK: Duration = Duration::from_millis(500);
/// How often the open journal is made durable, in ticks.
const TICKS_PER_SYNC: u32 = 2;
/// How often opening is tried again while the disk refuses, in ticks.
const TICKS_PER_OPEN: u32 = 20;
/// How often losses are told, where there are new ones, in ticks.
const TICKS_PER_TELLING: u32 = 120;

/// Where telemetry is kept, and how much of it.
#[derive(Debug, Clone)]
pub(crate) struct TelemetrySettings {
    /// `spool/` in the state folder.
    pub(crate) dir: PathBuf,
    pub(crate) window: Duration,
    pub(crate) spool_bytes_max: u64,
}

impl TelemetrySettings {
    /// As the configuration says.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            dir: config.device.state_dir.join("spool"),
            window: config.telemetry.window,
            spool_bytes_max: config.telemetry.spool_bytes_max,
        }
    }
}

/// Why telemetry could not be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error("opening the spool in {}", dir.display())]
    Spool { dir: PathBuf, source: SpoolError },
    #[error("opening the open window in {}", dir.display())]
    Recorder { dir: PathBuf, source: RecorderError },
}

/// Counts what the agent answers, and keeps it until the fleet server has it.
pub(crate) struct Telemetry {
    settings: TelemetrySettings,
    opened: ArcSwapOption<Opened>,
    references: Mutex<BTreeMap<(ModelName, semver::Version), Reference>>,
    unrecorded: AtomicU64,
    /// Told when batches entered the spool.
    pub(crate) stored: Notify,
}

struct Opened {
    spool: Arc<SledSpool>,
    recorder: Recorder,
}

/// What did not reach the disk as it should, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Losses {
    /// Requests answered while nothing was open to count them.
    unrecorded: u64,
    /// Requests that are counted in memory only.
    unjournaled: u64,
    /// Windows that no batch could carry.
    unsendable: u64,
    /// Requests whose features did not fit what is declared.
    mismatched: u64,
}

impl Telemetry {
    /// Opens the files. Where that fails, counting begins once it succeeds: [`Telemetry::keep`] tries again.
    pub(crate) fn new(settings: TelemetrySettings) -> Arc<Self> {
        let telemetry = Self {
            settings,
            opened: ArcSwapOption::empty(),
            references: Mutex::default(),
            unrecorded: AtomicU64::new(0),
            stored: Notify::new(),
        };
        telemetry.open_or_complain();
        Arc::new(telemetry)
    }

    /// Says what is counted of a model version.
    pub(crate) fn register(&self, model: &ModelName, version: &semver::Version, reference: &Reference) {
        let mut references = self.references.lock().unwrap_or_else(PoisonError::into_inner);
        references.insert((model.clone(), version.clone()), reference.clone());
        if let Some(opened) = &*self.opened.load() {
            opened.recorder.register(model, version, reference);
        }
    }

    /// Counts one request.
    pub(crate) fn record(&self, observation: &Observation<'_>) {
        match &*self.opened.load() {
            Some(opened) => opened.recorder.record(observation),
            None => {
                self.unrecorded.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Ends windows, syncs the journal and opens what could not be opened, for ever.
    pub(crate) async fn keep(self: Arc<Self>) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut ticks, mut told) = (0u32, Losses::default());
        loop {
            interval.tick().await;
            ticks = ticks.wrapping_add(1);
            let losses = self.losses();
            if ticks.is_multiple_of(TICKS_PER_TELLING) && losses != told {
                tracing::warn!(?losses, "telemetry is incomplete");
                told = losses;
            }
            let this = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || this.tick(ticks)).await {
                tracing::error!(%error, "keeping telemetry failed");
            }
        }
    }

    /// Ends the open window and stores it: for an orderly stop. Blocks.
    pub(crate) fn finish(&self) {
        if let Some(opened) = &*self.opened.load() {
            match opened.recorder.seal() {
                Ok(batches) => tracing::info!(batches, "the open window was stored"),
                Err(error) => {
                    // Its journal is on disk; the next start stores it.
                    tracing::warn!(error = %chain(&error), "the open window stays in its journal");
                }
            }
        }
    }

    /// Up to `limit` batches that the server has not acknowledged, oldest first. Blocks.
    pub(crate) fn pending(&self, limit: usize) -> Vec<(BatchId, Vec<u8>)> {
        let Some(opened) = &*self.opened.load() else { return Vec::new() };
        opened.spool.pending(limit).unwrap_or_else(|error| {
            tracing::warn!(error = %chain(&error), "pending telemetry could not be read");
            Vec::new()
        })
    }

    /// Forgets batches that the server has stored. Blocks.
    pub(crate) fn acknowledge(&self, ids: &[BatchId]) {
        let Some(opened) = &*self.opened.load() else { return };
        if let Err(error) = opened.spool.acknowledge(ids) {
            // They will be sent again, and dropped there.
            tracing::warn!(error = %chain(&error), "acknowledged telemetry could not be removed");
        }
    }

    fn losses(&self) -> Losses {
        let unrecorded = self.unrecorded.load(Ordering::Relaxed);
        let recorder = self.opened.load().as_ref().map(|o| o.recorder.stat()).unwrap_or_default();
        let RecorderStat { unjournaled, unsendable, mismatched, .. } = recorder;
        Losses { unrecorded, unjournaled, unsendable, mismatched }
    }

    fn tick(&self, ticks: u32) {
        let opened = self.opened.load_full();
        let Some(opened) = opened else {
            if ticks.is_multiple_of(TICKS_PER_OPEN) {
                self.open_or_complain();
            }
            return;
        };
        match opened.recorder.tick(now_ms()) {
            Ok(0) => {}
            Ok(batches) => {
                tracing::debug!(batches, "telemetry stored");
                self.stored.notify_waiters();
            }
            Err(error) => tracing::warn!(error = %chain(&error), "telemetry waits for the disk"),
        }
        if ticks.is_multiple_of(TICKS_PER_SYNC)
            && let Err(error) = opened.recorder.sync()
        {
            tracing::warn!(error = %chain(&error), "the open window could not be synced");
        }
    }

    fn open_or_complain(&self) {
        match self.open() {
            Ok(opened) => {
                let stat = opened.recorder.stat();
                tracing::info!(replayed = stat.replayed, torn_bytes = stat.torn_bytes, "telemetry is kept");
                // Under the lock, so that no registration falls between the copy and the switch.
                let references = self.references.lock().unwrap_or_else(PoisonError::into_inner);
                for ((model, version), reference) in &*references {
                    opened.recorder.register(model, version, reference);
                }
                self.opened.store(Some(Arc::new(opened)));
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "telemetry cannot be kept; answers go on without");
            }
        }
    }

    fn open(&self) -> Result<Opened, TelemetryError> {
        let dir = self.settings.dir.clone();
        let mut config = SpoolConfig::new(dir.join("batches"), now_ms);
        config.size_bytes_max = self.settings.spool_bytes_max;
        let spool = match SledSpool::open(config) {
            Ok(spool) => Arc::new(spool),
            Err(source) => return Err(TelemetryError::Spool { dir, source }),
        };
        let mut config = RecorderConfig::new(dir.join("journal"));
        config.window = self.settings.window;
        let recorder = Recorder::open(config, Arc::clone(&spool) as Arc<dyn Spool>)
            .map_err(|source| TelemetryError::Recorder { dir, source })?;
        Ok(Opened { spool, recorder })
    }
}

/// Reads the figures of a spool that no agent has open.
///
/// # Errors
/// When it is open elsewhere or cannot be read.
pub(crate) fn stat_closed(settings: &TelemetrySettings) -> Result<SpoolStat, TelemetryError> {
    let dir = settings.dir.clone();
    let mut config = SpoolConfig::new(dir.join("batches"), now_ms);
    config.size_bytes_max = settings.spool_bytes_max;
    SledSpool::open(config).map(|spool| spool.stat()).map_err(|source| TelemetryError::Spool { dir, source })
}

/// The device clock, milliseconds since 1970 UTC.
pub(crate) fn now_ms() -> i64 {
    let since = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => since(after),
        Err(before) => -since(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(dir: &std::path::Path) -> TelemetrySettings {
        TelemetrySettings {
            dir: dir.join("spool"),
            window: Duration::from_secs(300),
            spool_bytes_max: 8 << 20,
        }
    }
    fn observation<'a>(model: &'a ModelName, version: &'a semver::Version) -> Observation<'a> {
        Observation {
            model,
            version,
            at_ms: 5,
            latency_ms: 1.0,
            error: None,
            features: &[],
            class: None,
            score: None,
        }
    }

    #[test]
    fn a_disk_that_refuses_at_the_start_stops_nothing_and_is_tried_again() {
        let dir = tempfile::tempdir().expect("folder");
        let settings = settings(dir.path());
        std::fs::write(&settings.dir, b"not a folder").expect("written");
        let telemetry = Telemetry::new(settings.clone());
        let (model, version) = ("digits".parse().expect("valid"), semver::Version::new(1, 0, 0));
        telemetry.record(&observation(&model, &version));
        assert_eq!(telemetry.losses(), Losses { unrecorded: 1, ..Losses::default() });
        std::fs::remove_file(&settings.dir).expect("removed");
        telemetry.tick(TICKS_PER_OPEN);
        telemetry.record(&observation(&model, &version));
        telemetry.finish();
        let ids: Vec<BatchId> = telemetry.pending(9).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), 1);
        assert!(stat_closed(&settings).is_err(), "it is open here");
        telemetry.acknowledge(&ids);
        assert!(telemetry.pending(9).is_empty());
    }
}

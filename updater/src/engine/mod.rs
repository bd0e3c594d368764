//! Runs the update machine of every model against disk, network and host.

mod driver;
mod fetch;
mod host;
mod plan;
mod resolve;
mod work;
mod workers;

pub use host::{Host, Traffic};
pub use workers::CHUNK_WINDOW;

use crate::{
    disk::{Disk, DiskError, Files},
    journal::{Journal, JournalError, Record, Stage},
    policy::{Anywhere, DownloadPolicy, Surroundings},
    slots::{InstalledBundle, SignedIndex, Slots},
    transport::{Backoff, Transport},
    tuf::{Trust, TufError},
};
use driver::Driver;
use futures_util::stream::{FuturesUnordered, StreamExt};
use semver::Version;
use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use time::OffsetDateTime;
use tokio::sync::{Mutex as AsyncMutex, watch};
use whimbrel_wire::{
    Digest, ModelName,
    desired::{DesiredState, MODELS_MAX},
    report::ModelReport,
};
use workers::Workers;

/// How an engine is set up.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The device's state folder; `trust/` below it must have been initialised (see [`Trust::init`]).
    pub state_dir: PathBuf,
    /// Version of the program around the engine, for which bundles may set a minimum.
    pub agent_version: Version,
    /// Delays after a failed download.
    pub backoff: Backoff,
    /// How often live counts are looked at during probation.
    pub probation_poll: Duration,
    /// The device's clock.
    pub now: fn() -> OffsetDateTime,
    /// The device's disk.
    pub disk: Arc<dyn Disk>,
    /// When, over which links and how fast bundles may be fetched.
    pub policy: DownloadPolicy,
    /// Where and when the device is.
    pub surroundings: Arc<dyn Surroundings>,
}

impl EngineConfig {
    /// A configuration with the usual delays and the real disk and clock.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>, agent_version: Version) -> Self {
        Self {
            state_dir: state_dir.into(),
            agent_version,
            backoff: Backoff::default(),
            probation_poll: Duration::from_millis(200),
            now: OffsetDateTime::now_utc,
            disk: Arc::new(Files),
            policy: DownloadPolicy::default(),
            surroundings: Arc::new(Anywhere { now: OffsetDateTime::now_utc }),
        }
    }
}

/// Why an engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The state folder cannot be used.
    #[error("open the state folder: {0}")]
    Disk(#[from] DiskError),
}

/// Keeps every model of a device at the version asked for.
pub struct Engine<H, T> {
    core: Arc<Core<H, T>>,
    drivers: Vec<Driver<H, T>>,
    broken: Vec<(ModelName, JournalError)>,
}

impl<H, T> fmt::Debug for Engine<H, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("config", &self.core.config).finish_non_exhaustive()
    }
}

/// What the machines of all models share.
pub(crate) struct Core<H, T> {
    config: EngineConfig,
    host: H,
    transport: T,
    trust: AsyncMutex<Option<Trust>>,
    workers: Workers,
    slots: Slots,
    journal: Journal,
    reports: Mutex<BTreeMap<ModelName, ModelReport>>,
    /// The index of what is being put together, so that it is decoded once.
    indexes: Mutex<BTreeMap<ModelName, SignedIndex>>,
    /// Installed bundles that were looked at: reading an index again takes as much memory as the index has bytes.
    opened: Mutex<BTreeMap<Digest, InstalledBundle>>,
}

impl<H: Host, T: Transport> Engine<H, T> {
    /// Reads every model's journal and lets the host serve what it names: the candidate with its fallback where probation was
    /// interrupted, otherwise the active version. A journal or bundle that cannot be read stops only its own model
    /// (see [`Engine::broken`]); a trust folder that cannot be read stops updates, which are then refused with that reason.
    ///
    /// # Errors
    /// When the state folder cannot be used at all.
    pub async fn open(config: EngineConfig, host: H, transport: T) -> Result<Self, EngineError> {
        let (disk, dir) = (Arc::clone(&config.disk), config.state_dir.clone());
        let core = Arc::new(Core {
            workers: Workers::new(config.policy.bytes_per_s_max),
            slots: Slots::new(Arc::clone(&disk), &dir.join("models")),
            journal: Journal::open(disk, &dir.join("journal"))?,
            trust: AsyncMutex::new(None),
            reports: Mutex::default(),
            indexes: Mutex::default(),
            opened: Mutex::default(),
            config,
            host,
            transport,
        });
        let mut engine = Self { drivers: Vec::new(), broken: Vec::new(), core };
        for model in engine.core.journal.models()? {
            match engine.core.journal.read(&model) {
                Ok(record) => {
                    let record = record.unwrap_or_default();
                    let driver = Driver::recover(Arc::clone(&engine.core), model, record).await;
                    engine.drivers.push(driver);
                }
                Err(error) => {
                    tracing::error!(%model, %error, "the model is left alone");
                    engine.broken.push((model, error));
                }
            }
        }
        engine.clear_unknown()?;
        Ok(engine)
    }

    /// Clears the folders of models that have no journal: nothing of them was ever confirmed.
    fn clear_unknown(&self) -> Result<(), DiskError> {
        let known = self.core.journal.models()?;
        for model in self.core.slots.models()?.into_iter().filter(|model| !known.contains(model)) {
            let unnamed = self.core.unnamed(&model, &Record::default());
            self.core.clear(&model, unnamed.as_slice());
        }
        // Older versions kept chunks there. A disk that takes nothing keeps no model from serving.
        let chunks = self.core.config.state_dir.join("chunks");
        if self.core.config.disk.size_bytes(&chunks)?.is_some()
            && let Err(error) = self.core.config.disk.remove_dir_all(&chunks)
        {
            tracing::warn!(%error, "old chunks could not be removed");
        }
        Ok(())
    }

    /// The models whose journal cannot be read, and why. They are not served, and not touched until that is put right.
    #[must_use]
    pub fn broken(&self) -> &[(ModelName, JournalError)] {
        &self.broken
    }

    /// What is known of every model now, sorted by name.
    #[must_use]
    pub fn reports(&self) -> Vec<ModelReport> {
        self.core.reports()
    }

    /// Follows the desired state until its sender is dropped. `on_change` gets the state of every model, sorted by name, after
    /// each change. Returning in this way is an orderly stop, which no candidate is blamed for; dropping the future
    /// counts as a crash of any candidate that serves.
    pub async fn run(
        self,
        mut desired: watch::Receiver<Option<DesiredState>>,
        on_change: impl Fn(Vec<ModelReport>) + Send + Sync,
    ) {
        let Self { core, drivers, broken } = self;
        let (newest, offers) = watch::channel(None);
        let publish = || on_change(core.reports());
        let mut known: Vec<ModelName> = drivers.iter().map(|d| d.model().clone()).collect();
        known.extend(broken.into_iter().map(|(model, _)| model));
        let mut running: FuturesUnordered<_> =
            drivers.into_iter().map(|d| d.run(offers.clone(), &publish)).collect();
        desired.mark_changed();
        loop {
            tokio::select! {
                changed = desired.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let state = desired.borrow_and_update().clone();
                    if !accept(&newest, state) {
                        continue;
                    }
                    for model in unknown(&newest, &known) {
                        let driver = Driver::new(Arc::clone(&core), model.clone());
                        running.push(driver.run(offers.clone(), &publish));
                        known.push(model);
                    }
                }
                Some(()) = running.next() => {}
            }
        }
        // The drivers see the end of the offers, come to rest and return.
        drop(newest);
        while running.next().await.is_some() {}
    }
}

/// Passes a desired state on, unless a newer one was seen.
fn accept(newest: &watch::Sender<Option<DesiredState>>, state: Option<DesiredState>) -> bool {
    let Some(state) = state else { return false };
    if newest.borrow().as_ref().is_some_and(|seen| seen.serial > state.serial) {
        tracing::warn!(serial = state.serial, "a desired state older than one already seen is ignored");
        return false;
    }
    newest.send_replace(Some(state));
    true
}

/// Models asked for that have no machine yet.
fn unknown(newest: &watch::Sender<Option<DesiredState>>, known: &[ModelName]) -> Vec<ModelName> {
    let state = newest.borrow();
    let names = state.iter().flat_map(|s| &s.models).map(|m| &m.name);
    let room = MODELS_MAX.saturating_sub(known.len());
    let new: Vec<_> = names.filter(|n| !known.contains(n)).cloned().collect();
    if new.len() > room {
        tracing::error!(refused = new.len() - room, "more models than a device may have");
    }
    new.into_iter().take(room).collect()
}

impl<H, T> Core<H, T> {
    fn reports(&self) -> Vec<ModelReport> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn keep_report(&self, report: ModelReport) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.insert(report.name.clone(), report);
    }

    fn remember(&self, model: &ModelName, index: SignedIndex) {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner).insert(model.clone(), index);
    }

    fn known_index(&self, model: &ModelName) -> Option<SignedIndex> {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner).get(model).cloned()
    }

    /// An installed bundle that was looked at before, if it is still in its place.
    fn opened(&self, model: &ModelName, bundle: Digest) -> Option<InstalledBundle> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = opened.get(&bundle).filter(|opened| opened.manifest.name == *model)?.clone();
        let model_file = opened.dir.join(&opened.manifest.model);
        self.config.disk.size_bytes(&model_file).is_ok_and(|size| size.is_some()).then_some(opened)
    }

    fn keep_opened(&self, bundle: InstalledBundle) {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).insert(bundle.digest, bundle);
    }

    fn forget_index(&self, model: &ModelName) {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner).remove(model);
    }

    /// Removes what nothing needs of a model. Failing leaves more on the disk than is needed, and nothing else.
    fn clear(&self, model: &ModelName, keep: &[Digest]) {
        self.forget_index(model);
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|digest, bundle| bundle.manifest.name != *model || keep.contains(digest));
        drop(opened);
        if let Err(error) = self.slots.retain(model, keep) {
            tracing::warn!(%model, %error, "old bundles could not be removed");
        }
    }

    /// A bundle that the process before put in place and did not come to write down, unless it is the version that
    /// was refused last. A candidate is written down: whether it stays is for the machine to say.
    fn unnamed(&self, model: &ModelName, record: &Record) -> Option<Digest> {
        let update = record.update.as_ref();
        let candidate = update.and_then(|update| match update.stage {
            Stage::Testing { candidate, .. } | Stage::Probation { candidate, .. } => Some(candidate),
            Stage::Done { .. } => None,
        });
        let confirmed = [&record.active, &record.previous].into_iter().flatten().map(|i| i.bundle);
        let named: Vec<Digest> = confirmed.chain(candidate).collect();
        let (bundle, version) = self.slots.unnamed(model, &named).unwrap_or_default()?;
        let done = update.filter(|update| matches!(update.stage, Stage::Done { .. }));
        done.is_none_or(|update| update.offer.version != version).then_some(bundle)
    }

    fn open_trust(&self) -> Result<Trust, TufError> {
        Trust::open_on(Arc::clone(&self.config.disk), &self.config.state_dir.join("trust"))
    }
}

#[cfg(test)]
mod tests;

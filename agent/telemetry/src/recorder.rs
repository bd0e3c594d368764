//! The open window: counts observations, keeps their journal, and turns finished windows into batches.
//!
//! Sealing goes: a new journal is made durably (with the identity that follows) -> the old window's batches enter the
//! spool -> the old journal is removed. Whatever step a crash interrupts, the next start repeats the rest: the same
//! journal gives the same batches under the same identities, and the spool ignores those it has.

mod sealed;

use crate::{
    journal::{self, DECLARED_MAX, Journal},
    observation::Observation,
    spool::{BatchId, Spool, SpoolError},
    window::{Declared, Entry, OpenWindow},
};
use sealed::{Sealed, batches};
use semver::Version;
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use whimbrel_wire::{ModelName, telemetry::Reference};

/// Where the recorder keeps its files, and how long a window is.
#[derive(Debug, Clone)]
pub struct RecorderConfig {
    /// Folder of the journals; made when absent.
    pub dir: PathBuf,
    /// Length of a window.
    pub window: Duration,
    /// Size of a journal at which its window ends early.
    pub journal_bytes_max: u64,
    /// Most bytes kept in memory while the journal cannot be written; beyond, a crash loses the excess.
    pub backlog_bytes_max: usize,
}

impl RecorderConfig {
    /// The defaults: windows of 300 s, journals of 8 MiB, a backlog of 1 MiB.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, window: Duration::from_secs(300), journal_bytes_max: 8 << 20, backlog_bytes_max: 1 << 20 }
    }
}

/// Why the recorder could not do its work. Recording itself never fails: see [`RecorderStat`].
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The file system refused.
    #[error("{attempted} {}", path.display())]
    Io {
        /// What was attempted.
        attempted: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The spool refused.
    #[error("storing a finished window")]
    Spool(#[from] SpoolError),
}

/// What the recorder did since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecorderStat {
    /// Observations counted.
    pub recorded: u64,
    /// Observations found in journals at the start.
    pub replayed: u64,
    /// Bytes at the end of journals that a crash had cut off.
    pub torn_bytes: u64,
    /// Times that the journal began to refuse writes; the bytes wait in memory.
    pub journal_errors: u64,
    /// Observations that are counted in memory only: a crash before the window is sealed would lose them.
    pub unjournaled: u64,
    /// Observations whose features did not fit what is declared.
    pub mismatched: u64,
    /// Windows that no batch could carry.
    pub unsendable: u64,
    /// Batches handed to the spool.
    pub batches: u64,
}

/// Counts observations; see the module's notes. Safe to use from several threads.
pub struct Recorder {
    config: RecorderConfig,
    spool: Arc<dyn Spool>,
    open: Mutex<Open>,
    /// Windows that are over and not yet in the spool, oldest first. Locked before `open`, held while they are stored.
    sealed: Mutex<VecDeque<Sealed>>,
}

/// The open window.
struct Open {
    id: BatchId,
    journal: Journal,
    /// In the order of their declaration in the journal.
    windows: Vec<OpenWindow>,
    /// Bytes of entries that the journal did not take yet.
    backlog: Vec<u8>,
    references: BTreeMap<(ModelName, Version), Declared>,
    stat: RecorderStat,
    /// Whether anything was written since the last `fsync`.
    unsynced: bool,
}

impl Recorder {
    /// Opens the recorder of a folder: windows that a stop or crash left are stored in the spool, the last one goes on.
    ///
    /// # Errors
    /// When the folder or the spool cannot be used.
    pub fn open(config: RecorderConfig, spool: Arc<dyn Spool>) -> Result<Self, RecorderError> {
        let io = |attempted: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| RecorderError::Io { attempted, path, source }
        };
        std::fs::create_dir_all(&config.dir).map_err(io("making the folder", &config.dir))?;
        let mut stat = RecorderStat::default();
        let mut left = journal::list(&config.dir).map_err(io("listing", &config.dir))?;
        let boot = spool.boot();
        let highest = left.iter().filter(|(id, _)| id.boot == boot).map(|(id, _)| id.sequence).max();
        // Only a journal that continues the present incarnation and was never stored can go on being written.
        let last = left.iter().position(|(id, _)| {
            id.boot == boot && Some(id.sequence) == highest && id.sequence > spool.high()
        });
        let last = last.map(|at| left.remove(at));
        for (id, path) in left {
            let Some(replayed) = journal::replay(&path).map_err(io("reading", &path))? else {
                std::fs::remove_file(&path).map_err(io("removing the empty journal", &path))?;
                continue;
            };
            stat.replayed += replayed.entries;
            stat.torn_bytes += replayed.torn_bytes;
            let sealed = Sealed { path, batches: batches(id, &replayed.windows, &mut stat) };
            sealed.store(&*spool)?;
        }
        let next = BatchId { boot, sequence: spool.high().max(highest.unwrap_or(0)) + 1 };
        let resumed = match last {
            None => None,
            Some((id, path)) => match journal::replay(&path).map_err(io("reading", &path))? {
                None => {
                    std::fs::remove_file(&path).map_err(io("removing the empty journal", &path))?;
                    None
                }
                Some(replayed) => {
                    stat.replayed += replayed.entries;
                    stat.torn_bytes += replayed.torn_bytes;
                    let journal =
                        Journal::resume(&path, replayed.good_bytes).map_err(io("opening", &path))?;
                    Some((id, journal, replayed.windows))
                }
            },
        };
        let (id, journal, windows) = match resumed {
            Some(resumed) => resumed,
            None => {
                let journal =
                    Journal::create(&config.dir, next).map_err(io("making a journal in", &config.dir))?;
                (next, journal, Vec::new())
            }
        };
        let open = Open {
            id,
            journal,
            windows,
            backlog: Vec::new(),
            references: BTreeMap::new(),
            stat,
            unsynced: true,
        };
        Ok(Self { config, spool, open: Mutex::new(open), sealed: Mutex::default() })
    }

    /// Says what the windows of a model version count. Without it, only requests, errors, latency and classes are.
    pub fn register(&self, model: &ModelName, version: &Version, reference: &Reference) {
        let declared = Declared::new(model, version, reference);
        self.lock().references.insert((model.clone(), version.clone()), declared);
    }

    /// Counts one observation. It survives the death of the process once this returns, unless the disk refuses it:
    /// then it is kept in memory and written with the next one.
    pub fn record(&self, observation: &Observation<'_>) {
        self.lock().record(observation, self.config.backlog_bytes_max);
    }

    /// Stores finished windows; ends the open one when its time is over or its journal is full. Call it every second
    /// or so. Returns the number of batches that entered the spool.
    ///
    /// # Errors
    /// When the disk or the spool refuses: nothing is lost, the next call tries again.
    pub fn tick(&self, now_ms: i64) -> Result<usize, RecorderError> {
        let due = {
            let open = self.lock();
            // A clock that was set back far must not keep a window open for ever: distance counts in both directions.
            let window_ms = u64::try_from(self.config.window.as_millis()).unwrap_or(u64::MAX);
            let started_ms = open.windows.iter().filter_map(OpenWindow::window).map(|w| w.start_ms).min();
            started_ms.is_some_and(|start_ms| now_ms.abs_diff(start_ms) >= window_ms)
                || open.journal.len() >= self.config.journal_bytes_max
        };
        if due { self.seal() } else { self.store_sealed(&mut self.lock_sealed()) }
    }

    /// Ends the open window now, whatever its age, and stores it.
    ///
    /// # Errors
    /// As [`Recorder::tick`].
    pub fn seal(&self) -> Result<usize, RecorderError> {
        let mut queue = self.lock_sealed();
        if let Some(sealed) = self.lock().end(&self.config.dir)? {
            queue.push_back(sealed);
        }
        self.store_sealed(&mut queue)
    }

    /// Makes the open journal durable, where anything was written since the last call.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&self) -> Result<(), RecorderError> {
        let (file, path) = {
            let mut open = self.lock();
            if !std::mem::take(&mut open.unsynced) {
                return Ok(());
            }
            open.flush_backlog();
            (open.journal.handle(), open.journal.path().to_owned())
        };
        // Outside the lock: an answer must not wait for the disk.
        let synced = file.and_then(|f| f.sync_data());
        synced.map_err(|source| {
            self.lock().unsynced = true;
            RecorderError::Io { attempted: "syncing", path, source }
        })
    }

    /// What was done so far.
    #[must_use]
    pub fn stat(&self) -> RecorderStat {
        self.lock().stat
    }

    fn store_sealed(&self, queue: &mut VecDeque<Sealed>) -> Result<usize, RecorderError> {
        let mut stored = 0;
        while let Some(sealed) = queue.front() {
            let count = sealed.store(&*self.spool)?;
            stored += count;
            self.lock().stat.batches += count as u64;
            queue.pop_front();
        }
        Ok(stored)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Counts stay usable after a panic elsewhere; at worst one observation is missing.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_sealed(&self) -> MutexGuard<'_, VecDeque<Sealed>> {
        self.sealed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn record(&mut self, observation: &Observation<'_>, backlog_bytes_max: usize) {
        let mut declaration = Vec::new();
        let Some(at) = self.window_of(observation, &mut declaration) else {
            self.stat.mismatched += 1;
            return;
        };
        let Some(window) = self.windows.get_mut(at) else { return };
        let (entry, fits) = Entry::new(observation, window.declared());
        self.stat.mismatched += u64::from(!fits);
        let mut frames = declaration;
        let declaration_len = frames.len();
        journal::put_entry(&mut frames, u16::try_from(at).unwrap_or(u16::MAX), &entry);
        window.add(&entry);
        self.stat.recorded += 1;
        self.append(&frames, declaration_len, backlog_bytes_max);
    }

    /// The window of the observation's model version; declares it first where this journal has not seen it yet.
    fn window_of(&mut self, observation: &Observation<'_>, frames: &mut Vec<u8>) -> Option<usize> {
        let (model, version) = (observation.model, observation.version);
        if let Some(at) = self.windows.iter().position(|w| w.declared().is(model, version)) {
            return Some(at);
        }
        if self.windows.len() == DECLARED_MAX {
            return None;
        }
        let declared = self
            .references
            .get(&(model.clone(), version.clone()))
            .cloned()
            .unwrap_or_else(|| Declared::new(model, version, &Reference::default()));
        journal::put_declared(frames, &declared);
        self.windows.push(OpenWindow::new(declared));
        Some(self.windows.len() - 1)
    }

    /// Writes frames to the journal, after those that it refused before.
    fn append(&mut self, frames: &[u8], declaration_len: usize, backlog_bytes_max: usize) {
        self.unsynced = true;
        if self.backlog.is_empty() && self.journal.append(frames).is_ok() {
            return;
        }
        self.stat.journal_errors += u64::from(self.backlog.is_empty());
        if self.backlog.len() + frames.len() <= backlog_bytes_max {
            self.backlog.extend_from_slice(frames);
        } else {
            // Later entries refer to the declaration: it must not be missing.
            self.backlog.extend_from_slice(&frames[..declaration_len]);
            self.stat.unjournaled += 1;
        }
        self.flush_backlog();
    }

    fn flush_backlog(&mut self) {
        if !self.backlog.is_empty() && self.journal.append(&self.backlog).is_ok() {
            self.backlog.clear();
        }
    }

    /// Ends the window: makes the journal of the next one, and takes this one's batches. `None` when it is empty.
    fn end(&mut self, dir: &Path) -> Result<Option<Sealed>, RecorderError> {
        if self.windows.iter().all(|w| w.window().is_none()) {
            return Ok(None);
        }
        self.flush_backlog();
        let mut stat = self.stat;
        let batches = batches(self.id, &self.windows, &mut stat);
        // One number is used up even when no batch could be made, so that the name of the new journal is free.
        let used = u64::try_from(batches.len()).unwrap_or(u64::MAX).max(1);
        let id = BatchId { sequence: self.id.sequence.saturating_add(used), ..self.id };
        let journal = Journal::create(dir, id).map_err(|source| RecorderError::Io {
            attempted: "making the next journal in",
            path: dir.to_owned(),
            source,
        })?;
        self.stat = stat;
        self.id = id;
        self.windows.clear();
        self.backlog.clear();
        let path = std::mem::replace(&mut self.journal, journal).path().to_owned();
        Ok(Some(Sealed { path, batches }))
    }
}

#[cfg(test)]
mod tests;

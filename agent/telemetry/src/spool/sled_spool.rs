//! The spool as a row of generations, oldest first; only the newest is written.
//!
//! - A generation is removed whole once it is not the newest and all its batches are acknowledged, or when the byte
//!   bound is passed: then the oldest goes, and its batches are counted as dropped.
//! - The newest carries the spool's state. It is written there before an older one may go, so numbers once used are
//!   remembered. Where that cannot be known (a generation was damaged), a new incarnation begins.
//! - A small file, the mark, follows the state. A store that opens but knows less than the mark has lost what it once
//!   held durably (a truncated log opens as a shorter one): that counts as damage too.

use super::{
    Appended, BatchId, Spool, SpoolError, SpoolStat, disk,
    generation::{Failure, Generation, Read},
    record::State,
};
use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Largest batch that is stored: more than `wire` lets a batch grow to.
const BATCH_BYTES_MAX: usize = 512 << 10;
/// Smallest bound that leaves room for several generations of a store that takes half a megabyte when empty.
const SIZE_BYTES_MIN: u64 = 4 << 20;

/// Where the spool lies and how far it may grow.
#[derive(Debug, Clone)]
pub struct SpoolConfig {
    /// Its folder; made when absent.
    pub dir: PathBuf,
    /// Most bytes its files may take on disk; at least 4 MiB are used.
    pub size_bytes_max: u64,
    /// Size at which a new generation is begun; at most a quarter of the bound is used.
    pub generation_bytes_max: u64,
    /// The device clock, milliseconds since 1970 UTC: names what is moved aside.
    pub now_ms: fn() -> i64,
}

impl SpoolConfig {
    /// The defaults: 64 MiB in generations of 4 MiB.
    #[must_use]
    pub fn new(dir: PathBuf, now_ms: fn() -> i64) -> Self {
        Self { dir, size_bytes_max: 64 << 20, generation_bytes_max: 4 << 20, now_ms }
    }
}

/// A spool in sled folders; see the module's notes.
#[derive(Debug)]
pub struct SledSpool {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: SpoolConfig,
    /// Never empty; the last is the one that is written.
    generations: Vec<Generation>,
    next_number: u64,
    state: State,
    damaged_records: u64,
}

impl SledSpool {
    /// Opens the spool of a folder, or makes it. Damaged generations are moved aside and counted.
    ///
    /// # Errors
    /// When the folder cannot be used: another process has it open, no permission, no space.
    pub fn open(config: SpoolConfig) -> Result<Self, SpoolError> {
        Inner::open(config).map(|inner| Self { inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock was held cannot leave a half-made change: calls into the store are isolated, and
        // the rest only moves whole values.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spool for SledSpool {
    fn boot(&self) -> u64 {
        self.lock().state.boot
    }
    fn high(&self) -> u64 {
        self.lock().state.high
    }
    fn append(&self, id: BatchId, bytes: &[u8]) -> Result<Appended, SpoolError> {
        self.lock().append(id, bytes)
    }
    fn pending(&self, limit: usize) -> Result<Vec<(BatchId, Vec<u8>)>, SpoolError> {
        self.lock().pending(limit)
    }
    fn acknowledge(&self, ids: &[BatchId]) -> Result<usize, SpoolError> {
        self.lock().acknowledge(ids)
    }
    fn stat(&self) -> SpoolStat {
        self.lock().stat()
    }
}

impl Inner {
    fn open(mut config: SpoolConfig) -> Result<Self, SpoolError> {
        config.size_bytes_max = config.size_bytes_max.max(SIZE_BYTES_MIN);
        config.generation_bytes_max = config.generation_bytes_max.min(config.size_bytes_max / 4);
        let io = |attempted, source| SpoolError::Io { attempted, path: config.dir.clone(), source };
        std::fs::create_dir_all(&config.dir).map_err(|e| io("making the folder", e))?;
        let (paths, highest) = disk::list(&config.dir)?;
        let (mut generations, mut latest, mut damaged) = (Vec::new(), None, 0);
        for (number, path) in paths {
            let opened = Generation::open(number, &path).and_then(|mut g| g.state().map(|state| (g, state)));
            match opened {
                Ok((generation, state)) => {
                    latest = state.or(latest);
                    generations.push(generation);
                }
                Err(Failure::Refused(e)) => return Err(e),
                Err(Failure::Damaged(why)) => {
                    set_aside(&config, &path, &why)?;
                    damaged += 1;
                }
            }
        }
        let known: State = latest.unwrap_or_default();
        let mark = disk::read_mark(&config.dir).map_err(|e| io("reading the mark of", e))?;
        let mark = mark.and_then(|bytes| State::decode(&bytes)).unwrap_or_default();
        if damaged == 0 && (known.boot != mark.boot || known.high < mark.high) && mark.boot != 0 {
            tracing::error!(?known, ?mark, "the spool has lost batches that it once held");
            damaged = 1;
        }
        let mut inner =
            Self { config, generations, next_number: highest + 1, state: known, damaged_records: 0 };
        // With a damaged generation the highest number may be forgotten: numbers start anew under another name.
        if damaged > 0 || known.boot == 0 {
            inner.state = State {
                boot: new_boot()?,
                high: 0,
                damaged: known.damaged.max(mark.damaged) + damaged,
                ..known
            };
            inner.begin_generation()?;
        }
        inner.remove_finished();
        Ok(inner)
    }

    fn append(&mut self, id: BatchId, bytes: &[u8]) -> Result<Appended, SpoolError> {
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(SpoolError::TooLarge { size_bytes: bytes.len(), size_bytes_max: BATCH_BYTES_MAX });
        }
        if self.is_known(id)? {
            return Ok(Appended::Known);
        }
        let at = match self.generations.len().checked_sub(1) {
            Some(at) if self.generations[at].size_bytes() < self.config.generation_bytes_max => at,
            _ => self.begin_generation()?,
        };
        let mut state = self.state;
        if id.boot == state.boot {
            state.high = state.high.max(id.sequence);
        }
        let stored = self.generations[at].append(id, bytes, state);
        self.settle(at, "storing a batch in", stored)?;
        self.state = state;
        self.write_mark();
        self.keep_within_bound();
        Ok(Appended::Stored)
    }

    fn is_known(&mut self, id: BatchId) -> Result<bool, SpoolError> {
        if id.boot == self.state.boot {
            return Ok(id.sequence <= self.state.high);
        }
        for at in 0..self.generations.len() {
            let found = self.generations[at].contains(id);
            if self.settle(at, "reading", found)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn pending(&mut self, limit: usize) -> Result<Vec<(BatchId, Vec<u8>)>, SpoolError> {
        let mut found = Vec::new();
        for at in 0..self.generations.len() {
            if found.len() == limit || self.generations[at].pending == 0 {
                continue;
            }
            let read = self.generations[at].read(limit - found.len());
            let Read { batches, damaged } = self.settle(at, "reading batches of", read)?;
            found.extend(batches);
            for id in damaged {
                tracing::warn!(
                    boot = id.boot,
                    sequence = id.sequence,
                    "a spooled batch is damaged and was dropped"
                );
                self.damaged_records += 1;
                let removed = self.generations[at].remove(id);
                self.settle(at, "forgetting a batch of", removed)?;
            }
        }
        Ok(found)
    }

    fn acknowledge(&mut self, ids: &[BatchId]) -> Result<usize, SpoolError> {
        let mut held = 0;
        for id in ids {
            for at in 0..self.generations.len() {
                if self.generations[at].pending == 0 {
                    continue;
                }
                let removed = self.generations[at].remove(*id);
                if self.settle(at, "forgetting a batch of", removed)? {
                    held += 1;
                    break;
                }
            }
        }
        self.remove_finished();
        Ok(held)
    }

    fn stat(&self) -> SpoolStat {
        SpoolStat {
            pending: self.generations.iter().map(|g| g.pending).sum(),
            size_bytes: disk::size_bytes(&self.config.dir),
            generations: self.generations.len() as u64,
            boot: self.state.boot,
            high: self.state.high,
            dropped: self.state.dropped,
            damaged: self.state.damaged,
            damaged_records: self.damaged_records,
        }
    }

    /// Makes the generation that is written from now on; returns its place.
    fn begin_generation(&mut self) -> Result<usize, SpoolError> {
        let number = self.next_number;
        let path = disk::generation_path(&self.config.dir, number);
        let made = Generation::open(number, &path).and_then(|mut g| g.put_state(self.state).map(|()| g));
        self.next_number += 1;
        match made {
            Ok(generation) => {
                self.generations.push(generation);
                self.write_mark();
                self.remove_finished();
                Ok(self.generations.len() - 1)
            }
            Err(failure) => {
                // Nothing is in it; what stays behind would only be opened and found empty.
                let _ = disk::remove(&path);
                Err(match failure {
                    Failure::Refused(e) => e,
                    Failure::Damaged(_) => SpoolError::Damaged { attempted: "making the generation", path },
                })
            }
        }
    }

    /// Without the mark, only the detection of some damage is weaker.
    fn write_mark(&self) {
        if let Err(e) = disk::write_mark(&self.config.dir, &self.state.encode()) {
            tracing::warn!(error = %e, "the spool's mark could not be written");
        }
    }

    /// Passes a result on; moves the generation aside first when it turned out to be damaged.
    fn settle<T>(
        &mut self,
        at: usize,
        attempted: &'static str,
        result: Result<T, Failure>,
    ) -> Result<T, SpoolError> {
        match result {
            Ok(value) => Ok(value),
            Err(Failure::Refused(e)) => Err(e),
            Err(Failure::Damaged(why)) => {
                let mut generation = self.generations.remove(at);
                generation.close();
                let path = generation.path;
                set_aside(&self.config, &path, &why)?;
                self.state =
                    State { boot: new_boot()?, high: 0, damaged: self.state.damaged + 1, ..self.state };
                self.begin_generation()?;
                Err(SpoolError::Damaged { attempted, path })
            }
        }
    }

    /// Removes generations that are not written any more and hold nothing.
    fn remove_finished(&mut self) {
        let newest = self.generations.last().map(|g| g.number);
        let (finished, kept) = std::mem::take(&mut self.generations)
            .into_iter()
            .partition(|g| g.pending == 0 && Some(g.number) != newest);
        self.generations = kept;
        for generation in finished {
            remove(generation);
        }
    }

    fn keep_within_bound(&mut self) {
        while self.generations.len() > 1 && disk::size_bytes(&self.config.dir) > self.config.size_bytes_max {
            let oldest = self.generations.remove(0);
            let (number, batches) = (oldest.number, oldest.pending);
            tracing::warn!(number, batches, "the spool is full: its oldest generation is dropped");
            self.state.dropped += batches;
            remove(oldest);
            let at = self.generations.len() - 1;
            let state = self.state;
            let put = self.generations[at].put_state(state);
            if let Err(e) = self.settle(at, "writing the state of", put) {
                tracing::warn!(error = %e, "the number of dropped batches could not be written; it is kept in memory");
                return;
            }
        }
    }
}

fn remove(mut generation: Generation) {
    generation.close();
    if let Err(e) = disk::remove(&generation.path) {
        // It is tried again at the next start, where a generation without batches is removed.
        tracing::warn!(path = %generation.path.display(), error = %e, "a finished generation could not be removed");
    }
}

fn set_aside(config: &SpoolConfig, path: &std::path::Path, why: &str) -> Result<(), SpoolError> {
    let to = disk::move_aside(path, (config.now_ms)())?;
    tracing::error!(why, moved_to = %to.display(), "a generation of the spool is damaged");
    if let Err(e) = disk::trim_aside(&config.dir, config.generation_bytes_max) {
        tracing::warn!(error = %e, "old damaged generations could not be removed");
    }
    Ok(())
}

/// A random incarnation; never 0, which stands for none.
fn new_boot() -> Result<u64, SpoolError> {
    loop {
        match getrandom::u64() {
            Ok(0) => {}
            Ok(boot) => return Ok(boot),
            Err(e) => return Err(SpoolError::Random(e)),
        }
    }
}

#[cfg(test)]
mod tests;

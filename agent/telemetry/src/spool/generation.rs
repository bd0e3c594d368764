//! One sled folder. sled 0.34 gives no space back and will not open after some abrupt stops, so a generation is small,
//! is removed whole, and every call into the store is isolated.

use super::{
    BatchId, SpoolError, disk,
    record::{self, State},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// Cache of the generation that is written; sled's own default is 1 GiB.
const CACHE_BYTES: u64 = 8 << 20;
/// How often, and how long apart, opening is tried while the lock of a process that just died is still held.
const LOCK_TRIES: u32 = 10;
const LOCK_WAIT: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// `None` after the disk refused something: sled stays broken then until it is opened again.
    db: Option<sled::Db>,
    /// Batches in it that are not acknowledged.
    pub(super) pending: u64,
}

/// A call into the store that did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The store is damaged: it said so, or panicked.
    Damaged(String),
    /// The disk or the operating system refused.
    Refused(SpoolError),
}

impl Generation {
    /// Opens or makes the folder, and counts its batches.
    pub(super) fn open(number: u64, path: &Path) -> Result<Self, Failure> {
        let mut generation = Self { number, path: path.to_owned(), db: None, pending: 0 };
        generation.pending = generation.call("counting the batches of", |db| {
            db.scan_prefix(record::BATCH_PREFIX).try_fold(0u64, |n, item| item.map(|_| n + 1))
        })?;
        Ok(generation)
    }

    pub(super) fn state(&mut self) -> Result<Option<State>, Failure> {
        let value = self.call("reading the state of", |db| db.get(record::STATE_KEY))?;
        match value {
            None => Ok(None),
            Some(v) => State::decode(&v)
                .map(Some)
                .ok_or_else(|| Failure::Damaged("its state record has a wrong checksum".into())),
        }
    }

    pub(super) fn put_state(&mut self, state: State) -> Result<(), Failure> {
        self.call("writing the state of", |db| {
            db.insert(record::STATE_KEY, state.encode())?;
            db.flush().map(|_| ())
        })
    }

    pub(super) fn contains(&mut self, id: BatchId) -> Result<bool, Failure> {
        self.call("reading", |db| db.contains_key(record::key(id)))
    }

    /// Stores a batch and the state that counts it, together and durably.
    pub(super) fn append(&mut self, id: BatchId, bytes: &[u8], state: State) -> Result<(), Failure> {
        let key = record::key(id);
        self.call("storing a batch in", |db| {
            let mut batch = sled::Batch::default();
            batch.insert(&key, record::encode_batch(&key, bytes));
            batch.insert(record::STATE_KEY, state.encode());
            db.apply_batch(batch)?;
            db.flush().map(|_| ())
        })?;
        self.pending += 1;
        Ok(())
    }

    /// Up to `limit` batches in order, and the identities of damaged records met on the way.
    pub(super) fn read(&mut self, limit: usize) -> Result<Read, Failure> {
        self.call("reading batches of", |db| {
            let mut read = Read::default();
            for item in db.scan_prefix(record::BATCH_PREFIX) {
                if read.batches.len() == limit {
                    break;
                }
                let (key, value) = item?;
                let Some(id) = record::id(&key) else { continue };
                match record::decode_batch(&key, &value) {
                    Some(bytes) => read.batches.push((id, bytes.to_vec())),
                    None => read.damaged.push(id),
                }
            }
            Ok(read)
        })
    }

    /// Forgets a batch; whether it was there. Not flushed: a batch that comes back is sent again and dropped there.
    pub(super) fn remove(&mut self, id: BatchId) -> Result<bool, Failure> {
        let was = self.call("forgetting a batch of", |db| db.remove(record::key(id)))?.is_some();
        self.pending = self.pending.saturating_sub(u64::from(was));
        Ok(was)
    }

    /// Closes the store; the next use opens it again.
    pub(super) fn close(&mut self) {
        if let Some(db) = self.db.take() {
            // Dropping writes what is buffered, and may panic on damage like any other call.
            let _ = catch_unwind(AssertUnwindSafe(move || drop(db)));
        }
    }

    fn call<T>(
        &mut self,
        attempted: &'static str,
        call: impl FnOnce(&sled::Db) -> Result<T, sled::Error>,
    ) -> Result<T, Failure> {
        let db = match self.db.take() {
            Some(db) => db,
            None => open_store(&self.path)?,
        };
        let result = guard(attempted, &self.path, || call(&db));
        self.db = Some(db);
        if result.is_err() {
            self.close();
        }
        result
    }

    pub(super) fn size_bytes(&self) -> u64 {
        disk::size_bytes(&self.path)
    }
}

/// What a generation gave: batches in order, and the identities of records whose checksum was wrong.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) batches: Vec<(BatchId, Vec<u8>)>,
    pub(super) damaged: Vec<BatchId>,
}

fn open_store(path: &Path) -> Result<sled::Db, Failure> {
    let mut tries = 1;
    loop {
        let opened = guard("opening the generation", path, || {
            sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None).open()
        });
        match opened {
            Err(Failure::Refused(SpoolError::Store { source: sled::Error::Io(e), .. }))
                if tries < LOCK_TRIES && is_lock_held(&e) =>
            {
                tries += 1;
                thread::sleep(LOCK_WAIT);
            }
            other => return other,
        }
    }
}

/// Calls the store so that neither damage nor a panic inside it goes further. sled 0.34 panics on some damaged files
/// (assertions while it rebuilds its page table) where it should return an error; the folder it panicked on is moved
/// aside and never used again, so no half-changed state is seen.
fn guard<T>(
    attempted: &'static str,
    path: &Path,
    call: impl FnOnce() -> Result<T, sled::Error>,
) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(e))) if e.kind() != std::io::ErrorKind::UnexpectedEof => {
            Err(Failure::Refused(SpoolError::Store {
                attempted,
                path: path.to_owned(),
                source: sled::Error::Io(e),
            }))
        }
        Ok(Err(damage)) => Err(Failure::Damaged(format!("{attempted}: {damage}"))),
        Err(panic) => {
            let why = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("unknown");
            Err(Failure::Damaged(format!("{attempted}: the store panicked: {why}")))
        }
    }
}

/// sled reports a held lock as an error of kind Other with this text.
fn is_lock_held(e: &std::io::Error) -> bool {
    e.kind() == std::io::ErrorKind::WouldBlock || e.to_string().contains("could not acquire lock")
}

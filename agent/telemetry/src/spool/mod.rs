//! Batches on disk until the server has them.

mod disk;
mod generation;
mod record;
mod sled_spool;

pub use sled_spool::{SledSpool, SpoolConfig};

use std::path::PathBuf;

/// What names a batch for ever: the spool's incarnation and its number there, from 1. Ordered by incarnation, then number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId {
    /// The incarnation: random, made anew whenever numbers already used might be forgotten.
    pub boot: u64,
    /// The number.
    pub sequence: u64,
}

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is on disk.
    Stored,
    /// The spool had it before, perhaps acknowledged since; nothing was done.
    Known,
}

/// Where batches wait. Safe to use from several threads.
pub trait Spool: Send + Sync {
    /// The incarnation that new batches belong to.
    fn boot(&self) -> u64;

    /// The highest number ever appended in the present incarnation; 0 for none.
    fn high(&self) -> u64;

    /// Stores a batch; it survives a power cut once this returns. Batches of one incarnation come in ascending order.
    ///
    /// # Errors
    /// When the disk refuses; nothing was stored then.
    fn append(&self, id: BatchId, bytes: &[u8]) -> Result<Appended, SpoolError>;

    /// Up to `limit` batches that are not acknowledged, oldest first.
    ///
    /// # Errors
    /// When they cannot be read.
    fn pending(&self, limit: usize) -> Result<Vec<(BatchId, Vec<u8>)>, SpoolError>;

    /// Forgets batches that the server has stored; unknown ones are ignored. Returns how many it held. A crash may
    /// bring some of them back: the server drops duplicates.
    ///
    /// # Errors
    /// When the disk refuses.
    fn acknowledge(&self, ids: &[BatchId]) -> Result<usize, SpoolError>;

    /// How full it is, and what it lost.
    fn stat(&self) -> SpoolStat;
}

/// How full a spool is, and what it lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpoolStat {
    /// Batches that are not acknowledged.
    pub pending: u64,
    /// Bytes that its files take on disk.
    pub size_bytes: u64,
    /// Folders it consists of.
    pub generations: u64,
    /// The present incarnation.
    pub boot: u64,
    /// The highest number used in it.
    pub high: u64,
    /// Batches dropped because the bound was reached, since the spool was made.
    pub dropped: u64,
    /// Generations that were damaged and moved aside, since the spool was made.
    pub damaged: u64,
    /// Records that were damaged and left out, since the program started.
    pub damaged_records: u64,
}

/// Why the spool could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The file system refused.
    #[error("{attempted} {}", path.display())]
    Io {
        /// What was attempted.
        attempted: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The store below refused, and not because of damage.
    #[error("{attempted} {}", path.display())]
    Store {
        /// What was attempted.
        attempted: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: sled::Error,
    },
    /// A batch larger than the spool takes.
    #[error("storing a batch of {size_bytes} bytes: at most {size_bytes_max} are accepted")]
    TooLarge {
        /// Its size.
        size_bytes: usize,
        /// The limit.
        size_bytes_max: usize,
    },
    /// A generation was found damaged while it was used. It was moved aside; try again.
    #[error("{attempted} {}: its store is damaged and was moved aside", path.display())]
    Damaged {
        /// What was attempted.
        attempted: &'static str,
        /// The generation.
        path: PathBuf,
    },
    /// The operating system gave no random number for a new incarnation.
    #[error("naming a new incarnation of the spool: no random number: {0}")]
    Random(getrandom::Error),
}

//! Plans that are ready to run, kept in files: a later load maps the packed weights instead of reading a model and packing it.
//!
//! A file is believed only if everything in it is as it was written: its key says which model, build, processor and limits it was
//! made for, and sums cover its description and each of its packed parts. Anything else is as if it were not there, and is
//! written again. The description is checked when it is read, a packed part before it is used for the first time.
//!
//! | module | holds |
//! |---|---|
//! | `blob` | a packed part in a mapped file |
//! | `file` | the bytes of a file |
//! | `form` | constants in a description |
//! | `key` | what a file was made for |
//! | `mapping` | files as memory |
//! | `record` | what is kept of a model |
//! | `writer` | writing beside the first answers, so that readers see the old file or the new one |

mod blob;
mod file;
pub(crate) mod form;
mod key;
mod mapping;
mod record;
mod writer;

pub use blob::Blob;
pub use key::PlanCache;
pub(crate) use record::{Described, Names, Record, SegmentRecord, Written};

use crate::{limits::ImportLimits, source::Source};
use serde::{Deserialize, Serialize};
use std::{fmt, io::ErrorKind, path::PathBuf, sync::Arc};

/// Bytes that an engine packed; shared, not copied.
pub type Part = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// What an engine keeps of something that it packed: plain numbers, and packed parts.
#[derive(Clone, Serialize, Deserialize)]
pub struct Piece<B> {
    /// What the parts mean.
    pub numbers: Vec<u64>,
    /// The parts.
    pub parts: Vec<B>,
}

impl<B> fmt::Debug for Piece<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} packed parts", self.parts.len())
    }
}

/// The file of one model for one engine.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    cache: PlanCache,
    path: PathBuf,
    key: Vec<u8>,
}

impl Slot {
    /// The file for a model, made by an engine of this name within these limits; `None` where the model cannot be told from what it may
    /// become.
    pub(crate) fn new(
        cache: &PlanCache,
        engine: &str,
        source: &Source,
        limits: &ImportLimits,
    ) -> Option<Self> {
        let key = cache.key(engine, source, limits)?;
        Some(Self { cache: cache.clone(), path: cache.path(engine), key })
    }

    /// What it holds; `None` where there is nothing that can be believed.
    pub(crate) fn read(&self) -> Option<Described> {
        match file::read(&self.path, &self.key) {
            Ok(described) => described,
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    self.warn(&error, "the plan cache is not used");
                }
                None
            }
        }
    }

    /// Writes it, soon and on a thread of its own. That it cannot be written is said in the log, and changes nothing else.
    pub(crate) fn write_later(self, contents: impl FnOnce() -> Option<Written> + Send + 'static) {
        let cache = self.cache.clone();
        cache.pending().start(move || {
            match contents().map(|record| writer::write(&self.path, &self.key, &record)) {
                None | Some(Ok(false)) => {}
                Some(Ok(true)) => tracing::debug!(path = %self.path.display(), "the plan cache is written"),
                Some(Err(error)) => self.warn(&error, "the plan cache is not written"),
            }
        });
    }

    /// Removes it.
    pub(crate) fn discard(&self, why: &str) {
        self.warn(&why, "the plan cache is discarded");
        std::fs::remove_file(&self.path).ok();
    }

    fn warn(&self, error: &dyn fmt::Display, what: &str) {
        tracing::warn!(path = %self.path.display(), %error, "{what}");
    }
}

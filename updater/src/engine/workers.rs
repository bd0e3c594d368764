//! Bounds on what runs beside the network tasks, and on what waits there.

use crate::bundle::chunk::{ChunkError, Unpacker};
use std::{
    num::NonZero,
    sync::{Arc, Mutex, PoisonError},
    thread::available_parallelism,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The chunk window: chunks of all models that may be under way at the same time, from the request until they are in place.
/// A process that is killed loses these and no more, and memory holds at most these.
pub const CHUNK_WINDOW: usize = 16;
/// Most threads that check and unpack chunks.
const WORKERS_MAX: usize = 4;

/// The chunk window, and a few unpackers.
#[derive(Debug)]
pub(super) struct Workers {
    window: Semaphore,
    threads: Arc<Semaphore>,
    idle: Mutex<Vec<Unpacker>>,
}

impl Default for Workers {
    fn default() -> Self {
        let threads = available_parallelism().map_or(1, NonZero::get).min(WORKERS_MAX);
        Self {
            window: Semaphore::new(CHUNK_WINDOW),
            threads: Arc::new(Semaphore::new(threads)),
            idle: Mutex::default(),
        }
    }
}

impl Workers {
    /// Waits for a place in the window.
    pub(super) async fn enter(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        // The window is never closed.
        self.window.acquire().await.ok()
    }

    /// Waits for a thread to be free.
    pub(super) async fn thread(&self) -> Option<OwnedSemaphorePermit> {
        // Never closed either.
        Arc::clone(&self.threads).acquire_owned().await.ok()
    }

    /// Lends an unpacker.
    ///
    /// # Errors
    /// When none can be made.
    pub(super) fn with_unpacker<R>(&self, f: impl FnOnce(&mut Unpacker) -> R) -> Result<R, ChunkError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut unpacker = match idle {
            Some(unpacker) => unpacker,
            None => Unpacker::new()?,
        };
        let result = f(&mut unpacker);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(unpacker);
        Ok(result)
    }
}

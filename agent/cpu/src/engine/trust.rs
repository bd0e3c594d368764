//! Packed parts of a cache are looked at once, in the first run, right before their step reads them anyway.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU8, Ordering},
};
use whimbrel_infer::{RunError, cache::Blob};

/// The parts of each step, and what is known of them.
#[derive(Debug, Default)]
pub(super) struct Trust {
    steps: Vec<Vec<Blob>>,
    known: AtomicU8,
}

const OPEN: u8 = 0;
const SOUND: u8 = 1;
const DAMAGED: u8 = 2;

impl Trust {
    /// Parts that nobody looked at.
    pub(super) fn open(steps: Vec<Vec<Blob>>) -> Self {
        Self { steps, known: AtomicU8::new(OPEN) }
    }

    /// Whether parts have to be looked at.
    pub(super) fn is_open(&self) -> bool {
        !self.steps.is_empty() && self.known.load(Ordering::Acquire) != SOUND
    }

    /// Looks at those of a step.
    ///
    /// # Errors
    /// They are not what was written.
    pub(super) fn check(&self, step: usize) -> Result<(), RunError> {
        let parts = self.steps.get(step).map_or(&[][..], Vec::as_slice);
        if parts.iter().all(Blob::is_sound) {
            return Ok(());
        }
        Err(self.damaged())
    }

    /// Runs a step for the first time.
    ///
    /// # Errors
    /// It failed, or does not fit what it works on.
    pub(super) fn watch(&self, step: impl FnOnce() -> Result<(), RunError>) -> Result<(), RunError> {
        guarded(step).unwrap_or_else(|| Err(self.damaged()))
    }

    fn damaged(&self) -> RunError {
        self.known.store(DAMAGED, Ordering::Release);
        RunError::Failed { why: "a plan of the cache is not what was written".to_owned() }
    }

    /// All steps were checked.
    pub(super) fn close(&self) {
        // One that found damage keeps its word.
        let _ = self.known.compare_exchange(OPEN, SOUND, Ordering::AcqRel, Ordering::Acquire);
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.known.load(Ordering::Acquire) == DAMAGED
    }
}

/// Does something with a plan from elsewhere; `None` where it does not hold what layers take for granted. What was worked on is dropped
/// then, whatever its state.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

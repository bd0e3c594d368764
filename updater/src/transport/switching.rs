//! Two transports as one: whatever cannot be had over the first comes over the second, and the other way round.
//!
//! Chunks are checked and kept one by one, so a change in the middle of a bundle costs no more than the requests that were
//! under way on the transport that failed; each of them goes over the other at once.

use super::{Backoff, Transport, TransportError};
use crate::tuf::Source;
use bytes::Bytes;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{task::JoinHandle, time::Instant};
use whimbrel_wire::Digest;

/// Pauses between looks whether the first transport works again: longer while it keeps failing.
const PROBE: Backoff = Backoff { first: Duration::from_secs(30), max: Duration::from_secs(600) };
/// What is fetched to look: small, and there on every server.
const PROBE_FILE: &str = "timestamp.json";
const PROBE_BYTES_MAX: u64 = 1 << 20;

/// Uses `A` while it works, and `B` while it does not.
#[derive(Debug)]
pub struct Switching<A, B> {
    first: Arc<A>,
    second: B,
    way: Arc<Mutex<Way>>,
}

/// Which transport is asked first.
#[derive(Debug)]
enum Way {
    /// The first; how often it failed since it last brought something.
    First { failures: u32 },
    /// The second.
    Second {
        /// How often the first failed.
        failures: u32,
        /// When it is looked at again.
        probe_at: Instant,
        /// The look under way.
        probe: Option<JoinHandle<()>>,
    },
}

impl<A: Transport, B: Transport> Switching<A, B> {
    /// Prefers `first`.
    #[must_use]
    pub fn new(first: A, second: B) -> Self {
        Self { first: Arc::new(first), second, way: Arc::new(Mutex::new(Way::First { failures: 0 })) }
    }

    /// Lets one of two ways to the same file do it, and the other where the one is blocked.
    async fn either<R: Send>(
        &self,
        first: impl Future<Output = Result<R, TransportError>> + Send,
        second: impl Future<Output = Result<R, TransportError>> + Send,
    ) -> Result<R, TransportError> {
        if self.takes_first() {
            match first.await {
                Err(error) if is_blocked(&error) => {
                    self.first_failed(&error);
                    second.await.map_err(|other| both(&error, other))
                }
                answer => {
                    self.first_worked();
                    answer
                }
            }
        } else {
            match second.await {
                Err(error) if is_blocked(&error) => {
                    let answer = first.await;
                    if !answer.as_ref().is_err_and(is_blocked) {
                        self.first_worked();
                    }
                    answer.map_err(|other| both(&error, other))
                }
                answer => answer,
            }
        }
    }

    /// Whether the first is to be asked first; begins a look at it where that is due.
    fn takes_first(&self) -> bool {
        let mut way = lock(&self.way);
        let Way::Second { probe_at, probe, failures } = &mut *way else { return true };
        let now = Instant::now();
        if now >= *probe_at && probe.as_ref().is_none_or(JoinHandle::is_finished) {
            *failures = failures.saturating_add(1);
            *probe_at = now + PROBE.jittered(*failures);
            *probe = Some(tokio::spawn(look(Arc::clone(&self.first), Arc::clone(&self.way))));
        }
        false
    }

    fn first_failed(&self, error: &TransportError) {
        let mut way = lock(&self.way);
        // Others that were under way may have failed before.
        if let Way::First { failures } = *way {
            let failures = failures.saturating_add(1);
            tracing::info!(%error, "updates come over the second transport");
            *way = Way::Second { failures, probe_at: Instant::now() + PROBE.jittered(failures), probe: None };
        }
    }

    fn first_worked(&self) {
        let mut way = lock(&self.way);
        if matches!(*way, Way::Second { .. }) {
            tracing::info!("updates come over the first transport again");
        }
        *way = Way::First { failures: 0 };
    }
}

/// Looks whether the first transport works again. It counts as tried only once it brought something that was wanted.
async fn look<A: Transport>(first: Arc<A>, way: Arc<Mutex<Way>>) {
    if first.metadata(PROBE_FILE, PROBE_BYTES_MAX).await.as_ref().is_err_and(is_blocked) {
        return;
    }
    let mut way = lock(&way);
    if let Way::Second { failures, .. } = *way {
        tracing::info!("updates come over the first transport again");
        *way = Way::First { failures };
    }
}

fn lock(way: &Mutex<Way>) -> MutexGuard<'_, Way> {
    way.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether an answer says nothing about the file: the transport does not work, or something on the way refuses it.
const fn is_blocked(error: &TransportError) -> bool {
    matches!(error, TransportError::Unavailable { .. } | TransportError::Refused { .. })
}

/// The failure over both transports: what the second one tried says about the file counts.
fn both(one: &TransportError, other: TransportError) -> TransportError {
    match other {
        TransportError::Unavailable { what, why, retry_after } => {
            let asked = match one {
                TransportError::Unavailable { retry_after, .. } => *retry_after,
                _ => None,
            };
            let why = format!("{why}; before that: {one}");
            TransportError::Unavailable { what, why, retry_after: retry_after.max(asked) }
        }
        // Where only one of the two refuses, later may help.
        TransportError::Refused { what, why } if one.is_temporary() => TransportError::Unavailable {
            what,
            why: format!("the server refused: {why}; before that: {one}"),
            retry_after: None,
        },
        answer => answer,
    }
}

impl<A, B> Drop for Switching<A, B> {
    fn drop(&mut self) {
        if let Way::Second { probe: Some(probe), .. } = &*lock(&self.way) {
            probe.abort();
        }
    }
}

impl<A: Transport, B: Transport> Source for Switching<A, B> {
    async fn metadata(&self, file: &str, size_bytes_max: u64) -> Result<Option<Bytes>, TransportError> {
        self.either(self.first.metadata(file, size_bytes_max), self.second.metadata(file, size_bytes_max))
            .await
    }
}

impl<A: Transport, B: Transport> Transport for Switching<A, B> {
    async fn target(&self, file: &str, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        self.either(self.first.target(file, size_bytes_max), self.second.target(file, size_bytes_max)).await
    }

    async fn chunk(&self, stored: Digest, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        self.either(self.first.chunk(stored, size_bytes_max), self.second.chunk(stored, size_bytes_max)).await
    }
}

#[cfg(test)]
mod tests;

//! One file that is being asked for, piece by piece.

use super::super::TransportError;
use bytes::{Bytes, BytesMut};
use std::{fmt, time::Duration};
use tokio::time::Instant;
use whimbrel_wire::transfer::{FILE_BYTES_MAX, Item, PART_BYTES_MAX, Want};

/// Times that a piece is asked for before the failure is passed on.
pub(super) const TRIES_MAX: u32 = 3;

/// Longest time for a whole file: this, and a second for each [`SLOWEST_BYTES_PER_S`] that may come.
const WHOLE: Duration = Duration::from_secs(300);
/// A server that sends more slowly than this is given up, however steadily it does.
const SLOWEST_BYTES_PER_S: u64 = 1024;

/// What came of a whole request.
pub(super) type Outcome = Result<Bytes, TransportError>;

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The next piece is to be asked for, not before this.
    Due(Instant),
    /// It was asked for at this time.
    Asked(Instant),
}

/// A file, as far as it came.
#[derive(Debug)]
pub(super) struct Request {
    item: Item,
    size_bytes_max: u64,
    pub(super) begun: Instant,
    pub(super) phase: Phase,
    /// Times that the next piece was asked for in vain.
    tries: u32,
    /// Times that another file took the place of the one that was begun.
    changes: u32,
    received: BytesMut,
    /// Size of the whole, once an answer told it.
    total_bytes: Option<u64>,
}

/// What a piece made of a request.
#[derive(Debug)]
pub(super) enum Step {
    /// It was of no use: it came twice, or for another place.
    Useless,
    /// More is to come.
    More,
    /// This is the end.
    Done(Outcome),
}

impl Request {
    pub(super) fn new(item: Item, size_bytes_max: u64, now: Instant) -> Self {
        Self {
            item,
            size_bytes_max: size_bytes_max.min(FILE_BYTES_MAX),
            begun: now,
            phase: Phase::Due(now),
            tries: 0,
            changes: 0,
            received: BytesMut::new(),
            total_bytes: None,
        }
    }

    /// What to ask for next.
    pub(super) fn want(&self, id: u64) -> Want {
        let offset = self.received.len() as u64;
        Want { id, item: self.item.clone(), offset, size_bytes_max: self.size_bytes_max }
    }

    /// Most bytes that the next piece can have.
    pub(super) fn piece_bytes_max(&self) -> u64 {
        let end = self.total_bytes.unwrap_or(self.size_bytes_max);
        end.saturating_sub(self.received.len() as u64).min(PART_BYTES_MAX as u64)
    }

    /// When the whole is late.
    pub(super) fn whole_late_at(&self) -> Instant {
        self.begun + WHOLE + Duration::from_secs(self.size_bytes_max / SLOWEST_BYTES_PER_S)
    }

    /// Takes a piece in.
    pub(super) fn take(&mut self, offset: u64, total_bytes: u64, bytes: Bytes, now: Instant) -> Step {
        if total_bytes > self.size_bytes_max {
            return Step::Done(Err(self.too_large()));
        }
        if self.total_bytes.is_some_and(|known| known != total_bytes) {
            return self.restart(now);
        }
        if offset != self.received.len() as u64 {
            return Step::Useless;
        }
        let left = total_bytes - offset;
        if bytes.len() as u64 > left {
            return Step::Useless;
        }
        if bytes.len() as u64 == left {
            return Step::Done(Ok(self.completed(bytes)));
        }
        if matches!(self.item, Item::Chunk { .. }) {
            return Step::Done(Err(self.unavailable("a chunk came in pieces", None)));
        }
        self.received.extend_from_slice(&bytes);
        (self.total_bytes, self.tries, self.phase) = (Some(total_bytes), 0, Phase::Due(now));
        Step::More
    }

    /// Another file took the place of the one that was begun.
    fn restart(&mut self, now: Instant) -> Step {
        self.changes += 1;
        if self.changes >= TRIES_MAX {
            return Step::Done(Err(self.unavailable("it changed while it was fetched", None)));
        }
        self.received.clear();
        (self.total_bytes, self.phase) = (None, Phase::Due(now));
        Step::More
    }

    /// Counts a try that brought nothing; whether it was the last.
    pub(super) fn in_vain(&mut self) -> bool {
        self.tries += 1;
        self.tries >= TRIES_MAX
    }

    /// Tries in vain so far.
    pub(super) const fn tries(&self) -> u32 {
        self.tries
    }

    pub(super) fn not_found(&self) -> TransportError {
        TransportError::NotFound { what: self.to_string() }
    }

    pub(super) fn too_large(&self) -> TransportError {
        TransportError::TooLarge { what: self.to_string(), size_bytes_max: self.size_bytes_max }
    }

    pub(super) fn unavailable(&self, why: &str, retry_after: Option<Duration>) -> TransportError {
        TransportError::Unavailable { what: self.to_string(), why: why.to_owned(), retry_after }
    }

    fn completed(&mut self, last: Bytes) -> Bytes {
        if self.received.is_empty() {
            return last;
        }
        self.received.extend_from_slice(&last);
        std::mem::take(&mut self.received).freeze()
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.item {
            Item::Chunk { stored } => write!(f, "chunk {stored} over MQTT"),
            Item::Metadata { file } => write!(f, "metadata {file} over MQTT"),
            Item::Target { file } => write!(f, "target {file} over MQTT"),
        }
    }
}

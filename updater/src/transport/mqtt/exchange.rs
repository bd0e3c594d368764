//! Which pieces are asked for when: all decisions of the transfer over MQTT, without a connection and without a clock.
//!
//! MQTT promises nothing here: a broker that is short of room throws messages away after it confirmed them. So every piece
//! is asked for again, under the same id, when nothing came for a while, and whatever comes late or twice does no harm.

use super::{
    super::{Backoff, TransportError},
    request::{Outcome, Phase, Request, Step},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;
use whimbrel_wire::transfer::{Content, Get, Item, PART_BYTES_MAX, Part, WINDOW_ITEMS};

/// Pieces outstanding at first; more after each answer.
const WINDOW_FIRST: usize = 4;
/// Bytes that all outstanding answers together may have.
const OUTSTANDING_BYTES_MAX: u64 = (WINDOW_ITEMS * PART_BYTES_MAX) as u64;
/// Longest time without any answer, beside what the largest one takes at [`SLOWEST_BYTES_PER_S`].
const SILENCE: Duration = Duration::from_secs(15);
/// A connection slower than this has its pieces asked for again although they are on the way.
const SLOWEST_BYTES_PER_S: u64 = 16 << 10;
/// Longest wait for one piece, however many others come.
const PIECE: Duration = Duration::from_secs(120);
/// How long the connection may be gone before requests fail.
const GONE: Duration = Duration::from_secs(10);
/// Longest pause that a server can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(10) };

/// Whether there is a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    Up,
    Down { since: Instant },
}

/// Every request of a device, and how many may be outstanding.
#[derive(Debug)]
pub(super) struct Exchange {
    connection: Connection,
    requests: BTreeMap<u64, Request>,
    next_id: u64,
    /// Pieces that may be outstanding now: fewer after silence, more with each answer.
    window: usize,
    /// When something was answered last.
    answered: Instant,
    /// Share of a delay, 0 to 1.
    share: fn() -> f64,
}

/// Requests that ended, by id.
pub(super) type Ended = Vec<(u64, Outcome)>;

impl Exchange {
    /// Not connected yet. Ids count up from `first_id`, which is random, so that no answer to an earlier process fits.
    pub(super) fn new(first_id: u64, share: fn() -> f64, now: Instant) -> Self {
        Self {
            connection: Connection::Down { since: now },
            requests: BTreeMap::new(),
            next_id: first_id,
            window: WINDOW_FIRST,
            answered: now,
            share,
        }
    }

    /// Takes a request in and names it.
    ///
    /// # Errors
    /// A name that cannot be asked for.
    pub(super) fn begin(
        &mut self,
        item: Item,
        size_bytes_max: u64,
        now: Instant,
    ) -> Result<u64, TransportError> {
        let valid = item.validate();
        let request = Request::new(item, size_bytes_max, now);
        if let Err(why) = valid {
            return Err(TransportError::Refused { what: request.to_string(), why });
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.requests.insert(id, request);
        Ok(id)
    }

    /// Nobody waits for this one any more.
    pub(super) fn cancel(&mut self, id: u64) {
        self.requests.remove(&id);
    }

    /// A new connection was made.
    pub(super) fn connected(&mut self, now: Instant) -> Ended {
        // The end of the one before may not have been noticed.
        let ended = self.disconnected(now);
        (self.connection, self.answered, self.window) = (Connection::Up, now, WINDOW_FIRST);
        ended
    }

    /// The connection broke: what was outstanding is asked for again on the next, unless it was in vain too often. It may
    /// be what breaks the connection.
    pub(super) fn disconnected(&mut self, now: Instant) -> Ended {
        if self.connection == Connection::Up {
            self.connection = Connection::Down { since: now };
        }
        let mut ended = Vec::new();
        self.requests.retain(|id, request| {
            let outstanding = matches!(request.phase, Phase::Asked(_));
            if outstanding && request.in_vain() {
                ended.push((*id, Err(request.unavailable("the connection broke", None))));
                return false;
            }
            request.phase = Phase::Due(now);
            true
        });
        ended
    }

    /// Takes an answer in. One to a request that is unknown, or that has the piece already, is ignored.
    pub(super) fn answer(&mut self, part: Part, now: Instant) -> Ended {
        let Part { id, content } = part;
        let Some(request) = self.requests.get_mut(&id) else { return Vec::new() };
        let step = match content {
            Content::Bytes { offset, total_bytes, bytes } => request.take(offset, total_bytes, bytes, now),
            Content::NotFound {} => Step::Done(Err(request.not_found())),
            Content::TooLarge { .. } => Step::Done(Err(request.too_large())),
            Content::Busy { retry_after_s } => {
                let asked = Duration::from_secs(retry_after_s.into()).min(RETRY_AFTER_MAX);
                self.window = (self.window / 2).max(1);
                if again(request, asked, self.share, now) {
                    Step::More
                } else {
                    Step::Done(Err(request.unavailable("the server is busy", Some(asked))))
                }
            }
        };
        match step {
            Step::Useless => Vec::new(),
            Step::More => {
                self.sign(now);
                Vec::new()
            }
            Step::Done(outcome) => {
                self.sign(now);
                self.requests.remove(&id);
                vec![(id, outcome)]
            }
        }
    }

    /// Notices what did not come in time.
    pub(super) fn tick(&mut self, now: Instant) -> Ended {
        let late: Vec<u64> = self.requests.keys().copied().filter(|id| self.is_late(*id, now)).collect();
        let mut ended = Vec::new();
        for id in &late {
            let Some(request) = self.requests.get_mut(id) else { continue };
            let why = match self.connection {
                Connection::Down { .. } => Some("not connected"),
                Connection::Up if request.whole_late_at() <= now => Some("too slow"),
                Connection::Up if again(request, Duration::ZERO, self.share, now) => None,
                Connection::Up => Some("no answer in time"),
            };
            if let Some(why) = why {
                ended.push((*id, Err(request.unavailable(why, None))));
                self.requests.remove(id);
            }
        }
        if !late.is_empty() && self.connection == Connection::Up {
            self.window = (self.window / 2).max(1);
            // What is asked for now gets a silence of its own.
            self.answered = now;
        }
        ended
    }

    /// What to ask for now, oldest first. It counts as asked.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Get> {
        if self.connection != Connection::Up {
            return None;
        }
        let (mut items, mut bytes) = self.outstanding();
        let mut wants = Vec::new();
        for (id, request) in &mut self.requests {
            let due = matches!(request.phase, Phase::Due(at) if at <= now);
            let more = request.piece_bytes_max();
            if !due || items >= self.window || bytes + more > OUTSTANDING_BYTES_MAX {
                continue;
            }
            (items, bytes) = (items + 1, bytes + more);
            request.phase = Phase::Asked(now);
            wants.push(request.want(*id));
        }
        (!wants.is_empty()).then_some(Get { wants })
    }

    /// When to look again, if nothing happens before.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let each = self.requests.values().map(|request| match request.phase {
            // What is due already waits for room, not for time.
            Phase::Due(at) if at > now => at.min(self.late_at(request)),
            _ => self.late_at(request),
        });
        each.min()
    }

    fn is_late(&self, id: u64, now: Instant) -> bool {
        self.requests.get(&id).is_some_and(|request| self.late_at(request) <= now)
    }

    /// When something must have happened with a request.
    fn late_at(&self, request: &Request) -> Instant {
        let whole = request.whole_late_at();
        match (self.connection, request.phase) {
            (Connection::Down { since }, _) => gone(since, request).min(whole),
            (Connection::Up, Phase::Asked(at)) => self.piece_late_at(at).min(whole),
            (Connection::Up, Phase::Due(_)) => whole,
        }
    }

    /// When a piece that was asked for at `at` is late.
    fn piece_late_at(&self, at: Instant) -> Instant {
        let largest = self.asked().map(Request::piece_bytes_max).max().unwrap_or_default();
        let silence = SILENCE + Duration::from_secs(largest / SLOWEST_BYTES_PER_S);
        (at.max(self.answered) + silence).min(at + PIECE)
    }

    fn asked(&self) -> impl Iterator<Item = &Request> {
        self.requests.values().filter(|request| matches!(request.phase, Phase::Asked(_)))
    }

    fn outstanding(&self) -> (usize, u64) {
        self.asked().fold((0, 0), |(items, bytes), request| (items + 1, bytes + request.piece_bytes_max()))
    }

    /// The server answers: a little more may be outstanding.
    fn sign(&mut self, now: Instant) {
        self.answered = now;
        self.window = (self.window + 1).min(WINDOW_ITEMS);
    }
}

/// When a request gives up waiting for a connection. One that has been gone for long is not waited for.
fn gone(since: Instant, request: &Request) -> Instant {
    (since + GONE).max(request.begun)
}

/// Has a piece asked for again, not before `pause`; false when that was done often enough.
fn again(request: &mut Request, pause: Duration, share: fn() -> f64, now: Instant) -> bool {
    if request.in_vain() {
        return false;
    }
    request.phase = Phase::Due(now + pause.max(BACKOFF.delay(request.tries(), share())));
    true
}

#[cfg(test)]
mod tests;

//! Which batches are to be sent now. They count as delivered only when the server says that it has stored them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use whimbrel_telemetry::BatchId;
use whimbrel_wire::telemetry::Ack;

/// Batches that may be under way at the same time.
pub(super) const IN_FLIGHT_MAX: usize = 16;
/// Time without an acknowledgement after which a batch is sent again.
const RESEND: Duration = Duration::from_secs(30);

/// The batches under way on one connection.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    sent: BTreeMap<BatchId, Instant>,
}

impl InFlight {
    /// Of the oldest pending batches, those that are to be sent now. They count as sent.
    pub(super) fn due<T>(&mut self, pending: Vec<(BatchId, T)>, now: Instant) -> Vec<(BatchId, T)> {
        // What is no longer pending was acknowledged over another way, or dropped.
        self.sent.retain(|id, _| pending.iter().any(|(other, _)| other == id));
        let mut due = Vec::new();
        for (id, bytes) in pending.into_iter().take(IN_FLIGHT_MAX) {
            let waits = self.sent.get(&id).is_some_and(|at| now.saturating_duration_since(*at) < RESEND);
            if !waits {
                self.sent.insert(id, now);
                due.push((id, bytes));
            }
        }
        due
    }

    /// A batch that could not be handed over after all.
    pub(super) fn unsent(&mut self, id: BatchId) {
        self.sent.remove(&id);
    }

    /// The server has stored these.
    pub(super) fn acknowledged(&mut self, ids: &[BatchId]) {
        for id in ids {
            self.sent.remove(id);
        }
    }

    /// The connection broke: everything may have been lost on the way.
    pub(super) fn forget(&mut self) {
        self.sent.clear();
    }
}

/// The batches that an acknowledgement names.
pub(super) fn named(ack: &Ack) -> Vec<BatchId> {
    ack.sequences.iter().map(|sequence| BatchId { boot: ack.boot, sequence: *sequence }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(range: std::ops::Range<u64>) -> Vec<(BatchId, ())> {
        range.map(|sequence| (BatchId { boot: 1, sequence }, ())).collect()
    }
    fn sequences(due: &[(BatchId, ())]) -> Vec<u64> {
        due.iter().map(|(id, ())| id.sequence).collect()
    }

    #[test]
    fn oldest_first_and_never_more_than_the_bound() {
        let (mut flight, now) = (InFlight::default(), Instant::now());
        assert_eq!(sequences(&flight.due(pending(1..40), now)), (1..17).collect::<Vec<_>>());
        assert!(flight.due(pending(1..40), now).is_empty());
        flight.acknowledged(&named(&Ack { boot: 1, sequences: vec![1, 2] }));
        assert_eq!(sequences(&flight.due(pending(3..40), now)), [17, 18]);
    }

    #[test]
    fn sent_again_after_silence_a_failure_or_a_broken_connection() {
        let (mut flight, now) = (InFlight::default(), Instant::now());
        flight.due(pending(1..3), now);
        assert!(flight.due(pending(1..3), now + RESEND - Duration::from_millis(1)).is_empty());
        assert_eq!(sequences(&flight.due(pending(1..3), now + RESEND)), [1, 2]);
        flight.unsent(BatchId { boot: 1, sequence: 2 });
        assert_eq!(sequences(&flight.due(pending(1..3), now + RESEND)), [2]);
        flight.forget();
        assert_eq!(sequences(&flight.due(pending(1..3), now + RESEND)), [1, 2]);
    }

    #[test]
    fn an_acknowledgement_of_another_incarnation_frees_nothing() {
        let (mut flight, now) = (InFlight::default(), Instant::now());
        flight.due(pending(1..2), now);
        flight.acknowledged(&named(&Ack { boot: 2, sequences: vec![1] }));
        assert!(flight.due(pending(1..2), now).is_empty());
    }
}

//! What devices send, over MQTT or HTTPS.

use super::{Fault, Fleet, count};
use crate::{
    bus::{Address, Event, Incoming},
    store::telemetry::{Counted, Delivery},
};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::mpsc;
use whimbrel_wire::{
    DecodeError, decode, encode,
    report::{Report, Status},
    telemetry::{Ack, Batch},
    topic::Leaf,
};

/// Batches that are stored in one transaction: one wait for the disk for all of them.
const TOGETHER_MAX: usize = 64;
/// Most sequences in one acknowledgement.
const ACK_SEQUENCES_MAX: usize = 1024;

/// Takes in what the bus brings until it ends.
pub(crate) async fn intake(fleet: Arc<Fleet>, mut incoming: mpsc::Receiver<Incoming>) {
    let mut events = Vec::with_capacity(TOGETHER_MAX);
    while incoming.recv_many(&mut events, TOGETHER_MAX).await > 0 {
        let mut deliveries = Vec::new();
        for Incoming { from, event } in events.drain(..) {
            match event {
                Event::Up => fleet.set_online(from, true),
                Event::Down => fleet.set_online(from, false),
                Event::Message { leaf, body } => {
                    if let Err(error) = fleet.message(&from, leaf, &body, &mut deliveries).await {
                        count(&fleet.counters().messages_refused);
                        tracing::warn!(device = %from.device, %leaf, "message not taken: {error}");
                    }
                }
            }
        }
        fleet.take_batches(deliveries).await;
    }
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("a device does not publish there")]
    Leaf,
}

impl Fleet {
    /// Keeps a report.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn take_report(&self, from: &Address, report: &Report) -> Result<(), Fault> {
        self.store().note_report(from, report, self.now_ms()).await?;
        count(&self.counters.reports);
        self.wake_planner();
        Ok(())
    }

    /// Stores a batch and answers when it is stored.
    ///
    /// # Errors
    /// When the database refuses: then the device keeps the batch.
    pub(crate) async fn take_batch(&self, from: &Address, batch: Batch) -> Result<Ack, Fault> {
        let ack = Ack { boot: batch.boot, sequences: vec![batch.sequence] };
        let delivery = Delivery { from: from.clone(), batch };
        let counted = self.store().count_batches(&[delivery], self.now_ms()).await?;
        self.count_batches(&counted);
        self.note_seen(from);
        Ok(ack)
    }

    async fn message(
        self: &Arc<Self>,
        from: &Address,
        leaf: Leaf,
        body: &[u8],
        deliveries: &mut Vec<Delivery>,
    ) -> Result<(), Refused> {
        match leaf {
            Leaf::Report => self.take_report(from, &decode::<Report>(body)?).await?,
            Leaf::Status => self.set_online(from.clone(), decode::<Status>(body)?.online),
            Leaf::Telemetry => deliveries.push(Delivery { from: from.clone(), batch: decode(body)? }),
            Leaf::ChunkGet => self.answer(from, decode(body)?),
            Leaf::Desired | Leaf::Ack | Leaf::Chunk(_) | Leaf::File => return Err(Refused::Leaf),
        }
        Ok(())
    }

    /// Stores batches, then acknowledges them. Those that could not be stored come again.
    async fn take_batches(&self, deliveries: Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        match self.store().count_batches(&deliveries, self.now_ms()).await {
            Ok(counted) => self.count_batches(&counted),
            Err(error) => {
                tracing::error!(
                    "{} batches stay with their devices: {}",
                    deliveries.len(),
                    super::chain(&error)
                );
                return;
            }
        }
        let mut acks: BTreeMap<(Address, u64), Vec<u64>> = BTreeMap::new();
        for Delivery { from, batch } in deliveries {
            self.note_seen(&from);
            acks.entry((from, batch.boot)).or_default().push(batch.sequence);
        }
        for ((to, boot), sequences) in acks {
            for sequences in sequences.chunks(ACK_SEQUENCES_MAX) {
                self.acknowledge(&to, Ack { boot, sequences: sequences.to_vec() }).await;
            }
        }
    }

    async fn acknowledge(&self, to: &Address, ack: Ack) {
        let sent = match encode(&ack) {
            Ok(body) => self.parts.bus.publish(to, Leaf::Ack, body.into(), false).await,
            Err(error) => {
                tracing::error!("{error}");
                return;
            }
        };
        // Not fatal: the device sends the batch again and is acknowledged then.
        if let Err(error) = sent {
            tracing::warn!(device = %to.device, "{error}");
        }
    }

    fn set_online(&self, who: Address, online: bool) {
        self.note_seen(&who);
        if let Ok(mut set) = self.online.write() {
            if online {
                set.insert(who)
            } else {
                set.remove(&who)
            };
        }
    }

    fn count_batches(&self, counted: &[Counted]) {
        for one in counted {
            let counter = match one {
                Counted::New => &self.counters.batches,
                Counted::Before => &self.counters.batches_repeated,
            };
            count(counter);
        }
    }
}

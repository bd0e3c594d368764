//! Answers what devices ask for over MQTT, where HTTPS is blocked.
//!
//! No answer is promised. What goes beyond a device's window is dropped: the device asks again for what does not come.

use super::{Fault, Fleet, count};
use crate::{
    bus::{Address, Room},
    store::blobs::Piece,
};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use std::sync::{Arc, atomic::Ordering};
use whimbrel_wire::{
    encode,
    topic::Leaf,
    transfer::{Content, Get, Item, PART_BYTES_MAX, Part, Want},
};

/// Files that are read at the same time, whoever asks.
pub(super) const READS_MAX: usize = 16;
/// Seconds that a device is asked to wait for when the server cannot answer.
const RETRY_AFTER_S: u32 = 5;

impl Fleet {
    /// Answers a get. Returns at once: reading and sending are done beside, within the room that there is.
    pub(super) fn answer(self: &Arc<Self>, to: &Address, get: Get) {
        for want in get.wants {
            let room = self.parts.bus.reserve(to);
            if room == Room::DeviceFull {
                count(&self.counters.wants_dropped);
                continue;
            }
            let (fleet, to) = (Arc::clone(self), to.clone());
            tokio::spawn(async move {
                let content = match room {
                    Room::Reserved => fleet.content(&want).await,
                    _ => busy(),
                };
                if !fleet.send_part(&to, want, content).await && room == Room::Reserved {
                    fleet.parts.bus.release(&to);
                }
            });
        }
    }

    /// The bytes that a want asks for, or why there are none.
    async fn content(&self, want: &Want) -> Content {
        // The semaphore is never closed.
        let _turn = self.reads.acquire().await;
        self.piece(want).await.unwrap_or_else(|_logged| busy())
    }

    async fn piece(&self, want: &Want) -> Result<Content, Fault> {
        let piece = match &want.item {
            Item::Chunk { stored } => self.chunks().piece(stored, 0, PART_BYTES_MAX).await?,
            Item::Metadata { file } => {
                // A device names the file as it would in a URL.
                let file = percent_decode_str(file).decode_utf8_lossy();
                self.metadata_file(&file).await?.map(|bytes| cut(bytes, want.offset))
            }
            Item::Target { file } => match self.target_hash(file).await? {
                Some(hash) => self.targets().piece(&hash, want.offset, PART_BYTES_MAX).await?,
                None => None,
            },
        };
        Ok(match piece {
            None => Content::NotFound {},
            Some(Piece { total_bytes, .. }) if total_bytes > want.size_bytes_max => {
                Content::TooLarge { total_bytes }
            }
            Some(Piece { offset, total_bytes, bytes }) => Content::Bytes { offset, total_bytes, bytes },
        })
    }

    /// Whether the broker took it.
    async fn send_part(&self, to: &Address, want: Want, content: Content) -> bool {
        let leaf = match want.item {
            Item::Chunk { stored } => Leaf::Chunk(stored),
            Item::Metadata { .. } | Item::Target { .. } => Leaf::File,
        };
        let body = match encode(&Part { id: want.id, content }) {
            Ok(body) => Bytes::from(body),
            Err(error) => {
                tracing::error!(device = %to.device, %leaf, "{error}");
                return false;
            }
        };
        let size_bytes = body.len() as u64;
        match self.parts.bus.publish(to, leaf, body, false).await {
            Ok(()) => {
                count(&self.counters.parts);
                self.counters.part_bytes.fetch_add(size_bytes, Ordering::Relaxed);
                true
            }
            Err(error) => {
                tracing::warn!(device = %to.device, "{error}");
                false
            }
        }
    }
}

const fn busy() -> Content {
    Content::Busy { retry_after_s: RETRY_AFTER_S }
}

/// What fits into a part of a file that is here whole.
fn cut(whole: Vec<u8>, offset: u64) -> Piece {
    let whole = Bytes::from(whole);
    // Where nothing is there the file changed: the device begins anew.
    let from = usize::try_from(offset).ok().filter(|from| *from < whole.len()).unwrap_or_default();
    let to = whole.len().min(from.saturating_add(PART_BYTES_MAX));
    Piece { offset: from as u64, total_bytes: whole.len() as u64, bytes: whole.slice(from..to) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_cut_into_parts_that_reach_to_their_end() {
        let whole = vec![7; PART_BYTES_MAX + 10];
        let total = whole.len() as u64;
        let placed = |offset| {
            let piece = cut(whole.clone(), offset);
            assert_eq!(piece.total_bytes, total);
            (piece.offset, piece.bytes.len())
        };
        assert_eq!(placed(0), (0, PART_BYTES_MAX));
        assert_eq!(placed(PART_BYTES_MAX as u64), (PART_BYTES_MAX as u64, 10));
        for beyond in [total, u64::MAX] {
            assert_eq!(placed(beyond), (0, PART_BYTES_MAX), "from the beginning");
        }
        assert_eq!(cut(Vec::new(), 0).bytes.len(), 0);
    }
}

//! How a batch and the spool's own state lie in a generation.
//!
//! ```text
//! key   0x01, boot u64, sequence u64 (big-endian: keys sort by identity)
//! value format u8 = 1, crc32 u32 (little-endian) of key and bytes, bytes
//! key   0x00
//! value format u8 = 1, crc32 u32 of the rest, boot u64, high u64, dropped u64, damaged u64 (little-endian)
//! ```

use super::BatchId;
use crate::bytes::Reader;

pub(super) const STATE_KEY: &[u8] = &[0];
pub(super) const BATCH_PREFIX: &[u8] = &[1];
const FORMAT: u8 = 1;

/// What outlives the batches: which numbers were used, and what was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) boot: u64,
    pub(super) high: u64,
    pub(super) dropped: u64,
    pub(super) damaged: u64,
}

impl State {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut body = Vec::with_capacity(32);
        for n in [self.boot, self.high, self.dropped, self.damaged] {
            body.extend_from_slice(&n.to_le_bytes());
        }
        envelope(crc32fast::hash(&body), &body)
    }

    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let (crc, body) = open(value)?;
        let mut r = Reader(body);
        let state = Self { boot: r.u64()?, high: r.u64()?, dropped: r.u64()?, damaged: r.u64()? };
        (crc == crc32fast::hash(body) && r.is_done()).then_some(state)
    }
}

pub(super) fn key(id: BatchId) -> [u8; 17] {
    let mut key = [1; 17];
    key[1..9].copy_from_slice(&id.boot.to_be_bytes());
    key[9..].copy_from_slice(&id.sequence.to_be_bytes());
    key
}

pub(super) fn id(key: &[u8]) -> Option<BatchId> {
    let mut r = Reader(key);
    let _prefix = r.byte()?;
    let id = BatchId { boot: u64::from_be_bytes(r.array()?), sequence: u64::from_be_bytes(r.array()?) };
    r.is_done().then_some(id)
}

pub(super) fn encode_batch(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    envelope(batch_crc(key, bytes), bytes)
}

/// The batch in a value; `None` when it is damaged.
pub(super) fn decode_batch<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (crc, bytes) = open(value)?;
    (crc == batch_crc(key, bytes)).then_some(bytes)
}

/// The key is covered too, so that a value that ended up under another key is noticed.
fn batch_crc(key: &[u8], bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc.update(bytes);
    crc.finalize()
}

fn envelope(crc: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + body.len());
    out.push(FORMAT);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(body);
    out
}

fn open(value: &[u8]) -> Option<(u32, &[u8])> {
    let mut r = Reader(value);
    (r.byte()? == FORMAT).then_some(())?;
    Some((r.u32()?, r.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_and_any_flipped_byte_is_noticed() {
        let key = key(BatchId { boot: 5, sequence: 9 });
        assert_eq!(id(&key), Some(BatchId { boot: 5, sequence: 9 }));
        let value = encode_batch(&key, b"window");
        assert_eq!(decode_batch(&key, &value), Some(&b"window"[..]));
        let state = State { boot: 1, high: 2, dropped: 3, damaged: 4 };
        assert_eq!(State::decode(&state.encode()), Some(state));
        for at in 0..value.len() {
            let mut bad = value.clone();
            bad[at] ^= 1;
            assert_eq!(decode_batch(&key, &bad), None, "byte {at}");
        }
        for at in 0..state.encode().len() {
            let mut bad = state.encode();
            bad[at] ^= 1;
            assert_eq!(State::decode(&bad), None, "byte {at}");
        }
        let mut other = key;
        other[16] ^= 1;
        assert_eq!(decode_batch(&other, &value), None);
    }
}

//! A file without its weights: what is decoded, and where the weights lie.
//!
//! Decoding a whole file would hold every weight several times. Only the graph's initialisers are left out, and of these only the raw
//! data of the larger ones; all else is copied as it stands.

use crate::{error::LoadError, source::Source};
use std::{collections::HashMap, ops::Range};

/// Raw data of fewer bytes than this is copied.
const STORED_BYTES_MIN: u64 = 4096;

/// Bytes read at a time.
const WINDOW_BYTES: u64 = 64 << 10;

/// Fields of the messages on the way.
const MODEL_GRAPH: u64 = 7;
const GRAPH_INITIALIZER: u64 = 5;
const TENSOR_RAW_DATA: u64 = 9;

/// For initialisers by their places in the graph: where their raw data lies.
pub(crate) type StoredData = HashMap<usize, Range<u64>>;

/// The protobuf bytes without the raw data of large initialisers, and where that is.
///
/// # Errors
/// The source cannot be read, or is no protobuf.
pub(super) fn skeleton(source: &Source) -> Result<(Vec<u8>, StoredData), LoadError> {
    let mut walk =
        Walk { source, window: Vec::new(), window_at: 0, at: 0, stored: HashMap::new(), graphs: 0 };
    let mut bytes = Vec::new();
    walk.model(&mut bytes)?;
    Ok((bytes, walk.stored))
}

struct Walk<'a> {
    source: &'a Source,
    window: Vec<u8>,
    window_at: u64,
    at: u64,
    stored: StoredData,
    /// Protobuf joins repeated messages, which this walk does not.
    graphs: usize,
}

fn malformed() -> LoadError {
    LoadError::Malformed { why: "it ends in the middle of a field, or is no protobuf".into() }
}

fn put_varint(mut value: u64, into: &mut Vec<u8>) {
    while value > 0x7f {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn put_message(key: u64, body: &[u8], into: &mut Vec<u8>) {
    put_varint(key, into);
    put_varint(body.len() as u64, into);
    into.extend_from_slice(body);
}

impl Walk<'_> {
    fn model(&mut self, into: &mut Vec<u8>) -> Result<(), LoadError> {
        let end = self.source.len();
        while self.at < end {
            let key = self.varint(end)?;
            if key == MODEL_GRAPH << 3 | 2 {
                let inner = self.message_end(end)?;
                self.graphs += 1;
                if self.graphs > 1 {
                    return Err(LoadError::Malformed { why: "it holds two graphs".into() });
                }
                let mut body = Vec::new();
                self.graph(inner, &mut body)?;
                put_message(key, &body, into);
            } else {
                self.copy_field(key, end, into)?;
            }
        }
        Ok(())
    }

    fn graph(&mut self, end: u64, into: &mut Vec<u8>) -> Result<(), LoadError> {
        let mut initializers = 0;
        while self.at < end {
            let key = self.varint(end)?;
            if key == GRAPH_INITIALIZER << 3 | 2 {
                let inner = self.message_end(end)?;
                let mut body = Vec::new();
                self.tensor(inner, initializers, &mut body)?;
                put_message(key, &body, into);
                initializers += 1;
            } else {
                self.copy_field(key, end, into)?;
            }
        }
        Ok(())
    }

    fn tensor(&mut self, end: u64, index: usize, into: &mut Vec<u8>) -> Result<(), LoadError> {
        while self.at < end {
            let key = self.varint(end)?;
            if key != TENSOR_RAW_DATA << 3 | 2 {
                self.copy_field(key, end, into)?;
                continue;
            }
            let data_end = self.message_end(end)?;
            // Of a field that stands twice, the last one counts.
            self.stored.remove(&index);
            if data_end - self.at < STORED_BYTES_MIN {
                put_varint(key, into);
                put_varint(data_end - self.at, into);
                self.copy_to(data_end, into)?;
            } else {
                put_message(key, &[], into);
                self.stored.insert(index, self.at..data_end);
                self.at = data_end;
            }
        }
        Ok(())
    }

    /// Copies a field whose key was read.
    fn copy_field(&mut self, key: u64, end: u64, into: &mut Vec<u8>) -> Result<(), LoadError> {
        put_varint(key, into);
        let body_end = match key & 7 {
            0 => {
                put_varint(self.varint(end)?, into);
                return Ok(());
            }
            1 => self.at + 8,
            5 => self.at + 4,
            2 => {
                let body_end = self.message_end(end)?;
                put_varint(body_end - self.at, into);
                body_end
            }
            _ => return Err(malformed()),
        };
        if body_end > end {
            return Err(malformed());
        }
        self.copy_to(body_end, into)
    }

    fn copy_to(&mut self, end: u64, into: &mut Vec<u8>) -> Result<(), LoadError> {
        while self.at < end {
            let left = usize::try_from(end - self.at).unwrap_or(usize::MAX);
            let window = self.window()?;
            let take = left.min(window.len());
            into.extend_from_slice(&window[..take]);
            self.at += take as u64;
        }
        Ok(())
    }

    /// Where a message ends whose length comes next.
    fn message_end(&mut self, end: u64) -> Result<u64, LoadError> {
        let len = self.varint(end)?;
        self.at.checked_add(len).filter(|inner| *inner <= end).ok_or_else(malformed)
    }

    fn varint(&mut self, end: u64) -> Result<u64, LoadError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            if self.at >= end {
                return Err(malformed());
            }
            let byte = *self.window()?.first().ok_or_else(malformed)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed())
    }

    /// Some bytes from the present place on; at least one.
    fn window(&mut self) -> Result<&[u8], LoadError> {
        let window_end = self.window_at + self.window.len() as u64;
        if self.at < self.window_at || self.at >= window_end {
            let end = self.source.len().min(self.at + WINDOW_BYTES);
            let failed = |source| LoadError::Read { path: "the model".into(), source };
            self.window = self.source.bytes(&(self.at..end)).map_err(failed)?;
            self.window_at = self.at;
        }
        let from = usize::try_from(self.at - self.window_at).unwrap_or(usize::MAX);
        self.window.get(from..).filter(|rest| !rest.is_empty()).ok_or_else(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(number: u64, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_message(number << 3 | 2, body, &mut bytes);
        bytes
    }

    #[test]
    fn only_large_raw_data_of_initialisers_is_left_out() {
        let small = field(GRAPH_INITIALIZER, &field(TENSOR_RAW_DATA, &[1; 100]));
        let large =
            field(GRAPH_INITIALIZER, &[field(8, b"w"), field(TENSOR_RAW_DATA, &[2; 300_000])].concat());
        let node = field(1, &[3; 5000]);
        let graph = [small.clone(), node.clone(), large, small.clone()].concat();
        let model = [field(2, b"producer"), field(MODEL_GRAPH, &graph)].concat();
        let source = Source::of_bytes(model.clone());
        let (bytes, stored) = skeleton(&source).expect("read");
        let empty = field(GRAPH_INITIALIZER, &[field(8, b"w"), field(TENSOR_RAW_DATA, &[])].concat());
        let graph = [small.clone(), node, empty, small].concat();
        assert_eq!(bytes, [field(2, b"producer"), field(MODEL_GRAPH, &graph)].concat());
        assert_eq!(stored.len(), 1);
        assert_eq!(source.bytes(&stored[&1]).expect("there"), [2; 300_000]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok((copy, _)) = skeleton(&Source::of_bytes(bytes.clone())) {
                prop_assert!(copy.len() <= bytes.len());
            }
        }
    }
}

//! What a device that has some bundles must fetch of another.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use whimbrel_wire::{Digest, index::Index};

/// What is moved and what is not. Sizes are those of chunks as they are stored and moved, each content once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Bytes to be fetched.
    pub moved_bytes: u64,
    /// Bytes that the device has already, in whatever bundle.
    pub reused_bytes: u64,
    /// Chunks to be fetched.
    pub chunks: u64,
    /// Chunks that it has already.
    pub chunks_reused: u64,
}

/// What a device with the bundles `old` fetches of `new`. The engine does as this says, as both go by the content of chunks.
pub fn delta<'a>(old: impl IntoIterator<Item = &'a Index>, new: &Index) -> Delta {
    let here: BTreeSet<Digest> = old.into_iter().flat_map(Index::chunks).map(|c| c.raw).collect();
    let mut seen = BTreeSet::new();
    let mut delta = Delta::default();
    for chunk in new.chunks().filter(|chunk| seen.insert(chunk.raw)) {
        let (bytes, chunks) = if here.contains(&chunk.raw) {
            (&mut delta.reused_bytes, &mut delta.chunks_reused)
        } else {
            (&mut delta.moved_bytes, &mut delta.chunks)
        };
        *bytes += u64::from(chunk.stored_bytes);
        *chunks += 1;
    }
    delta
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noise, pack};

    #[test]
    fn only_what_no_bundle_has_is_moved_and_each_content_once() {
        let model = noise(1, 600_000);
        let mut changed = [model.clone(), model.clone()].concat();
        changed[100] ^= 1;
        let old = pack("m", "1.0.0", &model, "");
        let new = pack("m", "2.0.0", &changed, "");
        let whole = delta([], new.index());
        assert_eq!((whole.reused_bytes, whole.chunks as usize), (0, new.chunks().len()));
        let part = delta([old.index()], new.index());
        assert_eq!(part.moved_bytes + part.reused_bytes, whole.moved_bytes);
        assert!(part.moved_bytes < whole.moved_bytes / 2, "{part:?} of {whole:?}");
        assert_eq!(delta([new.index(), old.index()], old.index()).moved_bytes, 0);
    }
}

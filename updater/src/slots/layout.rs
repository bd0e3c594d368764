//! Where each chunk of a bundle lies in its files.

use std::ops::Range;
use whimbrel_wire::{
    Digest,
    index::{Chunk, FileEntry, Index},
};

/// An index whose chunks are numbered, in the order of files and of offsets.
#[derive(Debug)]
pub struct Layout {
    index: Index,
    parts: Vec<Part>,
    /// The numbers of all chunks, those of the same content together.
    by_content: Vec<u32>,
}

/// Where one chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    /// Number of the file in the index.
    file: u32,
    /// Number of the chunk in its file.
    at: u32,
    /// First byte in the file.
    offset: u64,
}

impl Layout {
    /// Numbers the chunks of an index.
    #[must_use]
    pub fn new(index: Index) -> Self {
        let mut parts = Vec::with_capacity(index.files.iter().map(|f| f.chunks.len()).sum());
        for (file, entry) in (0..).zip(&index.files) {
            let mut offset = 0;
            for (at, chunk) in (0..).zip(&entry.chunks) {
                parts.push(Part { file, at, offset });
                offset += u64::from(chunk.raw_bytes);
            }
        }
        let mut by_content: Vec<u32> = (0..).zip(&parts).map(|(number, _)| number).collect();
        let layout = Self { index, parts, by_content: Vec::new() };
        by_content.sort_unstable_by_key(|number| (layout.chunk(*number).raw, *number));
        Self { by_content, ..layout }
    }

    /// The index.
    #[must_use]
    pub const fn index(&self) -> &Index {
        &self.index
    }

    /// How many chunks there are, with repeats.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether there are none: every file is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// A chunk.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    pub fn chunk(&self, number: u32) -> &Chunk {
        let part = self.parts[number as usize];
        &self.index.files[part.file as usize].chunks[part.at as usize]
    }

    /// The file that a chunk belongs to, and its first byte there.
    ///
    /// # Panics
    /// When there are fewer chunks.
    #[must_use]
    pub fn place(&self, number: u32) -> (&FileEntry, u64) {
        let part = self.parts[number as usize];
        (&self.index.files[part.file as usize], part.offset)
    }

    /// The numbers of the chunks with this content, lowest first; none when the bundle has no such chunk.
    #[must_use]
    pub fn with_content(&self, raw: Digest) -> &[u32] {
        let start = self.by_content.partition_point(|number| self.chunk(*number).raw < raw);
        let rest = self.by_content.get(start..).unwrap_or_default();
        let len = rest.iter().take_while(|number| self.chunk(**number).raw == raw).count();
        &rest[..len]
    }

    /// The numbers of all chunks, those of the same content together, lowest first.
    pub fn contents(&self) -> impl Iterator<Item = &[u32]> {
        self.by_content.chunk_by(|a, b| self.chunk(*a).raw == self.chunk(*b).raw)
    }

    /// The numbers of a file's chunks.
    #[must_use]
    pub fn numbers_of(&self, file: usize) -> Range<u32> {
        let start = self.parts.partition_point(|part| (part.file as usize) < file);
        let end = self.parts.partition_point(|part| (part.file as usize) <= file);
        // An index has far fewer chunks than a number can count.
        u32::try_from(start).unwrap_or(u32::MAX)..u32::try_from(end).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noise, pack};

    #[test]
    fn every_chunk_has_its_place_and_repeats_are_found_together() {
        let model = [noise(1, 300_000), noise(1, 300_000)].concat();
        let layout = Layout::new(pack("m", "1.0.0", &model, "").index().clone());
        let mut next = 0;
        for file in 0..layout.index().files.len() {
            let mut end = 0;
            for number in layout.numbers_of(file) {
                assert_eq!(number, next);
                next += 1;
                let (entry, offset) = layout.place(number);
                assert_eq!((&entry.path, offset), (&layout.index().files[file].path, end));
                end += u64::from(layout.chunk(number).raw_bytes);
                assert!(layout.with_content(layout.chunk(number).raw).contains(&number));
            }
            assert_eq!(end, layout.index().files[file].size_bytes);
        }
        assert_eq!(next as usize, layout.len());
        assert!((0..next).any(|number| layout.with_content(layout.chunk(number).raw).len() > 1));
        assert_eq!(layout.contents().map(<[u32]>::len).sum::<usize>(), layout.len());
        assert!(layout.with_content(Digest::new([0; 32])).is_empty());
    }
}

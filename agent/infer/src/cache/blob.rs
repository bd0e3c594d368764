//! A packed part in a mapped file.

use super::mapping::Mapping;
use std::{fmt, ops::Range, sync::Arc};

/// A packed part in a mapped file; cloning shares it. Its first byte lies at a multiple of 64.
#[derive(Clone)]
pub struct Blob {
    mapping: Arc<Mapping>,
    range: Range<usize>,
    sum: u32,
}

impl Blob {
    /// A part of a file with the sum that it should have; `None` where it is beyond the file or not aligned.
    pub(super) fn new(mapping: &Arc<Mapping>, range: Range<usize>, sum: u32) -> Option<Self> {
        let bytes = mapping.as_bytes();
        let fits = range.start <= range.end && range.end <= bytes.len();
        (fits && range.start.is_multiple_of(super::file::ALIGNMENT_BYTES)).then(|| Self {
            mapping: Arc::clone(mapping),
            range,
            sum,
        })
    }

    /// The bytes, whatever they are.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.mapping.as_bytes()[self.range.clone()]
    }

    /// Whether the bytes are those that were written.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.range.is_empty()
            || self.mapping.is_readable(&self.range) && crc32fast::hash(self.as_bytes()) == self.sum
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mapped bytes", self.range.len())
    }
}

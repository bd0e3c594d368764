//! Packed weights, owned or lying in a plan cache.

use bytemuck::{AnyBitPattern, NoUninit};
use std::{fmt, ops::Range, sync::Arc};
use whimbrel_infer::cache::Blob;

/// Bytes of one cache line, to which packed data is aligned.
pub const ALIGNMENT_BYTES: usize = 64;

/// Bytes whose start is aligned to [`ALIGNMENT_BYTES`].
///
/// Memory that nobody wrote to is not taken from the system.
#[derive(Default)]
pub struct Aligned {
    /// Some more bytes than asked for, so that an aligned place is among the first of them.
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// Zeroed bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let bytes = vec![0u8; len + ALIGNMENT_BYTES];
        let start = bytes.as_ptr().align_offset(ALIGNMENT_BYTES).min(ALIGNMENT_BYTES);
        Self { bytes, start, len }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    /// The bytes, to be written.
    #[must_use]
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

impl fmt::Debug for Aligned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} aligned bytes", self.len)
    }
}

/// Elements within shared aligned bytes: what a layer holds of its packed weights. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Packed {
    bytes: Memory,
    range: Range<usize>,
}

#[derive(Debug, Clone)]
enum Memory {
    Own(Arc<Aligned>),
    Mapped(Blob),
}

impl Packed {
    /// A copy of `elements` in memory of its own.
    #[must_use]
    pub fn of<T: NoUninit>(elements: &[T]) -> Self {
        let from: &[u8] = bytemuck::cast_slice(elements);
        Self::filled(from.len(), |bytes| bytes.copy_from_slice(from))
    }

    /// `len` bytes in memory of their own, zero but for what `fill` writes.
    #[must_use]
    pub fn filled(len: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes = Aligned::zeroed(len);
        fill(bytes.as_bytes_mut());
        Self { range: 0..len, bytes: Memory::Own(Arc::new(bytes)) }
    }

    /// The first `len` bytes; what is left over stays unused.
    #[must_use]
    pub fn shortened(self, len: usize) -> Self {
        let end = self.range.end.min(self.range.start + len);
        Self { range: self.range.start..end, ..self }
    }

    /// Bytes of a mapped file, where they lie.
    #[must_use]
    pub fn mapped(bytes: Blob) -> Self {
        Self { range: 0..bytes.as_bytes().len(), bytes: Memory::Mapped(bytes) }
    }

    /// A part of shared bytes; `None` where it lies beyond them or does not start at a multiple of [`ALIGNMENT_BYTES`].
    #[must_use]
    pub fn within(bytes: Arc<Aligned>, range: Range<usize>) -> Option<Self> {
        let fits = range.start <= range.end && range.end <= bytes.as_bytes().len();
        let bytes = Memory::Own(bytes);
        (fits && range.start.is_multiple_of(ALIGNMENT_BYTES)).then_some(Self { bytes, range })
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        let bytes = match &self.bytes {
            Memory::Own(bytes) => bytes.as_bytes(),
            Memory::Mapped(bytes) => bytes.as_bytes(),
        };
        &bytes[self.range.clone()]
    }

    /// The elements; a rest shorter than one is left out.
    #[must_use]
    pub fn elements<T: AnyBitPattern>(&self) -> &[T] {
        let bytes = self.as_bytes();
        let whole = bytes.len() - bytes.len() % size_of::<T>();
        bytemuck::cast_slice(&bytes[..whole])
    }
}

impl AsRef<[u8]> for Packed {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_back_and_ranges_are_checked() {
        let packed = Packed::of(&[1i32, -2, 3]);
        assert_eq!(packed.elements::<i32>(), [1, -2, 3]);
        assert_eq!(packed.as_bytes().as_ptr() as usize % ALIGNMENT_BYTES, 0);
        let shared = Arc::new(Aligned::zeroed(128));
        assert!(Packed::within(Arc::clone(&shared), 64..128).is_some());
        assert!(Packed::within(Arc::clone(&shared), 32..64).is_none());
        assert!(Packed::within(shared, 64..129).is_none());
    }
}

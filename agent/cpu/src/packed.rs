//! Packed weights, owned or lying in a plan cache.

use bytemuck::{AnyBitPattern, NoUninit};
use std::{fmt, ops::Range, sync::Arc};

/// Bytes of one cache line, to which packed data is aligned.
pub const ALIGNMENT_BYTES: usize = 64;

/// One aligned piece of memory.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGNMENT_BYTES]);

/// Bytes whose start is aligned to [`ALIGNMENT_BYTES`].
#[derive(Default)]
pub struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl Aligned {
    /// Zeroed bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self { lines: vec![Line([0; ALIGNMENT_BYTES]); len.div_ceil(ALIGNMENT_BYTES)], len }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    /// The bytes, to be written.
    #[must_use]
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
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
    bytes: Arc<Aligned>,
    range: Range<usize>,
}

impl Packed {
    /// A copy of `elements` in memory of its own.
    #[must_use]
    pub fn of<T: NoUninit>(elements: &[T]) -> Self {
        let from: &[u8] = bytemuck::cast_slice(elements);
        let mut bytes = Aligned::zeroed(from.len());
        bytes.as_bytes_mut().copy_from_slice(from);
        Self { range: 0..from.len(), bytes: Arc::new(bytes) }
    }

    /// A part of shared bytes; `None` where it lies beyond them or does not start at a multiple of [`ALIGNMENT_BYTES`].
    #[must_use]
    pub fn within(bytes: Arc<Aligned>, range: Range<usize>) -> Option<Self> {
        let fits = range.start <= range.end && range.end <= bytes.as_bytes().len();
        (fits && range.start.is_multiple_of(ALIGNMENT_BYTES)).then_some(Self { bytes, range })
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes.as_bytes()[self.range.clone()]
    }

    /// The elements; a rest shorter than one is left out.
    #[must_use]
    pub fn elements<T: AnyBitPattern>(&self) -> &[T] {
        let bytes = self.as_bytes();
        let whole = bytes.len() - bytes.len() % size_of::<T>();
        bytemuck::cast_slice(&bytes[..whole])
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

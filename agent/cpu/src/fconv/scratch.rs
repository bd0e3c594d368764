//! Typed pieces of a thread's scratch memory.

use crate::packed::ALIGNMENT_BYTES;
use bytemuck::Pod;

/// What is left of the scratch memory.
pub(super) struct Scratch<'a>(&'a mut [u8]);

impl<'a> Scratch<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Self(bytes)
    }

    /// What is left.
    pub(super) fn rest(self) -> &'a mut [u8] {
        self.0
    }

    /// Bytes that hold `len` elements of four bytes, however they are aligned.
    pub(super) const fn bytes_of(len: usize) -> usize {
        if len == 0 { 0 } else { len * 4 + ALIGNMENT_BYTES }
    }

    /// `len` elements of four bytes.
    ///
    /// # Panics
    /// The memory is used up.
    pub(super) fn take<T: Pod>(&mut self, len: usize) -> &'a mut [T] {
        let bytes = std::mem::take(&mut self.0);
        assert!(bytes.len() >= Self::bytes_of(len), "too little scratch memory");
        let (piece, rest) = bytes.split_at_mut(Self::bytes_of(len));
        self.0 = rest;
        let skip = piece.as_ptr().align_offset(ALIGNMENT_BYTES).min(piece.len());
        let (_, elements, _) = bytemuck::pod_align_to_mut::<u8, T>(&mut piece[skip..]);
        &mut elements[..len]
    }
}

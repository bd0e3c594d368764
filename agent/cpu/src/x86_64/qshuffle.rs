//! Ordering of input rows, sixteen bytes at a time.

use crate::{
    isa::Isa,
    qconv::kernel::{Rows, Starts},
};
use std::arch::x86_64::*;

const BYTES: usize = 16;

/// Writes the rows one after the other, each as long as `order`.
pub(crate) fn shuffle_avx2(rows: &Rows<'_>, order: &[u8], ordered: &mut [u8]) {
    debug_assert!(Isa::Avx2.is_available());
    rows.check();
    let run_bytes = rows.run_entries * 4;
    assert!(run_bytes.is_multiple_of(BYTES), "runs of sixteens");
    assert!(order.len() == rows.runs.len() * run_bytes, "an order of a row");
    assert!(ordered.len() == rows.starts.len() * order.len(), "room for ordered rows");
    // SAFETY: the lengths are checked; a layer for AVX2 is run only where it is available (`QConv::run` asserts it).
    unsafe { shuffle(rows, order, ordered) }
}

/// Bytes of a vector, and of the vectors whose orders are kept at once.
const WIDE: usize = 2 * BYTES;
const KEPT: usize = 4;

/// # Safety
/// The rows, the order and the room for ordered rows have been checked.
#[target_feature(enable = "avx2")]
unsafe fn shuffle(rows: &Rows<'_>, order: &[u8], ordered: &mut [u8]) {
    // SAFETY: the caller's.
    unsafe {
        match rows.starts {
            Starts::Spaced { count, stride } => shuffle_rows(rows, count, |row| row * stride, order, ordered),
            Starts::At(at) => {
                shuffle_rows(rows, at.len(), |row| *at.get_unchecked(row) as usize, order, ordered);
            }
        }
    }
}

/// # Safety
/// As [`shuffle`]; so many rows are there, and the starts are theirs.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn shuffle_rows(
    rows: &Rows<'_>,
    count: usize,
    start: impl Fn(usize) -> usize + Copy,
    order: &[u8],
    ordered: &mut [u8],
) {
    let run_bytes = rows.run_entries * 4;
    for (r, run) in rows.runs.iter().enumerate() {
        let mut at = 0;
        while at < run_bytes {
            // SAFETY: the caller's; runs are made of sixteens, and what is left of one is counted.
            unsafe {
                let from = rows.input.as_ptr().add(*run as usize + at);
                let to = r * run_bytes + at;
                let (order_at, to) = (order.as_ptr().add(to), ordered.as_mut_ptr().add(to));
                let block = Block { order: order_at, to, stride: order.len() };
                at += match run_bytes - at {
                    left if left >= KEPT * WIDE => block.wide::<KEPT>(from, count, start),
                    left if left >= WIDE => block.wide::<1>(from, count, start),
                    _ => block.narrow(from, count, start),
                };
            }
        }
    }
}

/// The same bytes of every row, whose order stays in registers.
struct Block {
    order: *const u8,
    to: *mut u8,
    /// Bytes from one ordered row to the next.
    stride: usize,
}

/// Each returns for how many bytes of a row it is.
impl Block {
    /// # Safety
    /// `N` times 32 bytes are at the order, and at each row's places.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn wide<const N: usize>(
        &self,
        from: *const u8,
        rows: usize,
        start: impl Fn(usize) -> usize,
    ) -> usize {
        // SAFETY: the caller's.
        unsafe {
            let mut orders = [_mm256_setzero_si256(); N];
            for (n, order) in orders.iter_mut().enumerate() {
                *order = _mm256_loadu_si256(self.order.add(n * WIDE).cast());
            }
            for row in 0..rows {
                let (from, to) = (from.add(start(row)), self.to.add(row * self.stride));
                for (n, order) in orders.iter().enumerate() {
                    let bytes = _mm256_loadu_si256(from.add(n * WIDE).cast());
                    _mm256_storeu_si256(to.add(n * WIDE).cast(), _mm256_shuffle_epi8(bytes, *order));
                }
            }
        }
        N * WIDE
    }

    /// # Safety
    /// 16 bytes are at the order, and at each row's places.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn narrow(&self, from: *const u8, rows: usize, start: impl Fn(usize) -> usize) -> usize {
        // SAFETY: the caller's.
        unsafe {
            let order = _mm_loadu_si128(self.order.cast());
            for row in 0..rows {
                let bytes = _mm_loadu_si128(from.add(start(row)).cast());
                let to = self.to.add(row * self.stride);
                _mm_storeu_si128(to.cast(), _mm_shuffle_epi8(bytes, order));
            }
        }
        BYTES
    }
}

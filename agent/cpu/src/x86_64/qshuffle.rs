//! Ordering of input rows, sixteen bytes at a time.

use crate::isa::Isa;
use std::arch::x86_64::*;

const BYTES: usize = 16;

/// Writes as many rows as `ordered` holds, each as long as `order`; the rows of `input` start `stride` bytes apart.
pub(crate) fn shuffle_avx2(input: &[u8], stride: usize, order: &[u8], ordered: &mut [u8]) {
    debug_assert!(Isa::Avx2.is_available());
    let rows = ordered.len() / order.len().max(1);
    assert!(order.len().is_multiple_of(BYTES), "an order of sixteens");
    assert!(input.len() >= rows.saturating_sub(1) * stride + order.len(), "input rows");
    // SAFETY: the lengths are checked; a layer for AVX2 is run only where it is available (`QConv::run` asserts it).
    unsafe { shuffle(input, stride, order, ordered) }
}

/// # Safety
/// The input holds as many rows as `ordered` does.
#[target_feature(enable = "avx2")]
unsafe fn shuffle(input: &[u8], stride: usize, order: &[u8], ordered: &mut [u8]) {
    for (r, row) in ordered.chunks_exact_mut(order.len()).enumerate() {
        let (to, from) = (row.as_mut_ptr(), input.as_ptr().wrapping_add(r * stride));
        let pairs = order.len() / (2 * BYTES) * (2 * BYTES);
        for at in (0..pairs).step_by(2 * BYTES) {
            // SAFETY: the caller's; the order is made of sixteens.
            unsafe {
                let bytes = _mm256_loadu_si256(from.add(at).cast());
                let places = _mm256_loadu_si256(order.as_ptr().add(at).cast());
                _mm256_storeu_si256(to.add(at).cast(), _mm256_shuffle_epi8(bytes, places));
            }
        }
        if pairs < order.len() {
            // SAFETY: the caller's; the order is made of sixteens.
            unsafe {
                let bytes = _mm_loadu_si128(from.add(pairs).cast());
                let places = _mm_loadu_si128(order.as_ptr().add(pairs).cast());
                _mm_storeu_si128(to.add(pairs).cast(), _mm_shuffle_epi8(bytes, places));
            }
        }
    }
}

//! Ordering of input rows, sixteen bytes at a time.

use crate::qconv::{kernel::Panel, layout::SHUFFLED};
use std::arch::x86_64::*;

/// Bytes of a vector: two sixteens.
const WIDE: usize = 2 * SHUFFLED;

/// Writes the rows that start at `each` one after the other, each as long as the panel's order.
///
/// # Safety
/// The panel has been checked, and has an order and these rows; there is room for as many ordered ones.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn order_rows<const R: usize>(panel: &Panel<'_>, each: [*const u8; R], ordered: *mut u8) {
    let run_bytes = panel.rows.run_entries * 4;
    let stride = panel.order.len();
    let (mut order, mut to) = (panel.order.as_ptr(), ordered);
    for run in panel.rows.runs.all() {
        // SAFETY: the caller's; runs are made of sixteens.
        unsafe {
            let (mut at, end) = (*run as usize, *run as usize + run_bytes);
            while at + WIDE <= end {
                let places = _mm256_loadu_si256(order.cast());
                for (r, row) in each.iter().enumerate() {
                    let bytes = _mm256_loadu_si256(row.add(at).cast());
                    _mm256_storeu_si256(to.add(r * stride).cast(), _mm256_shuffle_epi8(bytes, places));
                }
                (at, order, to) = (at + WIDE, order.add(WIDE), to.add(WIDE));
            }
            if at < end {
                let places = _mm_loadu_si128(order.cast());
                for (r, row) in each.iter().enumerate() {
                    let bytes = _mm_loadu_si128(row.add(at).cast());
                    _mm_storeu_si128(to.add(r * stride).cast(), _mm_shuffle_epi8(bytes, places));
                }
                (order, to) = (order.add(SHUFFLED), to.add(SHUFFLED));
            }
        }
    }
}

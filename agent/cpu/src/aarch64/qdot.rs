//! Products of four bytes with as many weights, added to int32 lanes.

use std::arch::{aarch64::*, asm};

/// Of i8 with i8.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn sdot(mut acc: int32x4_t, a: int32x4_t, w: int32x4_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes only these registers, and the function's features include it.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {a:v}.16b, {w:v}.16b",
            acc = inout(vreg) acc, a = in(vreg) a, w = in(vreg) w,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

/// Of u8 with i8.
#[inline]
#[target_feature(enable = "neon,i8mm")]
pub(super) fn usdot(mut acc: int32x4_t, a: int32x4_t, w: int32x4_t) -> int32x4_t {
    // SAFETY: as above.
    unsafe {
        asm!(
            "usdot {acc:v}.4s, {a:v}.16b, {w:v}.16b",
            acc = inout(vreg) acc, a = in(vreg) a, w = in(vreg) w,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

//! Sums and products of quantised tensors with Advanced SIMD.
#![allow(unsafe_code, reason = "vector loads and stores take pointers")]

use crate::{isa::Isa, pointwise::qbinary::Factors};
use std::arch::aarch64::*;

/// Elements computed at a time.
const LANES: usize = 16;

/// Results of whole vectors; says how many elements that were. Zero means that the machine lacks the instructions.
pub(crate) fn run<const MUL: bool>(
    isa: Isa,
    factors: &Factors,
    operands: [&[u8]; 2],
    output: &mut [u8],
) -> usize {
    if isa == Isa::Generic || !isa.is_available() {
        return 0;
    }
    // SAFETY: Advanced SIMD is there, as it is wherever one of the others is available.
    unsafe { vectors::<MUL>(factors, operands, output) }
}

#[target_feature(enable = "neon")]
fn vectors<const MUL: bool>(factors: &Factors, operands: [&[u8]; 2], output: &mut [u8]) -> usize {
    let [a, b] = operands.map(|operand| operand.as_chunks::<LANES>().0);
    let output = output.as_chunks_mut::<LANES>().0;
    let count = output.len();
    // Flipping the highest bit makes an int8 of a shifted element, and the other way round.
    let flip = vdupq_n_u8(if factors.signed { 0x80 } else { 0 });
    for ((out, a), b) in output.iter_mut().zip(a).zip(b) {
        let [a, b] = [a, b].map(|elements| wide(factors.signed, veorq_u8(load(elements), flip)));
        let low = eight::<MUL>(factors, a[0], b[0]);
        let high = eight::<MUL>(factors, a[1], b[1]);
        let bytes = if factors.signed {
            vreinterpretq_u8_s8(vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)))
        } else {
            vcombine_u8(vqmovun_s16(low), vqmovun_s16(high))
        };
        store(out, veorq_u8(bytes, flip));
    }
    count * LANES
}

#[inline]
#[target_feature(enable = "neon")]
fn wide(signed: bool, elements: uint8x16_t) -> [int16x8_t; 2] {
    if signed {
        let elements = vreinterpretq_s8_u8(elements);
        [vmovl_s8(vget_low_s8(elements)), vmovl_s8(vget_high_s8(elements))]
    } else {
        [vmovl_u8(vget_low_u8(elements)), vmovl_u8(vget_high_u8(elements))].map(|x| vreinterpretq_s16_u16(x))
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn eight<const MUL: bool>(factors: &Factors, a: int16x8_t, b: int16x8_t) -> int16x8_t {
    let (low, high) = ([vget_low_s16(a), vget_low_s16(b)], [vget_high_s16(a), vget_high_s16(b)]);
    let [low, high] = [low, high].map(|[a, b]| if MUL { product(factors, a, b) } else { sum(factors, a, b) });
    vcombine_s16(vqmovn_s32(low), vqmovn_s32(high))
}

#[inline]
#[target_feature(enable = "neon")]
fn sum(factors: &Factors, a: int16x4_t, b: int16x4_t) -> int32x4_t {
    let [a, b] = [a, b].map(|x| vcvtq_f32_s32(vmovl_s16(x)));
    let rest = vfmaq_n_f32(vdupq_n_f32(factors.fixed), b, factors.ratios[1]);
    rounded(vfmaq_n_f32(rest, a, factors.ratios[0]))
}

#[inline]
#[target_feature(enable = "neon")]
fn product(factors: &Factors, a: int16x4_t, b: int16x4_t) -> int32x4_t {
    let a = vsub_s16(a, vdup_n_s16(factors.zeros[0] as i16));
    let b = vsub_s16(b, vdup_n_s16(factors.zeros[1] as i16));
    let steps = vmulq_n_f32(vcvtq_f32_s32(vmull_s16(a, b)), factors.ratios[0]);
    rounded(vaddq_f32(steps, vdupq_n_f32(factors.fixed)))
}

/// The nearest integers, half to even; the lowest for what an i32 cannot hold, as on x86-64.
#[inline]
#[target_feature(enable = "neon")]
fn rounded(value: float32x4_t) -> int32x4_t {
    let held = vcltq_f32(value, vdupq_n_f32(2_147_483_648.0));
    vbslq_s32(held, vcvtnq_s32_f32(value), vdupq_n_s32(i32::MIN))
}

#[inline(always)]
fn load(from: &[u8; LANES]) -> uint8x16_t {
    // SAFETY: the reference is valid for 16 bytes, and Advanced SIMD is part of aarch64.
    unsafe { vld1q_u8(from.as_ptr()) }
}

#[inline(always)]
fn store(to: &mut [u8; LANES], vector: uint8x16_t) {
    // SAFETY: the reference is valid for 16 bytes, and Advanced SIMD is part of aarch64.
    unsafe { vst1q_u8(to.as_mut_ptr(), vector) }
}

//! Vectors of 4 floats, with Advanced SIMD.
#![allow(unsafe_code, reason = "intrinsics")]

use crate::{
    isa::Isa,
    simd::{Kernel, MAX_PANEL_VECTORS, Simd, Spot, Window},
};
use std::arch::aarch64::{
    float32x4_t, vaddq_f32, vaddq_s32, vcvtnq_s32_f32, vdivq_f32, vdupq_n_f32, vdupq_n_s32, vfmaq_f32,
    vfmaq_laneq_f32, vld1q_f32, vmaxq_f32, vminq_f32, vmulq_f32, vreinterpretq_f32_s32, vrndnq_f32,
    vshlq_n_s32, vst1q_f32,
};

/// The proof that this machine has Advanced SIMD.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    /// The proof, where the machine has it.
    pub(crate) fn new() -> Option<Self> {
        Isa::Neon.is_available().then_some(Self(()))
    }
}

#[target_feature(enable = "neon")]
fn enter<K: Kernel>(simd: Neon, kernel: K) -> K::Output {
    kernel.run(simd)
}

const LANES: usize = 4;

impl Simd for Neon {
    type Vector = float32x4_t;
    type Quad<'a> = float32x4_t;
    const LANES: usize = LANES;
    const TILE_ROWS: [usize; MAX_PANEL_VECTORS] = [8, 8, 6];

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { enter(self, kernel) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> float32x4_t {
        assert!(from.len() >= LANES, "a vector beyond its slice");
        // SAFETY: the slice has the four elements; `self` is the proof of the instructions.
        unsafe { vld1q_f32(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, vector: float32x4_t, to: &mut [f32]) {
        assert!(to.len() >= LANES, "a vector beyond its slice");
        // SAFETY: the slice has the four elements; `self` is the proof of the instructions.
        unsafe { vst1q_f32(to.as_mut_ptr(), vector) }
    }

    #[inline(always)]
    fn load_window(self, window: Window<'_>, spot: Spot) -> float32x4_t {
        let (elements, start) = window.check(spot, LANES);
        // SAFETY: the window was checked to lie within the elements, and the vector within the window; `self` is the
        // proof of the instructions.
        unsafe { vld1q_f32(elements.as_ptr().add(start)) }
    }

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { vdivq_f32(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn quad(self, from: &[f32; 4]) -> float32x4_t {
        self.load(from)
    }

    #[inline(always)]
    fn mul_add_lane<const LANE: i32>(self, quad: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { vfmaq_laneq_f32::<LANE>(c, b, quad) }
    }

    #[inline(always)]
    fn max(self, bound: float32x4_t, x: float32x4_t) -> float32x4_t {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { vmaxq_f32(bound, x) }
    }

    #[inline(always)]
    fn min(self, bound: float32x4_t, x: float32x4_t) -> float32x4_t {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { vminq_f32(bound, x) }
    }

    #[inline(always)]
    fn round(self, x: float32x4_t) -> float32x4_t {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { vrndnq_f32(x) }
    }

    #[inline(always)]
    fn exp2_whole(self, x: float32x4_t) -> float32x4_t {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe {
            let exponent = vaddq_s32(vcvtnq_s32_f32(x), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
        }
    }
}

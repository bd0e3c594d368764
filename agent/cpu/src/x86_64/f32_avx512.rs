//! Vectors of 16 floats, with AVX-512.
#![allow(unsafe_code, reason = "intrinsics")]

use crate::{
    isa::Isa,
    simd::{Kernel, MAX_PANEL_VECTORS, Simd, Spot, Window},
};
use std::arch::x86_64::{
    __m512, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T1, _mm_prefetch, _mm512_add_epi32,
    _mm512_add_ps, _mm512_castsi512_ps, _mm512_cvtps_epi32, _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_roundscale_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_slli_epi32, _mm512_storeu_ps,
};

/// The proof that this machine has AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The proof, where the machine has them.
    pub(crate) fn new() -> Option<Self> {
        Isa::Avx512Vnni.is_available().then_some(Self(()))
    }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn enter<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
    kernel.run(simd)
}

const LANES: usize = 16;

impl Simd for Avx512 {
    type Vector = __m512;
    type Quad<'a> = &'a [f32; 4];
    const LANES: usize = LANES;
    const TILE_ROWS: [usize; MAX_PANEL_VECTORS] = [8, 8, 8];

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { enter(self, kernel) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> __m512 {
        assert!(from.len() >= LANES, "a vector beyond its slice");
        // SAFETY: the slice has the sixteen elements; `self` is the proof of the instructions.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, vector: __m512, to: &mut [f32]) {
        assert!(to.len() >= LANES, "a vector beyond its slice");
        // SAFETY: the slice has the sixteen elements; `self` is the proof of the instructions.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), vector) }
    }

    #[inline(always)]
    fn load_window(self, window: Window<'_>, spot: Spot) -> __m512 {
        let (elements, start) = window.check(spot, LANES);
        // SAFETY: the window was checked to lie within the elements, and the vector within the window; `self` is the
        // proof of the instructions.
        unsafe { _mm512_loadu_ps(elements.as_ptr().add(start)) }
    }

    #[inline(always)]
    fn prefetch(self, from: &[f32], index: usize) {
        // SAFETY: a prefetch reads nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.as_ptr().wrapping_add(index).cast()) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn quad(self, from: &[f32; 4]) -> &[f32; 4] {
        from
    }

    #[inline(always)]
    fn mul_add_lane<const LANE: i32>(
        self,
        quad: &[f32; 4],
        b: Self::Vector,
        c: Self::Vector,
    ) -> Self::Vector {
        self.mul_add(self.splat(quad[LANE as usize]), b, c)
    }

    #[inline(always)]
    fn max(self, bound: __m512, x: __m512) -> __m512 {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { _mm512_max_ps(bound, x) }
    }

    #[inline(always)]
    fn min(self, bound: __m512, x: __m512) -> __m512 {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { _mm512_min_ps(bound, x) }
    }

    #[inline(always)]
    fn round(self, x: __m512) -> __m512 {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }

    #[inline(always)]
    fn exp2_whole(self, x: __m512) -> __m512 {
        // SAFETY: `self` is the proof that the machine has the instructions.
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(x), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }
}

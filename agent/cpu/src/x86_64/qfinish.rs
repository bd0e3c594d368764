//! Finishing of int32 sums, compiled for x86-64 instruction sets.

use crate::{
    isa::Isa,
    qconv::{
        finish::{Block, Columns, Finish, Place, Quantise, finish},
        kernel::{Bytes, Outlet},
    },
};
use std::arch::x86_64::*;

pub(crate) fn finish_avx2(block: &Block<'_>, columns: &Columns<'_>, how: &Finish, place: Place<'_, '_>) {
    debug_assert!(Isa::Avx2.is_available());
    // SAFETY: a layer for AVX2 is run only where `Isa::Avx2` is available (`QConv::run` asserts it).
    unsafe { avx2(block, columns, how, place) }
}

pub(crate) fn finish_avx512(block: &Block<'_>, columns: &Columns<'_>, how: &Finish, place: Place<'_, '_>) {
    debug_assert!(Isa::Avx512Vnni.is_available());
    // SAFETY: as above, with `Isa::Avx512Vnni`.
    unsafe { avx512(block, columns, how, place) }
}

#[target_feature(enable = "avx2,fma")]
fn avx2(block: &Block<'_>, columns: &Columns<'_>, how: &Finish, place: Place<'_, '_>) {
    finish::<true>(block, columns, how, place);
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512(block: &Block<'_>, columns: &Columns<'_>, how: &Finish, place: Place<'_, '_>) {
    finish::<true>(block, columns, how, place);
}

/// Where rows of sums go, with the constants of requantisation in registers.
///
/// Its slices became pointers: it lives within one call of a kernel, which has checked the outlet.
#[derive(Clone, Copy)]
pub(super) struct Store<F, I> {
    /// Null where results are bytes.
    sums: *mut i32,
    output: *mut u8,
    stride: usize,
    columns: usize,
    bias: *const i32,
    multiplier: *const f32,
    high: F,
    zero: I,
    least: I,
}

pub(super) type Store256 = Store<__m256, __m256i>;
pub(super) type Store512 = Store<__m512, __m512i>;

impl<F, I> Store<F, I> {
    fn of(outlet: Outlet<'_>, constants: impl Fn(Quantise) -> (F, I, I)) -> Self {
        let (sums, bytes) = match outlet {
            Outlet::Sums(sums) => (sums.as_mut_ptr(), None),
            Outlet::Bytes(bytes) => (std::ptr::null_mut(), Some(bytes)),
        };
        let nothing = Quantise { low: 0.0, high: 0.0, zero: 0 };
        let (high, zero, least) = constants(bytes.as_ref().map_or(nothing, |bytes| bytes.quantise));
        match bytes {
            None => Self {
                sums,
                output: std::ptr::null_mut(),
                stride: 0,
                columns: 0,
                bias: std::ptr::null(),
                multiplier: std::ptr::null(),
                high,
                zero,
                least,
            },
            Some(Bytes { output, stride, columns, bias, multiplier, .. }) => Self {
                sums,
                output: output.as_mut_ptr(),
                stride,
                columns,
                bias: bias.as_ptr(),
                multiplier: multiplier.as_ptr(),
                high,
                zero,
                least,
            },
        }
    }
}

/// The outlet for vectors of eight sums.
#[target_feature(enable = "avx2")]
pub(super) fn outlet_avx2(outlet: Outlet<'_>) -> Store256 {
    Store::of(outlet, |quantise| {
        let words = quantise.zero as i16;
        (_mm256_set1_ps(quantise.high), _mm256_set1_epi16(words), _mm256_set1_epi8(quantise.least() as i8))
    })
}

/// The outlet for vectors of sixteen sums.
#[target_feature(enable = "avx512f")]
pub(super) fn outlet_avx512(outlet: Outlet<'_>) -> Store512 {
    Store::of(outlet, |quantise| {
        let ints = _mm512_set1_epi32;
        (_mm512_set1_ps(quantise.high), ints(quantise.zero), ints(quantise.least()))
    })
}

/// Stores a row of `V` vectors of sums.
///
/// # Safety
/// The outlet has been checked for that row and `V` vectors of eight.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn store_avx2<const V: usize>(sums: &[__m256i; V], row: usize, to: &Store256) {
    // SAFETY: the caller's: a row of `V` vectors is there, or parameters for as many and `to.columns` results.
    unsafe {
        if !to.sums.is_null() {
            for (v, sums) in sums.iter().enumerate() {
                _mm256_storeu_si256(to.sums.add((row * V + v) * 8).cast(), *sums);
            }
            return;
        }
        for v in (0..V).step_by(2) {
            let pair = usize::from(v + 1 < V);
            let a = scaled(sums[v], v, to);
            let b = if pair == 1 { scaled(sums[v + pair], v + pair, to) } else { a };
            let count = (to.columns - v * 8).min(8 + 8 * pair);
            store_bytes(narrow(a, b, to), to.output.add(row * to.stride + v * 8), count);
        }
    }
}

/// Rounded products with the multipliers, at most the high bound; far below the low bound, any negative number.
///
/// # Safety
/// There are parameters for vector `v`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn scaled(sums: __m256i, v: usize, to: &Store256) -> __m256i {
    // SAFETY: the caller's.
    let (bias, multiplier) =
        unsafe { (_mm256_loadu_si256(to.bias.add(v * 8).cast()), _mm256_loadu_ps(to.multiplier.add(v * 8))) };
    let value = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(sums, bias)), multiplier);
    _mm256_cvtps_epi32(_mm256_min_ps(value, to.high))
}

/// Sixteen results: the zero is added, and the low bound holds.
#[inline]
#[target_feature(enable = "avx2")]
fn narrow(a: __m256i, b: __m256i, to: &Store256) -> __m128i {
    let words = _mm256_adds_epi16(_mm256_packs_epi32(a, b), to.zero);
    // Each half holds four results of `a` and four of `b`.
    let bytes = _mm256_packus_epi16(words, words);
    let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5));
    _mm_max_epu8(_mm256_castsi256_si128(bytes), _mm256_castsi256_si128(to.least))
}

/// # Safety
/// `count` bytes, at most 16, may be written at `to`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store_bytes(bytes: __m128i, to: *mut u8, count: usize) {
    // SAFETY: the caller's.
    unsafe {
        match count {
            16 => _mm_storeu_si128(to.cast(), bytes),
            8 => _mm_storel_epi64(to.cast(), bytes),
            _ => store_rest(bytes, to, count),
        }
    }
}

/// # Safety
/// As [`store_bytes`].
#[cold]
#[target_feature(enable = "avx2")]
unsafe fn store_rest(bytes: __m128i, to: *mut u8, count: usize) {
    let mut all = [0u8; 16];
    // SAFETY: the caller's.
    unsafe {
        _mm_storeu_si128(all.as_mut_ptr().cast(), bytes);
        std::ptr::copy_nonoverlapping(all.as_ptr(), to, count.min(16));
    }
}

/// Stores a row of `V` vectors of sums.
///
/// # Safety
/// The outlet has been checked for that row and `V` vectors of sixteen.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn store_avx512<const V: usize>(sums: &[__m512i; V], row: usize, to: &Store512) {
    // SAFETY: the caller's: a row of `V` vectors is there, or parameters for as many and `to.columns` results.
    unsafe {
        if !to.sums.is_null() {
            for (v, sums) in sums.iter().enumerate() {
                _mm512_storeu_si512(to.sums.add((row * V + v) * 16).cast(), *sums);
            }
            return;
        }
        for (v, sums) in sums.iter().enumerate() {
            let count = (to.columns - v * 16).min(16);
            let at = to.output.add(row * to.stride + v * 16).cast();
            _mm_mask_storeu_epi8(at, ((1u32 << count) - 1) as u16, quantised(*sums, v, to));
        }
    }
}

/// # Safety
/// There are parameters for vector `v`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn quantised(sums: __m512i, v: usize, to: &Store512) -> __m128i {
    // SAFETY: the caller's.
    let (bias, multiplier) = unsafe {
        (_mm512_loadu_si512(to.bias.add(v * 16).cast()), _mm512_loadu_ps(to.multiplier.add(v * 16)))
    };
    let value = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sums, bias)), multiplier);
    let value = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_min_ps(value, to.high)), to.zero);
    _mm512_cvtepi32_epi8(_mm512_max_epi32(value, to.least))
}

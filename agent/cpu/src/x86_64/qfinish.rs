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

/// Stores a row of `V` vectors of sums.
///
/// # Safety
/// The outlet has been checked for that row and `V` vectors of eight.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn store_avx2<const V: usize>(sums: &[__m256i; V], row: usize, outlet: &mut Outlet<'_>) {
    match outlet {
        Outlet::Sums(to) => {
            for (v, sums) in sums.iter().enumerate() {
                // SAFETY: the caller's.
                unsafe { _mm256_storeu_si256(to.as_mut_ptr().add((row * V + v) * 8).cast(), *sums) };
            }
        }
        Outlet::Bytes(bytes) => {
            for v in (0..V).step_by(2) {
                let high = if v + 1 < V { 1 } else { 0 };
                // SAFETY: the caller's: parameters of `V` vectors are there.
                let (a, b) = unsafe { (scaled(sums[v], v, bytes), scaled(sums[v + high], v + high, bytes)) };
                let result = narrow(a, b, bytes.quantise);
                let count = bytes.columns.saturating_sub(v * 8).min(8 + 8 * high);
                // SAFETY: the caller's: this row has `bytes.columns` results.
                unsafe {
                    store_bytes(result, bytes.output.as_mut_ptr().add(row * bytes.stride + v * 8), count)
                };
            }
        }
    }
}

/// Rounded products with the multipliers, at most the high bound; far below the low bound, any negative number.
///
/// # Safety
/// There are parameters for vector `v`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn scaled(sums: __m256i, v: usize, bytes: &Bytes<'_>) -> __m256i {
    // SAFETY: the caller's.
    let (bias, multiplier) = unsafe {
        let bias = _mm256_loadu_si256(bytes.bias.as_ptr().add(v * 8).cast());
        (bias, _mm256_loadu_ps(bytes.multiplier.as_ptr().add(v * 8)))
    };
    let value = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(sums, bias)), multiplier);
    _mm256_cvtps_epi32(_mm256_min_ps(value, _mm256_set1_ps(bytes.quantise.high)))
}

/// Sixteen results: the zero is added, and the low bound holds.
#[inline]
#[target_feature(enable = "avx2")]
fn narrow(a: __m256i, b: __m256i, quantise: Quantise) -> __m128i {
    let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(a, b));
    let words = _mm256_adds_epi16(words, _mm256_set1_epi16(quantise.zero as i16));
    let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
    _mm_max_epu8(bytes, _mm_set1_epi8(quantise.least() as i8))
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
            _ => {
                let mut all = [0u8; 16];
                _mm_storeu_si128(all.as_mut_ptr().cast(), bytes);
                for (i, byte) in all.iter().take(count).enumerate() {
                    to.add(i).write(*byte);
                }
            }
        }
    }
}

/// Stores a row of `V` vectors of sums.
///
/// # Safety
/// The outlet has been checked for that row and `V` vectors of sixteen.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn store_avx512<const V: usize>(sums: &[__m512i; V], row: usize, outlet: &mut Outlet<'_>) {
    match outlet {
        Outlet::Sums(to) => {
            for (v, sums) in sums.iter().enumerate() {
                // SAFETY: the caller's.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().add((row * V + v) * 16).cast(), *sums) };
            }
        }
        Outlet::Bytes(bytes) => {
            for (v, sums) in sums.iter().enumerate() {
                let count = bytes.columns.saturating_sub(v * 16).min(16);
                // SAFETY: the caller's: parameters of `V` vectors are there, and `bytes.columns` results in the row.
                unsafe {
                    let result = quantised_avx512(*sums, v, bytes);
                    let to = bytes.output.as_mut_ptr().add(row * bytes.stride + v * 16).cast();
                    _mm_mask_storeu_epi8(to, ((1u32 << count) - 1) as u16, result);
                }
            }
        }
    }
}

/// # Safety
/// There are parameters for vector `v`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn quantised_avx512(sums: __m512i, v: usize, bytes: &Bytes<'_>) -> __m128i {
    // SAFETY: the caller's.
    let (bias, multiplier) = unsafe {
        let bias = _mm512_loadu_si512(bytes.bias.as_ptr().add(v * 16).cast());
        (bias, _mm512_loadu_ps(bytes.multiplier.as_ptr().add(v * 16)))
    };
    let Quantise { high, zero, .. } = bytes.quantise;
    let value = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sums, bias)), multiplier);
    let value = _mm512_cvtps_epi32(_mm512_min_ps(value, _mm512_set1_ps(high)));
    let value = _mm512_add_epi32(value, _mm512_set1_epi32(zero));
    _mm512_cvtepi32_epi8(_mm512_max_epi32(value, _mm512_set1_epi32(bytes.quantise.least())))
}

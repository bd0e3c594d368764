//! Loads and stores of vectors, from and to arrays of their size.
#![allow(unsafe_code, reason = "the intrinsics take pointers")]

use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm_loadu_si128, _mm_storeu_si128, _mm256_storeu_si256, _mm512_loadu_si512,
    _mm512_storeu_si512,
};

/// 16 bytes.
#[inline(always)]
pub(crate) fn load_16(from: &[u8; 16]) -> __m128i {
    // SAFETY: the reference is valid for 16 bytes, and the load needs no alignment.
    unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
}

/// 16 bytes.
#[inline(always)]
pub(crate) fn store_16(to: &mut [u8; 16], vector: __m128i) {
    // SAFETY: the reference is valid for 16 bytes, and the store needs no alignment.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), vector) }
}

/// 32 bytes.
#[inline]
#[target_feature(enable = "avx")]
pub(crate) fn store_32(to: &mut [u8; 32], vector: __m256i) {
    // SAFETY: the reference is valid for 32 bytes, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), vector) }
}

/// 64 bytes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load_64(from: &[u8; 64]) -> __m512i {
    // SAFETY: the reference is valid for 64 bytes, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

/// 64 bytes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn store_64(to: &mut [u8; 64], vector: __m512i) {
    // SAFETY: the reference is valid for 64 bytes, and the store needs no alignment.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), vector) }
}

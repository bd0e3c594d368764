//! Products of four bytes (or two i16) with as many weights, added to int32 lanes, for AVX2.

use std::arch::x86_64::*;

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn dot_pairs16(acc: __m256i, a: __m256i, w: __m256i) -> __m256i {
    _mm256_add_epi32(acc, _mm256_madd_epi16(a, w))
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn dot_quads8(acc: __m256i, a: __m256i, w: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(a, w);
    _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn dot_signed8(acc: __m256i, a: __m256i, w: __m256i) -> __m256i {
    dot_quads8(acc, _mm256_abs_epi8(a), _mm256_sign_epi8(w, a))
}

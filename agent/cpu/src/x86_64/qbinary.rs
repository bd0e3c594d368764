//! Sums and products of quantised tensors in 256 bits.

use super::memory::{load_16, store_32};
use crate::{isa::Isa, pointwise::qbinary::Factors};
use std::arch::x86_64::*;

/// Elements computed at a time.
const LANES: usize = 32;

/// Results of whole vectors; says how many elements that were. Zero means that the machine lacks the instructions.
pub(crate) fn run<const MUL: bool>(
    isa: Isa,
    factors: &Factors,
    operands: [&[u8]; 2],
    output: &mut [u8],
) -> usize {
    let [a, b] = operands;
    if !matches!(isa, Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni) || !isa.is_available() {
        return 0;
    }
    #[allow(unsafe_code, reason = "calls code for an instruction set that was checked above")]
    // SAFETY: AVX2 and FMA are there, as they are wherever one of the three is available.
    unsafe {
        if factors.signed {
            vectors::<MUL, true>(factors, a, b, output)
        } else {
            vectors::<MUL, false>(factors, a, b, output)
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn vectors<const MUL: bool, const SIGNED: bool>(
    factors: &Factors,
    a: &[u8],
    b: &[u8],
    output: &mut [u8],
) -> usize {
    let (a, b, output) =
        (a.as_chunks::<LANES>().0, b.as_chunks::<LANES>().0, output.as_chunks_mut::<LANES>().0);
    let count = output.len();
    for ((out, a), b) in output.iter_mut().zip(a).zip(b) {
        let ([a0, a1], [b0, b1]) = (halves::<SIGNED>(a), halves::<SIGNED>(b));
        let words = [
            eight::<MUL, SIGNED>(factors, a0, b0),
            eight::<MUL, SIGNED>(factors, _mm_unpackhi_epi64(a0, a0), _mm_unpackhi_epi64(b0, b0)),
            eight::<MUL, SIGNED>(factors, a1, b1),
            eight::<MUL, SIGNED>(factors, _mm_unpackhi_epi64(a1, a1), _mm_unpackhi_epi64(b1, b1)),
        ];
        let (low, high) = (_mm256_packs_epi32(words[0], words[1]), _mm256_packs_epi32(words[2], words[3]));
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let bytes = if SIGNED {
            _mm256_xor_si256(_mm256_packs_epi16(low, high), _mm256_set1_epi8(-128))
        } else {
            _mm256_packus_epi16(low, high)
        };
        store_32(out, _mm256_permutevar8x32_epi32(bytes, order));
    }
    count * LANES
}

/// 32 elements, those of int8 tensors shifted back.
#[inline]
#[target_feature(enable = "avx2")]
fn halves<const SIGNED: bool>(elements: &[u8; LANES]) -> [__m128i; 2] {
    let flip = _mm_set1_epi8(if SIGNED { -128 } else { 0 });
    match elements.as_chunks::<16>().0 {
        [low, high] => [_mm_xor_si128(load_16(low), flip), _mm_xor_si128(load_16(high), flip)],
        _ => [flip; 2],
    }
}

/// The results of the lower 8 elements, as i32.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn eight<const MUL: bool, const SIGNED: bool>(factors: &Factors, a: __m128i, b: __m128i) -> __m256i {
    let fixed = _mm256_set1_ps(factors.fixed);
    let [a, b] = if SIGNED {
        [a, b].map(|x| _mm256_cvtepi8_epi32(x))
    } else {
        [a, b].map(|x| _mm256_cvtepu8_epi32(x))
    };
    let [x, y] = factors.ratios.map(|ratio| _mm256_set1_ps(ratio));
    let value = if MUL {
        let [a, b] = [
            _mm256_sub_epi32(a, _mm256_set1_epi32(factors.zeros[0])),
            _mm256_sub_epi32(b, _mm256_set1_epi32(factors.zeros[1])),
        ];
        // Both fit 16 bits: with the upper halves of one cleared, a sum of two products is the product, at half the
        // price of one of 32 bits.
        let product =
            _mm256_cvtepi32_ps(_mm256_madd_epi16(a, _mm256_and_si256(b, _mm256_set1_epi32(0xffff))));
        _mm256_add_ps(_mm256_mul_ps(product, x), fixed)
    } else {
        let rest = _mm256_fmadd_ps(_mm256_cvtepi32_ps(b), y, fixed);
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(a), x, rest)
    };
    _mm256_cvtps_epi32(value)
}

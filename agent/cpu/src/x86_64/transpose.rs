//! Transposition of small blocks, with the vectors every x86-64 has.
#![allow(unsafe_code, reason = "calls code for SSE2")]

use super::memory::{load_16, store_16};
use std::arch::x86_64::{
    __m128i, _mm_unpackhi_epi8, _mm_unpackhi_epi32, _mm_unpacklo_epi8, _mm_unpacklo_epi32,
};

/// Transposes 16 x 16 bytes: row `i` of the input is at `input[i * stride]`, that of the output likewise.
#[inline]
pub(crate) fn bytes(input: &[u8], in_stride: usize, output: &mut [u8], out_stride: usize) {
    // SAFETY: SSE2 is part of x86-64.
    unsafe { bytes_sse2(input, in_stride, output, out_stride) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn bytes_sse2(input: &[u8], in_stride: usize, output: &mut [u8], out_stride: usize) {
    let mut rows: [__m128i; 16] = std::array::from_fn(|row| load(input, row * in_stride));
    // Each round interleaves the upper half of the rows with the lower one; log2(16) of them transpose.
    for _ in 0..4 {
        rows = std::array::from_fn(|at| {
            let (a, b) = (rows[at / 2], rows[at / 2 + 8]);
            if at % 2 == 0 { _mm_unpacklo_epi8(a, b) } else { _mm_unpackhi_epi8(a, b) }
        });
    }
    for (row, vector) in rows.into_iter().enumerate() {
        store(output, row * out_stride, vector);
    }
}

/// Transposes 4 x 4 elements of 4 bytes; strides are in bytes.
#[inline]
pub(crate) fn words(input: &[u8], in_stride: usize, output: &mut [u8], out_stride: usize) {
    // SAFETY: SSE2 is part of x86-64.
    unsafe { words_sse2(input, in_stride, output, out_stride) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn words_sse2(input: &[u8], in_stride: usize, output: &mut [u8], out_stride: usize) {
    let mut rows: [__m128i; 4] = std::array::from_fn(|row| load(input, row * in_stride));
    for _ in 0..2 {
        rows = std::array::from_fn(|at| {
            let (a, b) = (rows[at / 2], rows[at / 2 + 2]);
            if at % 2 == 0 { _mm_unpacklo_epi32(a, b) } else { _mm_unpackhi_epi32(a, b) }
        });
    }
    for (row, vector) in rows.into_iter().enumerate() {
        store(output, row * out_stride, vector);
    }
}

#[inline(always)]
fn load(from: &[u8], at: usize) -> __m128i {
    match from[at..].first_chunk() {
        Some(bytes) => load_16(bytes),
        None => too_short(),
    }
}

#[inline(always)]
fn store(to: &mut [u8], at: usize, vector: __m128i) {
    match to[at..].first_chunk_mut() {
        Some(bytes) => store_16(bytes, vector),
        None => too_short(),
    }
}

#[cold]
#[allow(clippy::panic, reason = "the caller has mixed up its strides")]
fn too_short() -> ! {
    panic!("a block reaches beyond its slice");
}

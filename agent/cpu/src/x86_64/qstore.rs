//! Requantisation in registers: rows of sums become bytes, with or without a residual sum.

use crate::qconv::{finish::Quantise, kernel::Outlet};
use std::arch::x86_64::*;

/// Where rows of sums go, with the constants of requantisation as vectors.
///
/// Its slices became pointers: it lives within one call of a kernel, which has checked the outlet.
pub(super) struct Store<F, I> {
    /// Whether results are bytes without a residual sum, and products with the multipliers fit i32.
    plain: bool,
    /// Null where results are bytes.
    sums: *mut i32,
    output: *mut u8,
    stride: usize,
    columns: usize,
    /// What sums start from: as many as the widest panel has columns.
    pub(super) bias: *const i32,
    multiplier: *const f32,
    /// The bounds around the zero of the convolution's own output.
    high: F,
    low: I,
    /// Added to the last step's integers.
    zero: I,
    /// The least and the greatest result.
    least: I,
    most: I,
    sum: Option<Sum<F, I>>,
}

/// What sums start from that are wanted as they are.
static NOTHING: [i32; 64] = [0; 64];

/// The constants of a residual sum.
struct Sum<F, I> {
    other: *const u8,
    /// Added to the own output around its zero, and subtracted from the other's elements.
    own_shift: I,
    other_shift: I,
    own_ratio: F,
    other_ratio: F,
    fixed: F,
    high: F,
    own_first: bool,
}

pub(super) type Store256 = Store<__m256, __m256i>;
pub(super) type Store512 = Store<__m512, __m512i>;

impl<F, I> Store<F, I> {
    /// Goes on to the columns after so many, of results as bytes.
    ///
    /// # Safety
    /// There are more columns than those.
    pub(super) unsafe fn skip(&mut self, columns: usize) {
        // SAFETY: the caller's: the slices that these point into go on.
        unsafe {
            self.output = self.output.add(columns);
            self.bias = self.bias.add(columns);
            self.multiplier = self.multiplier.add(columns);
            if let Some(sum) = &mut self.sum {
                sum.other = sum.other.add(columns);
            }
        }
        self.columns -= columns;
    }
}

/// An outlet's constants as vectors of one width; the last two are the zero and the bounds of results as the last steps
/// take them.
macro_rules! outlet {
    (
        $(#[$doc:meta])*
        $name:ident, $features:literal, $store:ty,
        $float:ident, $int:ident, $zero:ident as $zero_type:ty, $least:ident as $least_type:ty
    ) => {
        $(#[$doc])*
        #[inline]
        #[target_feature(enable = $features)]
        pub(super) fn $name(outlet: Outlet<'_>) -> $store {
            let mut store = Store {
                plain: false,
                sums: std::ptr::null_mut(),
                output: std::ptr::null_mut(),
                stride: 0,
                columns: 0,
                bias: NOTHING.as_ptr(),
                multiplier: std::ptr::null(),
                high: $float(0.0),
                low: $int(0),
                zero: $int(0),
                least: $int(0),
                most: $int(0),
                sum: None,
            };
            let bytes = match outlet {
                Outlet::Sums(sums) => {
                    store.sums = sums.as_mut_ptr();
                    return store;
                }
                Outlet::Bytes(bytes) => bytes,
            };
            let Quantise { low, high, zero, small } = bytes.quantise;
            store.output = bytes.output.as_mut_ptr();
            (store.stride, store.columns) = (bytes.stride, bytes.columns);
            (store.bias, store.multiplier) = (bytes.bias.as_ptr(), bytes.multiplier.as_ptr());
            (store.high, store.low) = ($float(high), $int(low as i32));
            let mut last = (zero, bytes.quantise.least(), bytes.quantise.most());
            if let Some((add, other)) = bytes.add {
                last = (add.shift, add.low as i32 + add.shift, add.high as i32 + add.shift);
                store.sum = Some(Sum {
                    other: other.as_ptr(),
                    own_shift: $int(zero - add.shift),
                    other_shift: $int(add.shift),
                    own_ratio: $float(add.own_ratio),
                    other_ratio: $float(add.other_ratio),
                    fixed: $float(add.fixed),
                    high: $float(add.high),
                    own_first: add.own_first,
                });
            }
            store.plain = small && store.sum.is_none();
            store.zero = $zero(last.0 as $zero_type);
            store.least = $least(last.1 as $least_type);
            store.most = $least(last.2 as $least_type);
            store
        }
    };
}

outlet! {
    /// The outlet for vectors of eight sums.
    outlet_avx2, "avx2", Store256,
    _mm256_set1_ps, _mm256_set1_epi32, _mm256_set1_epi16 as i16, _mm256_set1_epi8 as i8
}

outlet! {
    /// The outlet for vectors of sixteen sums.
    outlet_avx512, "avx512f", Store512,
    _mm512_set1_ps, _mm512_set1_epi32, _mm512_set1_epi32 as i32, _mm512_set1_epi32 as i32
}

/// Stores `R` rows of `V` vectors of sums, from `row` on.
///
/// Only requantisation alone is worth a place within every tile; what else there is has a function of its own.
///
/// # Safety
/// The outlet has been checked for those rows and `V` vectors of eight. AVX2 is available, here and in what it is made of: these have
/// no feature of their own, since functions that do cannot be made to be inlined, and sums would go through memory.
#[inline(always)]
pub(super) unsafe fn store_avx2<const R: usize, const V: usize>(
    sums: [[__m256i; V]; R],
    row: usize,
    to: &Store256,
) {
    // SAFETY: the caller's: `R` rows of `V` vectors are there, or parameters for as many and `to.columns` results.
    unsafe {
        if !to.plain {
            return store_other_avx2(sums, row, to);
        }
        let output = to.output.add(row * to.stride);
        if V == 2 && to.columns >= 16 {
            for r in (0..R).step_by(2) {
                let next = if r + 1 < R { r + 1 } else { r };
                let rows = narrow2(words(sums[r], to), words(sums[next], to), to);
                _mm_storeu_si128(output.add(r * to.stride).cast(), _mm256_castsi256_si128(rows));
                if next > r {
                    let high = _mm256_extracti128_si256::<1>(rows);
                    _mm_storeu_si128(output.add(next * to.stride).cast(), high);
                }
            }
            return;
        }
        for (r, sums) in sums.iter().enumerate() {
            for v in (0..V).step_by(2) {
                let pair = usize::from(v + 1 < V);
                let a = rounded_avx2(sums[v], v, to);
                let b = if pair == 1 { rounded_avx2(sums[v + pair], v + pair, to) } else { a };
                let count = (to.columns - v * 8).min(8 + 8 * pair);
                store_bytes(narrow(a, b, to), output.add(r * to.stride + v * 8), count);
            }
        }
    }
}

/// Sixteen results of a row as words of i16 around the zero: four of the first vector and four of the second in each half.
///
/// # Safety
/// There are parameters for two vectors; AVX2 is available.
#[inline(always)]
unsafe fn words<const V: usize>(sums: [__m256i; V], to: &Store256) -> __m256i {
    // SAFETY: the caller's.
    unsafe { _mm256_packs_epi32(rounded_avx2(sums[0], 0, to), rounded_avx2(sums[V - 1], V - 1, to)) }
}

/// Two rows of sixteen results, one in each half.
///
/// # Safety
/// AVX2 is available.
#[inline(always)]
unsafe fn narrow2(a: __m256i, b: __m256i, to: &Store256) -> __m256i {
    // SAFETY: the caller's.
    unsafe {
        let bytes = _mm256_packus_epi16(_mm256_adds_epi16(a, to.zero), _mm256_adds_epi16(b, to.zero));
        let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        _mm256_min_epu8(_mm256_max_epu8(bytes, to.least), to.most)
    }
}

/// Rounded products with the multipliers, where these fit i32.
///
/// # Safety
/// There are parameters for vector `v`; AVX2 is available.
#[inline(always)]
unsafe fn rounded_avx2(sums: __m256i, v: usize, to: &Store256) -> __m256i {
    // SAFETY: the caller's.
    unsafe {
        let multiplier = _mm256_loadu_ps(to.multiplier.add(v * 8));
        _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(sums), multiplier))
    }
}

/// Stores sums as they are, or with a residual sum, or with products that may leave i32.
///
/// # Safety
/// As [`store_avx2`].
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
unsafe fn store_other_avx2<const R: usize, const V: usize>(
    sums: [[__m256i; V]; R],
    row: usize,
    to: &Store256,
) {
    // SAFETY: the caller's: `R` rows of `V` vectors are there, or parameters for as many and `to.columns` results.
    unsafe {
        if !to.sums.is_null() {
            for (r, sums) in sums.iter().enumerate() {
                for (v, sums) in sums.iter().enumerate() {
                    _mm256_storeu_si256(to.sums.add(((row + r) * V + v) * 8).cast(), *sums);
                }
            }
            return;
        }
        for (r, sums) in sums.iter().enumerate() {
            for v in (0..V).step_by(2) {
                let pair = usize::from(v + 1 < V);
                let at = (row + r) * to.stride + v * 8;
                let count = (to.columns - v * 8).min(8 + 8 * pair);
                let mut a = scaled_avx2(sums[v], v, to);
                let mut b = scaled_avx2(sums[v + pair], v + pair, to);
                if let Some(sum) = &to.sum {
                    let other = load_bytes(sum.other.add(at), count);
                    a = added_avx2(a, _mm256_cvtepu8_epi32(other), to.low, sum);
                    b = added_avx2(b, _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(other)), to.low, sum);
                }
                store_bytes(narrow(a, b, to), to.output.add(at), count);
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
unsafe fn scaled_avx2(sums: __m256i, v: usize, to: &Store256) -> __m256i {
    // SAFETY: the caller's.
    let multiplier = unsafe { _mm256_loadu_ps(to.multiplier.add(v * 8)) };
    let value = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), multiplier);
    _mm256_cvtps_epi32(_mm256_min_ps(value, to.high))
}

/// The sum with other elements, at most its high bound.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn added_avx2(own: __m256i, other: __m256i, low: __m256i, sum: &Sum<__m256, __m256i>) -> __m256i {
    let own = _mm256_add_epi32(_mm256_max_epi32(own, low), sum.own_shift);
    let own = _mm256_cvtepi32_ps(own);
    let other = _mm256_cvtepi32_ps(_mm256_sub_epi32(other, sum.other_shift));
    let value = if sum.own_first {
        _mm256_fmadd_ps(own, sum.own_ratio, _mm256_fmadd_ps(other, sum.other_ratio, sum.fixed))
    } else {
        _mm256_fmadd_ps(other, sum.other_ratio, _mm256_fmadd_ps(own, sum.own_ratio, sum.fixed))
    };
    _mm256_cvtps_epi32(_mm256_min_ps(value, sum.high))
}

/// Sixteen results: the zero is added, and the bounds hold.
#[inline]
#[target_feature(enable = "avx2")]
fn narrow(a: __m256i, b: __m256i, to: &Store256) -> __m128i {
    let words = _mm256_adds_epi16(_mm256_packs_epi32(a, b), to.zero);
    // Each half holds four results of `a` and four of `b`.
    let bytes = _mm256_packus_epi16(words, words);
    let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5));
    let bytes = _mm256_min_epu8(_mm256_max_epu8(bytes, to.least), to.most);
    _mm256_castsi256_si128(bytes)
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

/// # Safety
/// `count` bytes, at most 16, may be read at `from`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_bytes(from: *const u8, count: usize) -> __m128i {
    // SAFETY: the caller's.
    unsafe {
        match count {
            16 => _mm_loadu_si128(from.cast()),
            8 => _mm_loadl_epi64(from.cast()),
            _ => {
                let mut all = [0u8; 16];
                std::ptr::copy_nonoverlapping(from, all.as_mut_ptr(), count.min(16));
                _mm_loadu_si128(all.as_ptr().cast())
            }
        }
    }
}

/// As [`store_avx2`].
///
/// # Safety
/// The outlet has been checked for those rows and `V` vectors of sixteen; AVX-512 is available.
#[inline(always)]
pub(super) unsafe fn store_avx512<const R: usize, const V: usize>(
    sums: [[__m512i; V]; R],
    row: usize,
    to: &Store512,
) {
    // SAFETY: the caller's: `R` rows of `V` vectors are there, or parameters for as many and `to.columns` results.
    unsafe {
        if !to.plain {
            return store_other_avx512(sums, row, to);
        }
        for v in 0..V {
            let mask = ((1u32 << (to.columns - v * 16).min(16)) - 1) as u16;
            let multiplier = _mm512_loadu_ps(to.multiplier.add(v * 16));
            for (r, sums) in sums.iter().enumerate() {
                let value = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(sums[v]), multiplier));
                let at = to.output.add((row + r) * to.stride + v * 16);
                _mm_mask_storeu_epi8(at.cast(), mask, narrow_avx512(value, to));
            }
        }
    }
}

/// Sixteen results: the zero is added, and the bounds hold.
#[inline]
#[target_feature(enable = "avx512f")]
fn narrow_avx512(value: __m512i, to: &Store512) -> __m128i {
    // The least result is no less than 0, so that what is narrowed has no sign.
    let value = _mm512_max_epi32(_mm512_add_epi32(value, to.zero), to.least);
    _mm512_cvtusepi32_epi8(_mm512_min_epi32(value, to.most))
}

/// As [`store_other_avx2`].
///
/// # Safety
/// As [`store_avx512`].
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn store_other_avx512<const R: usize, const V: usize>(
    sums: [[__m512i; V]; R],
    row: usize,
    to: &Store512,
) {
    // SAFETY: the caller's: `R` rows of `V` vectors are there, or parameters for as many and `to.columns` results.
    unsafe {
        if !to.sums.is_null() {
            for (r, sums) in sums.iter().enumerate() {
                for (v, sums) in sums.iter().enumerate() {
                    _mm512_storeu_si512(to.sums.add(((row + r) * V + v) * 16).cast(), *sums);
                }
            }
            return;
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, sums) in sums.iter().enumerate() {
                let at = (row + r) * to.stride + v * 16;
                let mask = ((1u32 << (to.columns - v * 16).min(16)) - 1) as u16;
                let mut value = scaled_avx512(*sums, v, to);
                if let Some(sum) = &to.sum {
                    let other = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, sum.other.add(at).cast()));
                    value = added_avx512(value, other, to.low, sum);
                }
                _mm_mask_storeu_epi8(to.output.add(at).cast(), mask, narrow_avx512(value, to));
            }
        }
    }
}

/// As [`scaled_avx2`].
///
/// # Safety
/// There are parameters for vector `v`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn scaled_avx512(sums: __m512i, v: usize, to: &Store512) -> __m512i {
    // SAFETY: the caller's.
    let multiplier = unsafe { _mm512_loadu_ps(to.multiplier.add(v * 16)) };
    let value = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), multiplier);
    _mm512_cvtps_epi32(_mm512_min_ps(value, to.high))
}

/// As [`added_avx2`].
#[inline]
#[target_feature(enable = "avx512f")]
fn added_avx512(own: __m512i, other: __m512i, low: __m512i, sum: &Sum<__m512, __m512i>) -> __m512i {
    let own = _mm512_add_epi32(_mm512_max_epi32(own, low), sum.own_shift);
    let own = _mm512_cvtepi32_ps(own);
    let other = _mm512_cvtepi32_ps(_mm512_sub_epi32(other, sum.other_shift));
    let value = if sum.own_first {
        _mm512_fmadd_ps(own, sum.own_ratio, _mm512_fmadd_ps(other, sum.other_ratio, sum.fixed))
    } else {
        _mm512_fmadd_ps(other, sum.other_ratio, _mm512_fmadd_ps(own, sum.own_ratio, sum.fixed))
    };
    _mm512_cvtps_epi32(_mm512_min_ps(value, sum.high))
}

//! Depthwise int8 kernels: input rows interleaved by channel, then products with the weights of each term.

use super::{
    qdot::dot_pairs16,
    qstore::{Store256, Store512, outlet_avx2, outlet_avx512, store_avx2, store_avx512},
};
use crate::{
    isa::Isa,
    qconv::{
        kernel::{LINE_CHANNELS, Line, Lines, Outlet, Strand},
        layout::Format,
    },
};
use std::arch::x86_64::*;

/// Bytes of a column of pairs of i16, or of four bytes, of each channel.
const COLUMN_BYTES: usize = Format::Quads8.column_bytes();

/// A kernel over lines, of tiles of output pixels.
macro_rules! line_kernel {
    (
        $(#[$doc:meta])*
        $name:ident, $isa:expr, $features:literal, $vector:ty, vectors = $vectors:literal,
        zero = $zero:ident, load = $load:ident, dot = $dot:ident, store = $store:ident, outlet = $outlet:ident, $to:ty,
        tiles = [$($pixels:literal),*]
    ) => {
        $(#[$doc])*
        pub(crate) fn $name(lines: &Lines<'_>, outlet: Outlet<'_>) {
            /// # Safety
            /// The lines have been checked for this outlet, `line` is one of them, and it has at least `pixel + P` pixels;
            /// `place` is that of the first one among the outlet's.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn tile<const P: usize>(
                (lines, line): (&Lines<'_>, &Line),
                pixel: usize,
                place: usize,
                to: &$to,
            ) {
                const BYTES: usize = COLUMN_BYTES / $vectors;
                // SAFETY: columns and weights lie within the slices, as `Lines::check` has asserted.
                unsafe {
                    let columns = lines.columns.as_ptr().add(pixel * lines.step);
                    let mut weights = lines.weights.as_ptr().add(line.weights);
                    let mut acc = [[$zero(); $vectors]; P];
                    for v in 0..$vectors {
                        let bias = $load(to.bias.add(v * LINE_CHANNELS / $vectors).cast());
                        for p in 0..P {
                            acc[p][v] = bias;
                        }
                    }
                    for at in line.terms.all() {
                        let column = columns.add(*at as usize);
                        for v in 0..$vectors {
                            let w = $load(weights.add(v * BYTES).cast());
                            for p in 0..P {
                                let x = $load(column.add(p * lines.step + v * BYTES).cast());
                                acc[p][v] = $dot(acc[p][v], x, w);
                            }
                        }
                        weights = weights.add(COLUMN_BYTES);
                    }
                    $store(acc, place, to);
                }
            }

            /// # Safety
            /// The lines have been checked for this outlet.
            #[target_feature(enable = $features)]
            unsafe fn all(lines: &Lines<'_>, to: &$to) {
                for (row, line) in lines.rows.iter().enumerate() {
                    let (mut pixel, first) = (0, row * lines.row_pixels);
                    $(
                        while lines.pixels - pixel >= $pixels {
                            // SAFETY: the caller's, and the pixels are counted.
                            unsafe { tile::<$pixels>((lines, line), pixel, first + pixel, to) };
                            pixel += $pixels;
                        }
                    )*
                }
            }

            debug_assert!($isa.is_available());
            lines.check(COLUMN_BYTES, &outlet);
            // SAFETY: the lines are checked, and a layer for an instruction set is run only where it is available
            // (`QConv::run` asserts it).
            unsafe { all(lines, &$outlet(outlet)) }
        }
    };
}

line_kernel! {
    /// Pairs of i16.
    line_avx2, Isa::Avx2, "avx2,fma", __m256i, vectors = 2,
    zero = _mm256_setzero_si256, load = _mm256_loadu_si256, dot = dot_pairs16, store = store_avx2, outlet = outlet_avx2, Store256,
    tiles = [4, 3, 2, 1]
}

line_kernel! {
    /// Four u8 with four i8, 256 bits.
    line_avx_vnni, Isa::AvxVnni, "avx2,fma,avxvnni", __m256i, vectors = 2,
    zero = _mm256_setzero_si256, load = _mm256_loadu_si256, dot = _mm256_dpbusd_avx_epi32, store = store_avx2, outlet = outlet_avx2, Store256,
    tiles = [4, 2, 1]
}

line_kernel! {
    /// Four u8 with four i8, 512 bits.
    line_avx512_vnni, Isa::Avx512Vnni, "avx512f,avx512bw,avx512vl,avx512vnni", __m512i, vectors = 1,
    zero = _mm512_setzero_si512, load = _mm512_loadu_si512, dot = _mm512_dpbusd_epi32, store = store_avx512, outlet = outlet_avx512, Store512,
    tiles = [8, 4, 2, 1]
}

/// Panics where the strands are shorter than the columns.
fn check(strands: &[Strand<'_>], columns: &[u8]) {
    let count = columns.len() / COLUMN_BYTES;
    let fits =
        |strand: &Strand<'_>| strand.bytes.len() >= count.saturating_sub(1) * strand.stride + LINE_CHANNELS;
    assert!(strands.iter().all(fits), "strands of columns");
}

/// Columns of four bytes of each channel, one of each strand.
pub(crate) fn interleave_quads8(strands: &[Strand<'_>; 4], columns: &mut [u8]) {
    debug_assert!(Isa::Avx2.is_available());
    check(strands, columns);
    // SAFETY: the lengths are checked; AVX2 is available wherever a layer for it or above is run.
    unsafe { quads8(strands, columns) }
}

/// Columns of two i16 of each channel, one of each of the first two strands.
pub(crate) fn interleave_pairs16(strands: &[Strand<'_>; 4], columns: &mut [u8]) {
    debug_assert!(Isa::Avx2.is_available());
    check(&strands[..2], columns);
    // SAFETY: as above.
    unsafe { pairs16(strands, columns) }
}

/// # Safety
/// The strands have been checked for these columns.
#[target_feature(enable = "avx2")]
unsafe fn quads8(strands: &[Strand<'_>; 4], columns: &mut [u8]) {
    for (i, column) in columns.chunks_exact_mut(COLUMN_BYTES).enumerate() {
        // SAFETY: the caller's.
        unsafe {
            let load =
                |s: usize| _mm_loadu_si128(strands[s].bytes.as_ptr().add(i * strands[s].stride).cast());
            let (a, b, c, d) = (load(0), load(1), load(2), load(3));
            let (ab, cd) = (_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d));
            let to: *mut __m128i = column.as_mut_ptr().cast();
            _mm_storeu_si128(to, _mm_unpacklo_epi16(ab, cd));
            _mm_storeu_si128(to.add(1), _mm_unpackhi_epi16(ab, cd));
            let (ab, cd) = (_mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(c, d));
            _mm_storeu_si128(to.add(2), _mm_unpacklo_epi16(ab, cd));
            _mm_storeu_si128(to.add(3), _mm_unpackhi_epi16(ab, cd));
        }
    }
}

/// # Safety
/// The first two strands have been checked for these columns.
#[target_feature(enable = "avx2")]
unsafe fn pairs16(strands: &[Strand<'_>; 4], columns: &mut [u8]) {
    for (i, column) in columns.chunks_exact_mut(COLUMN_BYTES).enumerate() {
        // SAFETY: the caller's.
        unsafe {
            let load =
                |s: usize| _mm_loadu_si128(strands[s].bytes.as_ptr().add(i * strands[s].stride).cast());
            let (a, b) = (load(0), load(1));
            let to: *mut __m256i = column.as_mut_ptr().cast();
            _mm256_storeu_si256(to, _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b)));
            _mm256_storeu_si256(to.add(1), _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b)));
        }
    }
}

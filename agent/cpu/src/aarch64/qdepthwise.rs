//! Depthwise int8 kernels: input rows interleaved by channel, then products with the weights of each term.

use super::qdot::{sdot, usdot};
use crate::{
    isa::Isa,
    qconv::{
        kernel::{LINE_CHANNELS, Line, Lines, Outlet, Strand, sums_of},
        layout::Format,
    },
};
use std::arch::aarch64::*;

/// Bytes of a column of pairs of i16, or of four bytes, of each channel.
const COLUMN_BYTES: usize = Format::Quads8.column_bytes();

/// Registers of a column.
const PARTS: usize = 4;

/// A kernel over lines, of tiles of output pixels.
macro_rules! line_kernel {
    ($(#[$doc:meta])* $name:ident, $isa:expr, $features:literal, $format:expr, dot = $dot:ident) => {
        $(#[$doc])*
        pub(crate) fn $name(lines: &Lines<'_>, outlet: Outlet<'_>) {
            /// # Safety
            /// The lines have been checked for these sums, `line` is one of them, and it has at least `pixel + P` pixels;
            /// `sums` are those of the first one.
            #[target_feature(enable = $features)]
            unsafe fn tile<const P: usize>((lines, line): (&Lines<'_>, &Line), pixel: usize, sums: *mut i32) {
                // SAFETY: columns and weights lie within the slices, as `Lines::check` has asserted.
                unsafe {
                    let columns = lines.columns.as_ptr().add(pixel * lines.step);
                    let mut weights = lines.weights.as_ptr().add(line.weights);
                    let mut acc = [[vdupq_n_s32(0); PARTS]; P];
                    for at in line.terms.all() {
                        let column = columns.add(*at as usize);
                        $dot(&mut acc, column, lines.step, weights);
                        weights = weights.add($format.column_bytes());
                    }
                    for p in 0..P {
                        for part in 0..PARTS {
                            vst1q_s32(sums.add(p * LINE_CHANNELS + part * 4), acc[p][part]);
                        }
                    }
                }
            }

            debug_assert!($isa.is_available());
            lines.check($format.column_bytes(), &outlet);
            let sums = sums_of(outlet).as_mut_ptr();
            for (row, line) in lines.rows.iter().enumerate() {
                let mut pixel = 0;
                while pixel < lines.pixels {
                    // SAFETY: the lines are checked, the pixels are counted, and a layer for an instruction set is run
                    // only where it is available (`QConv::run` asserts it).
                    unsafe {
                        let sums = sums.add((row * lines.row_pixels + pixel) * LINE_CHANNELS);
                        if lines.pixels - pixel >= 4 {
                            tile::<4>((lines, line), pixel, sums);
                            pixel += 4;
                        } else {
                            tile::<1>((lines, line), pixel, sums);
                            pixel += 1;
                        }
                    }
                }
            }
        }
    };
}

line_kernel! {
    /// Four i8 with four i8.
    line_dotprod, Isa::NeonDotprod, "neon,dotprod", Format::Signed8, dot = dot_signed8
}

line_kernel! {
    /// Four u8 with four i8.
    line_i8mm, Isa::NeonI8mm, "neon,i8mm", Format::Quads8, dot = dot_quads8
}

line_kernel! {
    /// One i16 with one i16.
    line_neon, Isa::Neon, "neon", Format::Words16, dot = dot_words16
}

/// # Safety
/// The columns of the pixels, `step` bytes apart, and the weights of a term can be read.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn dot_signed8<const P: usize>(
    acc: &mut [[int32x4_t; PARTS]; P],
    column: *const u8,
    step: usize,
    weights: *const u8,
) {
    for part in 0..PARTS {
        // SAFETY: the caller's.
        let w = unsafe { vld1q_s32(weights.add(part * 16).cast()) };
        for (p, acc) in acc.iter_mut().enumerate() {
            // SAFETY: the caller's.
            let x = unsafe { vld1q_s32(column.add(p * step + part * 16).cast()) };
            acc[part] = sdot(acc[part], x, w);
        }
    }
}

/// # Safety
/// The columns of the pixels, `step` bytes apart, and the weights of a term can be read.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn dot_quads8<const P: usize>(
    acc: &mut [[int32x4_t; PARTS]; P],
    column: *const u8,
    step: usize,
    weights: *const u8,
) {
    for part in 0..PARTS {
        // SAFETY: the caller's.
        let w = unsafe { vld1q_s32(weights.add(part * 16).cast()) };
        for (p, acc) in acc.iter_mut().enumerate() {
            // SAFETY: the caller's.
            let x = unsafe { vld1q_s32(column.add(p * step + part * 16).cast()) };
            acc[part] = usdot(acc[part], x, w);
        }
    }
}

/// # Safety
/// As [`dot_signed8`].
#[inline]
#[target_feature(enable = "neon")]
unsafe fn dot_words16<const P: usize>(
    acc: &mut [[int32x4_t; PARTS]; P],
    column: *const u8,
    step: usize,
    weights: *const u8,
) {
    for half in 0..2 {
        // SAFETY: the caller's.
        let w = unsafe { vld1q_s16(weights.add(half * 16).cast()) };
        for (p, acc) in acc.iter_mut().enumerate() {
            // SAFETY: the caller's.
            let x = unsafe { vld1q_s16(column.add(p * step + half * 16).cast()) };
            acc[half * 2] = vmlal_s16(acc[half * 2], vget_low_s16(x), vget_low_s16(w));
            acc[half * 2 + 1] = vmlal_high_s16(acc[half * 2 + 1], x, w);
        }
    }
}

/// Columns of four u8 of each channel, one of each strand.
pub(crate) fn interleave_quads8(strands: &[Strand<'_>; 4], columns: &mut [u8]) {
    interleave::<0>(strands, columns);
}

/// Columns of four i8 of each channel, one of each strand: the input less 128.
pub(crate) fn interleave_signed8(strands: &[Strand<'_>; 4], columns: &mut [u8]) {
    interleave::<0x80>(strands, columns);
}

fn interleave<const FLIPPED: u8>(strands: &[Strand<'_>; 4], columns: &mut [u8]) {
    let count = columns.len() / COLUMN_BYTES;
    let fits =
        |strand: &Strand<'_>| strand.bytes.len() >= count.saturating_sub(1) * strand.stride + LINE_CHANNELS;
    assert!(strands.iter().all(fits), "strands of columns");
    for (i, column) in columns.chunks_exact_mut(COLUMN_BYTES).enumerate() {
        // SAFETY: the lengths are checked; Advanced SIMD is in every aarch64 build.
        unsafe {
            let flip = vdupq_n_u8(FLIPPED);
            let load =
                |s: usize| veorq_u8(vld1q_u8(strands[s].bytes.as_ptr().add(i * strands[s].stride)), flip);
            vst4q_u8(column.as_mut_ptr(), uint8x16x4_t(load(0), load(1), load(2), load(3)));
        }
    }
}

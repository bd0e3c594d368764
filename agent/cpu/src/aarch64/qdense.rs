//! Dense int8 kernels: a tile of input rows by vectors of output channels, sums in registers.

use super::qdot::{sdot, usdot};
use crate::{
    isa::Isa,
    qconv::kernel::{Outlet, Panel, Panels, Rows, sums_of},
};
use std::arch::aarch64::*;

const ENTRY_BYTES: usize = 4;

/// A kernel: its tiles, the choice among them, and the safe function around it.
///
/// A vector of sums is `$parts` registers; `$dot` adds the products of an entry to it.
macro_rules! panel_kernel {
    (
        $(#[$doc:meta])*
        $name:ident, $isa:expr, $features:literal, parts = $parts:literal, dot = $dot:ident,
        tiles = { $($vectors:literal => [$($rows:literal),*]),* }
    ) => {
        $(#[$doc])*
        pub(crate) fn $name(panels: &Panels<'_>, outlet: Outlet<'_>, _: &mut [u8]) {
            const LANES: usize = $parts * 4;

            /// # Safety
            /// The panel has been checked for these sums, has `V` vectors, and at least `row + R` rows.
            #[target_feature(enable = $features)]
            unsafe fn tile<const R: usize, const V: usize>(panel: &Panel<'_>, row: usize, sums: *mut i32) {
                // SAFETY: rows, entries and weights lie within the slices, as `Panels::check` has asserted; so do
                // the extra entries' offsets.
                unsafe {
                    let Rows { input, starts, runs, run_entries } = panel.rows;
                    let mut each = [input.as_ptr(); R];
                    for r in 0..R {
                        each[r] = input.as_ptr().add(starts.of(row + r));
                    }
                    let mut weights = panel.weights.as_ptr();
                    let mut acc = [[[vdupq_n_s32(0); $parts]; V]; R];
                    let step = |acc: &mut [[[int32x4_t; $parts]; V]; R], at: usize, weights: *const u8| {
                        let mut rows = [vdupq_n_s32(0); R];
                        for r in 0..R {
                            rows[r] = vld1q_dup_s32(each[r].add(at).cast());
                        }
                        for v in 0..V {
                            $dot(acc, v, &rows, weights.add(v * LANES * ENTRY_BYTES));
                        }
                    };
                    for run in runs.all() {
                        for entry in 0..run_entries {
                            step(&mut acc, *run as usize + entry * ENTRY_BYTES, weights);
                            weights = weights.add(V * LANES * ENTRY_BYTES);
                        }
                    }
                    for at in panel.extra {
                        step(&mut acc, *at as usize, weights);
                        weights = weights.add(V * LANES * ENTRY_BYTES);
                    }
                    for r in 0..R {
                        for v in 0..V {
                            for part in 0..$parts {
                                let at = ((row + r) * V + v) * LANES + part * 4;
                                vst1q_s32(sums.add(at), acc[r][v][part]);
                            }
                        }
                    }
                }
            }

            /// # Safety
            /// The panel has been checked for these sums.
            #[target_feature(enable = $features)]
            unsafe fn all(panel: &Panel<'_>, sums: *mut i32) {
                let mut row = 0;
                match panel.vectors {
                    $($vectors => {
                        $(
                            while panel.rows.starts.len() - row >= $rows {
                                // SAFETY: the caller's, and the row count above.
                                unsafe { tile::<$rows, $vectors>(panel, row, sums) };
                                row += $rows;
                            }
                        )*
                    })*
                    _ => unreachable!("panels are no wider than the kernel's tiles"),
                }
            }

            debug_assert!($isa.is_available());
            panels.check(LANES, &outlet);
            // SAFETY: the panel is checked, and a layer for an instruction set is run only where it is available
            // (`QConv::run` asserts it).
            unsafe { all(&panels.get(0), sums_of(outlet).as_mut_ptr()) }
        }
    };
}

panel_kernel! {
    /// Pairs of i16.
    panel_neon, Isa::Neon, "neon", parts = 2, dot = dot_pairs16,
    tiles = { 1 => [8, 4, 2, 1], 2 => [4, 2, 1] }
}

panel_kernel! {
    /// i8 with i8.
    panel_dotprod, Isa::NeonDotprod, "neon,dotprod", parts = 1, dot = dot_signed8,
    tiles = { 1 => [8, 4, 2, 1], 2 => [8, 4, 2, 1], 3 => [6, 3, 1], 4 => [5, 2, 1] }
}

panel_kernel! {
    /// u8 with i8.
    panel_i8mm, Isa::NeonI8mm, "neon,i8mm", parts = 1, dot = dot_quads8,
    tiles = { 1 => [8, 4, 2, 1], 2 => [8, 4, 2, 1], 3 => [6, 3, 1], 4 => [5, 2, 1] }
}

/// # Safety
/// An entry of vector `v` can be read at `weights`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn dot_pairs16<const R: usize, const V: usize>(
    acc: &mut [[[int32x4_t; 2]; V]; R],
    v: usize,
    rows: &[int32x4_t; R],
    weights: *const u8,
) {
    // SAFETY: the caller's.
    let int16x8x2_t(even, odd) = unsafe { vld2q_s16(weights.cast()) };
    for (acc, row) in acc.iter_mut().zip(rows) {
        let [low, high] = &mut acc[v];
        let pair = vget_low_s16(vreinterpretq_s16_s32(*row));
        *low = vmlal_lane_s16::<0>(*low, vget_low_s16(even), pair);
        *high = vmlal_high_lane_s16::<0>(*high, even, pair);
        *low = vmlal_lane_s16::<1>(*low, vget_low_s16(odd), pair);
        *high = vmlal_high_lane_s16::<1>(*high, odd, pair);
    }
}

/// # Safety
/// An entry of vector `v` can be read at `weights`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn dot_signed8<const R: usize, const V: usize>(
    acc: &mut [[[int32x4_t; 1]; V]; R],
    v: usize,
    rows: &[int32x4_t; R],
    weights: *const u8,
) {
    // SAFETY: the caller's.
    let weights = unsafe { vld1q_s32(weights.cast()) };
    for (acc, row) in acc.iter_mut().zip(rows) {
        acc[v][0] = sdot(acc[v][0], *row, weights);
    }
}

/// # Safety
/// An entry of vector `v` can be read at `weights`.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn dot_quads8<const R: usize, const V: usize>(
    acc: &mut [[[int32x4_t; 1]; V]; R],
    v: usize,
    rows: &[int32x4_t; R],
    weights: *const u8,
) {
    // SAFETY: the caller's.
    let weights = unsafe { vld1q_s32(weights.cast()) };
    for (acc, row) in acc.iter_mut().zip(rows) {
        acc[v][0] = usdot(acc[v][0], *row, weights);
    }
}

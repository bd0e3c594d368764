//! Dense int8 kernels: a tile of input rows by vectors of output channels, sums in registers.

use super::{
    qdot::{dot_pairs16, dot_quads8, dot_signed8},
    qshuffle::order_rows,
    qstore::{Store256, Store512, outlet_avx2, outlet_avx512, store_avx2, store_avx512},
};
use crate::{
    isa::Isa,
    qconv::kernel::{ORDERED_ROWS, Outlet, Panel, Panels, Rows, Starts},
};
use std::arch::x86_64::*;

const ENTRY_BYTES: usize = 4;

/// Bytes from the weights that are multiplied to those that are fetched. Panels of much K do not stay in the first cache, nor all
/// of them in the second.
const FETCHED_AHEAD: usize = 2048;

/// A kernel: its tiles, the choice among them, and the safe function around it.
macro_rules! panel_kernel {
    (
        $(#[$doc:meta])*
        $name:ident, $isa:expr, $features:literal, $vector:ty, lanes = $lanes:literal,
        zero = $zero:ident, load = $load:ident, row = $row:ident, add = $add:ident, dot = $dot:ident, store = $store:ident, outlet = $outlet:ident, $to:ty,
        tiles = { $($vectors:literal => [$($rows:literal),*]),* }
    ) => {
        $(#[$doc])*
        pub(crate) fn $name(panels: &Panels<'_>, outlet: Outlet<'_>, ordered: &mut [u8]) {
            /// Sums of `R` rows that start at `each`, or if they are `SPACED`, `stride` bytes from each other from the first
            /// on; they are row `place` of the outlet's and those after it.
            ///
            /// # Safety
            /// The panel has been checked for this outlet, and has `V` vectors; rows are read as its entries say.
            #[target_feature(enable = $features)]
            unsafe fn tile<const R: usize, const V: usize, const SPACED: bool>(
                panel: &Panel<'_>,
                (each, stride): ([*const u8; R], usize),
                place: usize,
                to: &$to,
            ) {
                // SAFETY: rows, entries and weights lie within the slices, as `Panels::check` has asserted; so do
                // the extra entries' offsets, and there is a bias for every column.
                unsafe {
                    let run_entries = panel.rows.run_entries;
                    let first = each[0];
                    let mut weights = panel.weights.as_ptr();
                    // One row's sums are a single chain of additions otherwise.
                    let split = if R == 1 { 2 } else { 1 };
                    let mut acc = [[[$zero(); V]; R]; 2];
                    for v in 0..V {
                        let bias = $load(to.bias.add(v * $lanes).cast());
                        for r in 0..R {
                            acc[0][r][v] = bias;
                        }
                    }
                    let step = |acc: &mut [[$vector; V]; R], at: usize, weights: *const u8| {
                        let mut w = [$zero(); V];
                        _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(FETCHED_AHEAD).cast());
                        for v in 0..V {
                            w[v] = $load(weights.add(v * $lanes * ENTRY_BYTES).cast());
                        }
                        for r in 0..R {
                            // Few registers hold rows of equal distances.
                            let row = if SPACED { first.add(r * stride) } else { each[r] };
                            let a = row.add(at).cast::<i32>().read_unaligned();
                            let a = $row(a);
                            for v in 0..V {
                                acc[r][v] = $dot(acc[r][v], a, w[v]);
                            }
                        }
                    };
                    // Ordered rows are one run.
                    let whole = [0];
                    let (runs, run_entries) = if panel.order.is_empty() {
                        (panel.rows.runs.all(), run_entries)
                    } else {
                        (&whole[..], panel.rows.entries())
                    };
                    for run in runs {
                        let (mut at, end) = (*run as usize, *run as usize + run_entries * ENTRY_BYTES);
                        while at + split * ENTRY_BYTES <= end {
                            for acc in acc.iter_mut().take(split) {
                                step(acc, at, weights);
                                weights = weights.add(V * $lanes * ENTRY_BYTES);
                                at += ENTRY_BYTES;
                            }
                        }
                        if R == 1 && at < end {
                            step(&mut acc[1], at, weights);
                            weights = weights.add(V * $lanes * ENTRY_BYTES);
                        }
                    }
                    let [acc, others] = &mut acc;
                    for at in panel.extra {
                        step(acc, *at as usize, weights);
                        weights = weights.add(V * $lanes * ENTRY_BYTES);
                    }
                    if R == 1 {
                        for v in 0..V {
                            acc[0][v] = $add(acc[0][v], others[0][v]);
                        }
                    }
                    $store(*acc, place, to);
                }
            }

            /// `R` rows from `row` on, ordered before if the panel has an order.
            ///
            /// # Safety
            /// The panel has been checked for this outlet, and has `V` vectors and those rows; there is room for as many
            /// ordered ones.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn rows<const R: usize, const V: usize, const SPACED: bool>(
                panel: &Panel<'_>,
                row: usize,
                ordered: *mut u8,
                to: &$to,
            ) {
                let Rows { input, starts, .. } = panel.rows;
                // SAFETY: the caller's.
                unsafe {
                    let mut each = [input.as_ptr().add(starts.of(row)); R];
                    for r in 1..R {
                        if !SPACED || !panel.order.is_empty() {
                            each[r] = input.as_ptr().add(starts.of(row + r));
                        }
                    }
                    if !panel.order.is_empty() {
                        let stride = panel.order.len();
                        order_rows(panel, each, ordered);
                        return tile::<R, V, true>(panel, ([ordered.cast_const(); R], stride), row, to);
                    }
                    let stride = if let Starts::Spaced { stride, .. } = starts { stride } else { 0 };
                    tile::<R, V, SPACED>(panel, (each, stride), row, to);
                }
            }

            /// # Safety
            /// The panel has been checked for this outlet; its rows are `SPACED` or not; there is room for ordered rows.
            #[target_feature(enable = $features)]
            unsafe fn all<const SPACED: bool>(panel: &Panel<'_>, ordered: *mut u8, to: &$to) {
                let (mut row, count) = (0, panel.rows.starts.len());
                match panel.vectors {
                    $($vectors => {
                        $(
                            while count - row >= $rows {
                                // SAFETY: the caller's, and the row count above.
                                unsafe { rows::<$rows, $vectors, SPACED>(panel, row, ordered, to) };
                                row += $rows;
                            }
                        )*
                    })*
                    _ => unreachable!("panels are no wider than the kernel's tiles"),
                }
            }

            debug_assert!($isa.is_available());
            panels.check($lanes, &outlet);
            assert!(ordered.len() >= ORDERED_ROWS * panels.ordered_bytes(), "room for ordered rows");
            // SAFETY: the panels are checked, and a layer for an instruction set is run only where it is available
            // (`QConv::run` asserts it).
            unsafe {
                let mut to = $outlet(outlet);
                for (index, place) in panels.places.iter().enumerate() {
                    let panel = panels.get(index);
                    let ordered = ordered.as_mut_ptr();
                    match panel.rows.starts {
                        Starts::Spaced { .. } => all::<true>(&panel, ordered, &to),
                        Starts::At(_) => all::<false>(&panel, ordered, &to),
                    }
                    if index + 1 < panels.places.len() {
                        to.skip(place.vectors * $lanes);
                    }
                }
            }
        }
    };
}

panel_kernel! {
    /// Pairs of i16.
    panel_avx2_pairs16, Isa::Avx2, "avx2,fma", __m256i, lanes = 8,
    zero = _mm256_setzero_si256, load = _mm256_loadu_si256,
    row = _mm256_set1_epi32, add = _mm256_add_epi32, dot = dot_pairs16, store = store_avx2, outlet = outlet_avx2, Store256,
    tiles = { 1 => [8, 4, 2, 1], 2 => [6, 4, 2, 1], 3 => [1], 4 => [1] }
}

panel_kernel! {
    /// u8 with i8 of which no pair's product leaves i16.
    panel_avx2_quads8, Isa::Avx2, "avx2,fma", __m256i, lanes = 8,
    zero = _mm256_setzero_si256, load = _mm256_loadu_si256,
    row = _mm256_set1_epi32, add = _mm256_add_epi32, dot = dot_quads8, store = store_avx2, outlet = outlet_avx2, Store256,
    tiles = { 1 => [8, 4, 2, 1], 2 => [4, 2, 1], 3 => [1], 4 => [1] }
}

panel_kernel! {
    /// i8 with i8 other than -128: magnitudes times weights that carry the sign.
    panel_avx2_signed8, Isa::Avx2, "avx2,fma", __m256i, lanes = 8,
    zero = _mm256_setzero_si256, load = _mm256_loadu_si256,
    row = _mm256_set1_epi32, add = _mm256_add_epi32, dot = dot_signed8, store = store_avx2, outlet = outlet_avx2, Store256,
    tiles = { 1 => [4, 2, 1], 2 => [4, 2, 1], 3 => [1], 4 => [1] }
}

panel_kernel! {
    /// u8 with i8, 256 bits.
    panel_avx_vnni, Isa::AvxVnni, "avx2,fma,avxvnni", __m256i, lanes = 8,
    zero = _mm256_setzero_si256, load = _mm256_loadu_si256,
    row = _mm256_set1_epi32, add = _mm256_add_epi32, dot = _mm256_dpbusd_avx_epi32, store = store_avx2, outlet = outlet_avx2, Store256,
    tiles = { 1 => [12, 4, 2, 1], 2 => [6, 2, 1], 3 => [1], 4 => [1] }
}

panel_kernel! {
    /// u8 with i8, 512 bits.
    panel_avx512_vnni, Isa::Avx512Vnni, "avx512f,avx512bw,avx512vl,avx512vnni", __m512i, lanes = 16,
    zero = _mm512_setzero_si512, load = _mm512_loadu_si512,
    row = _mm512_set1_epi32, add = _mm512_add_epi32, dot = _mm512_dpbusd_epi32, store = store_avx512, outlet = outlet_avx512, Store512,
    tiles = { 1 => [12, 4, 2, 1], 2 => [12, 4, 2, 1], 3 => [8, 4, 2, 1], 4 => [6, 3, 1] }
}

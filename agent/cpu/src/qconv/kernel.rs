//! The choice of kernels by instruction set, and the portable ones.

use super::{
    finish::{self, Block, Columns, Finish, Place},
    layout::{ENTRY_BYTES, Format},
};
use crate::isa::Isa;

/// One panel of output channels over some input rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panel<'a> {
    /// The rows, as the format has them.
    pub(crate) input: &'a [u8],
    /// Bytes from one row to the next.
    pub(crate) stride: usize,
    /// Rows.
    pub(crate) rows: usize,
    /// Entries of a row.
    pub(crate) entries: usize,
    /// The bytes of a row at which entries beyond those read again.
    pub(crate) extra: &'a [u32],
    /// The weights of all entries: four bytes for each column.
    pub(crate) weights: &'a [u8],
    /// Vectors of columns.
    pub(crate) vectors: usize,
}

impl Panel<'_> {
    /// Panics where a kernel of `lanes` columns a vector would leave one of the slices.
    pub(crate) fn check(&self, lanes: usize, sums: &[i32]) {
        let row_bytes = self.entries * ENTRY_BYTES;
        let input_bytes = (self.rows - 1) * self.stride + row_bytes;
        assert!(self.rows > 0 && self.input.len() >= input_bytes, "input rows");
        assert!(self.extra.iter().all(|at| *at as usize + ENTRY_BYTES <= row_bytes), "extra entries");
        let columns = self.vectors * lanes;
        let weights = (self.entries + self.extra.len()) * columns * ENTRY_BYTES;
        assert!(self.weights.len() >= weights, "weights of a panel");
        assert!(sums.len() >= self.rows * columns, "sums of a panel");
    }
}

/// Computes a panel's sums, row by row.
pub(crate) type PanelKernel = fn(&Panel<'_>, &mut [i32]);

/// Turns sums into results.
pub(crate) type FinishKernel = fn(&Block<'_>, &Columns<'_>, &Finish, Place<'_, '_>);

/// The kernel of an instruction set for a format that [`super::dense`] chooses for it.
pub(crate) fn panel(isa: Isa, format: Format) -> PanelKernel {
    match (isa, format) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, Format::Pairs16) => crate::x86_64::panel_avx2_pairs16,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, Format::Quads8) => crate::x86_64::panel_avx2_quads8,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, Format::Signed8) => crate::x86_64::panel_avx2_signed8,
        #[cfg(target_arch = "x86_64")]
        (Isa::AvxVnni, Format::Quads8) => crate::x86_64::panel_avx_vnni,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512Vnni, Format::Quads8) => crate::x86_64::panel_avx512_vnni,
        (_, Format::Pairs16) => panel_pairs16,
        (_, Format::Quads8 | Format::Signed8) => panel_bytes,
    }
}

/// The finishing of an instruction set.
pub(crate) fn finish(isa: Isa) -> FinishKernel {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::AvxVnni => crate::x86_64::finish_avx2,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => crate::x86_64::finish_avx512,
        _ => finish::finish::<false>,
    }
}

const LANES: usize = 8;

fn panel_pairs16(panel: &Panel<'_>, sums: &mut [i32]) {
    panel.check(LANES, sums);
    for (r, sums) in sums.chunks_exact_mut(LANES).take(panel.rows).enumerate() {
        let row = &panel.input[r * panel.stride..][..panel.entries * ENTRY_BYTES];
        let row: &[[i16; 2]] = bytemuck::cast_slice(row);
        let weights: &[[[i16; 2]; LANES]] = bytemuck::cast_slice(panel.weights);
        let mut acc = [0i32; LANES];
        for (a, weights) in row.iter().zip(weights) {
            let (a0, a1) = (i32::from(a[0]), i32::from(a[1]));
            for (acc, w) in acc.iter_mut().zip(weights) {
                *acc += a0 * i32::from(w[0]) + a1 * i32::from(w[1]);
            }
        }
        sums.copy_from_slice(&acc);
    }
}

/// For tests of packings that another machine's kernels read.
fn panel_bytes(panel: &Panel<'_>, sums: &mut [i32]) {
    panel.check(LANES, sums);
    let weights: &[[[i8; 4]; LANES]] = bytemuck::cast_slice(panel.weights);
    for (r, sums) in sums.chunks_exact_mut(LANES).take(panel.rows).enumerate() {
        let row = &panel.input[r * panel.stride..][..panel.entries * ENTRY_BYTES];
        let offsets = (0..panel.entries).map(|entry| entry * ENTRY_BYTES);
        sums.fill(0);
        for (at, weights) in offsets.chain(panel.extra.iter().map(|at| *at as usize)).zip(weights) {
            for (sum, weights) in sums.iter_mut().zip(weights) {
                let products = weights.iter().zip(&row[at..]).map(|(w, a)| i32::from(*w) * i32::from(*a));
                *sum += products.sum::<i32>();
            }
        }
    }
}

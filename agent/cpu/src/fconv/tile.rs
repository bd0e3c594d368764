//! The register tile: a few output pixels by the columns of one panel.

use super::{activation::Activation, rows::Source};
use crate::simd::{Kernel, Simd};

/// What a tile computes; all slices are shared by the tiles of a block of rows.
pub(super) struct Block<'a> {
    /// The elements that are multiplied.
    pub(super) source: Source<'a>,
    /// Offsets into them, tap by tap, `offset_step` for each.
    pub(super) offsets: &'a [u32],
    pub(super) offset_step: usize,
    /// Elements left out at each offset.
    pub(super) skip: usize,
    /// Elements of each tap.
    pub(super) depth: usize,
    /// The panel's weights for these taps.
    pub(super) weights: &'a [f32],
    /// The panel's biases, with which the sums start; without, they go on from what the output holds.
    pub(super) bias: Option<&'a [f32]>,
    /// Output rows.
    pub(super) output: &'a mut [f32],
    /// What is added to them in the end, laid out like them.
    pub(super) residual: Option<&'a [f32]>,
    /// Elements between output rows.
    pub(super) row_step: usize,
    /// The panel's first column and how many it has.
    pub(super) column: usize,
    pub(super) columns: usize,
    /// What is applied in the end; without, the sums go on.
    pub(super) finish: Option<Activation>,
}

/// `R` rows by `N` vectors of a block.
struct Tile<'a, 'b, const R: usize, const N: usize> {
    block: &'a mut Block<'b>,
    row: usize,
}

impl<const R: usize, const N: usize> Kernel for Tile<'_, '_, R, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut sums = self.start(simd);
        let block = &*self.block;
        let weights = block.weights.chunks_exact(block.depth * N * S::LANES);
        let offsets = block.offsets.chunks(block.offset_step);
        for (weights, offsets) in weights.zip(offsets) {
            let offsets = &offsets[self.row..][..R];
            let mut rows: [&[f32]; R] = [&[]; R];
            for i in 0..R {
                rows[i] = block.source.row(offsets[i], block.skip, block.depth);
            }
            for (k, weights) in (0..block.depth).zip(weights.chunks_exact(N * S::LANES)) {
                let mut columns = [simd.splat(0.0); N];
                for j in 0..N {
                    columns[j] = simd.load(&weights[j * S::LANES..]);
                }
                for i in 0..R {
                    let element = simd.splat(rows[i][k]);
                    for j in 0..N {
                        sums[i][j] = simd.mul_add(element, columns[j], sums[i][j]);
                    }
                }
            }
        }
        self.end(simd, sums);
    }
}

impl<const R: usize, const N: usize> Tile<'_, '_, R, N> {
    /// The sums to start with.
    #[inline(always)]
    fn start<S: Simd>(&self, simd: S) -> [[S::Vector; N]; R] {
        let mut sums = [[simd.splat(0.0); N]; R];
        if let Some(bias) = self.block.bias {
            for j in 0..N {
                let bias = simd.load(&bias[j * S::LANES..]);
                for sums in &mut sums {
                    sums[j] = bias;
                }
            }
        } else {
            self.add(simd, self.block.output, &mut sums);
        }
        sums
    }

    /// Adds elements laid out like the output.
    #[inline(always)]
    fn add<S: Simd>(&self, simd: S, from: &[f32], sums: &mut [[S::Vector; N]; R]) {
        let block = &*self.block;
        for i in 0..R {
            let row = &from[(self.row + i) * block.row_step + block.column..][..block.columns];
            if block.columns == N * S::LANES {
                for j in 0..N {
                    sums[i][j] = simd.add(sums[i][j], simd.load(&row[j * S::LANES..]));
                }
            } else {
                for j in 0..N {
                    let row = &row[j * S::LANES..];
                    sums[i][j] = simd.add(sums[i][j], simd.load_some(row, row.len().min(S::LANES)));
                }
            }
        }
    }

    /// Writes the sums, finished if they are.
    #[inline(always)]
    fn end<S: Simd>(self, simd: S, mut sums: [[S::Vector; N]; R]) {
        if let Some(activation) = self.block.finish {
            if let Some(residual) = self.block.residual {
                self.add(simd, residual, &mut sums);
            }
            activation.apply(simd, &mut sums);
        }
        let block = self.block;
        for i in 0..R {
            let row = &mut block.output[(self.row + i) * block.row_step + block.column..][..block.columns];
            if block.columns == N * S::LANES {
                for j in 0..N {
                    simd.store(sums[i][j], &mut row[j * S::LANES..]);
                }
            } else {
                for j in 0..N {
                    let row = &mut row[j * S::LANES..];
                    let len = row.len().min(S::LANES);
                    simd.store_some(sums[i][j], row, len);
                }
            }
        }
    }
}

/// Computes a block of `rows` rows by a panel of `vectors` vectors, in tiles as equal as can be: a tile of few rows
/// leaves the multipliers waiting for each other.
pub(super) fn run<S: Simd>(simd: S, block: &mut Block<'_>, rows: usize, vectors: usize) {
    match vectors {
        1 => tiles::<S, 1>(simd, block, rows),
        2 => tiles::<S, 2>(simd, block, rows),
        _ => tiles::<S, 3>(simd, block, rows),
    }
}

fn tiles<S: Simd, const N: usize>(simd: S, block: &mut Block<'_>, rows: usize) {
    let count = rows.div_ceil(S::TILE_ROWS[N - 1]);
    let mut row = 0;
    for index in 0..count {
        let here = (rows - row).div_ceil(count - index);
        macro_rules! tile {
            ($($rows:literal)*) => {
                match here {
                    $($rows => if const { $rows <= S::TILE_ROWS[N - 1] } {
                        simd.call(Tile::<$rows, N> { block: &mut *block, row });
                    })*
                    _ => {}
                }
            };
        }
        tile!(1 2 3 4 5 6 7 8);
        row += here;
    }
}

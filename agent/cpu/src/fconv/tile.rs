//! The register tile: a few output pixels by the columns of one panel.

use super::{activation::clip, rows::Source};
use crate::simd::{Kernel, MAX_LANES, MAX_PANEL_VECTORS, Simd};

/// What a tile computes; all slices are shared by the tiles of a block of rows.
pub(super) struct Block<'a> {
    /// The elements that are multiplied.
    pub(super) source: Source<'a>,
    /// Taps, and offsets into the elements for each, `offset_step` of them.
    pub(super) taps: usize,
    pub(super) offsets: &'a [u32],
    pub(super) offset_step: usize,
    /// Whether taps that read nothing but padding may be left out.
    pub(super) skip_padding: bool,
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
    /// The limits in the end; without, the sums go on.
    pub(super) finish: Option<(f32, f32)>,
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
        let depth = block.depth;
        for tap in 0..block.taps {
            let offsets = &block.offsets[tap * block.offset_step + self.row..][..R];
            if block.skip_padding && Source::is_padding(offsets) {
                continue;
            }
            let mut rows: [&[f32]; R] = [&[]; R];
            for i in 0..R {
                rows[i] = block.source.row(offsets[i], block.skip, depth);
            }
            let weights = &block.weights[tap * depth * N * S::LANES..][..depth * N * S::LANES];
            for (k, weights) in (0..depth).zip(weights.chunks_exact(N * S::LANES)) {
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

/// Floats of the largest tile.
const TILE_MAX_LEN: usize = 8 * MAX_PANEL_VECTORS * MAX_LANES;

impl<const R: usize, const N: usize> Tile<'_, '_, R, N> {
    /// The sums to start with.
    #[inline(always)]
    fn start<S: Simd>(&self, simd: S) -> [[S::Vector; N]; R] {
        let mut sums = [[simd.splat(0.0); N]; R];
        if let Some(bias) = self.block.bias {
            for j in 0..N {
                let bias = simd.load(&bias[j * S::LANES..]);
                for i in 0..R {
                    sums[i][j] = bias;
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
        let from = &from[self.row * block.row_step + block.column..];
        if block.columns == N * S::LANES {
            add_rows::<S, R, N>(simd, from, block.row_step, sums);
        } else {
            let mut copy = [0.0; TILE_MAX_LEN];
            copy_rows(from, block.row_step, (&mut copy, N * S::LANES), (R, block.columns));
            add_rows::<S, R, N>(simd, &copy, N * S::LANES, sums);
        }
    }

    /// Writes the sums, finished if they are.
    #[inline(always)]
    fn end<S: Simd>(self, simd: S, mut sums: [[S::Vector; N]; R]) {
        if let Some(limits) = self.block.finish {
            if let Some(residual) = self.block.residual {
                self.add(simd, residual, &mut sums);
            }
            clip(simd, limits, &mut sums);
        }
        let block = self.block;
        let to = &mut block.output[self.row * block.row_step + block.column..];
        if block.columns == N * S::LANES {
            store_rows::<S, R, N>(simd, &sums, to, block.row_step);
        } else {
            let mut copy = [0.0; TILE_MAX_LEN];
            store_rows::<S, R, N>(simd, &sums, &mut copy, N * S::LANES);
            copy_rows(&copy, N * S::LANES, (to, block.row_step), (R, block.columns));
        }
    }
}

#[inline(always)]
fn add_rows<S: Simd, const R: usize, const N: usize>(
    simd: S,
    from: &[f32],
    step: usize,
    sums: &mut [[S::Vector; N]; R],
) {
    let mut rest = from;
    for i in 0..R {
        for j in 0..N {
            sums[i][j] = simd.add(sums[i][j], simd.load(&rest[j * S::LANES..]));
        }
        if i + 1 < R {
            rest = &rest[step..];
        }
    }
}

#[inline(always)]
fn store_rows<S: Simd, const R: usize, const N: usize>(
    simd: S,
    sums: &[[S::Vector; N]; R],
    to: &mut [f32],
    step: usize,
) {
    let mut rest = to;
    for i in 0..R {
        let (row, after) = rest.split_at_mut(if i + 1 < R { step } else { N * S::LANES });
        for j in 0..N {
            simd.store(sums[i][j], &mut row[j * S::LANES..]);
        }
        rest = after;
    }
}

/// Copies `rows` rows of `columns` elements between different steps.
#[inline(never)]
fn copy_rows(
    from: &[f32],
    from_step: usize,
    (to, to_step): (&mut [f32], usize),
    (rows, columns): (usize, usize),
) {
    for (from, to) in from.chunks(from_step).zip(to.chunks_mut(to_step)).take(rows) {
        to[..columns].copy_from_slice(&from[..columns]);
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

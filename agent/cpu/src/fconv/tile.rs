//! The register tile: a few output pixels by the columns of one panel.

use super::{activation::clip, rows::Source};
use crate::simd::{Kernel, MAX_LANES, MAX_PANEL_VECTORS, Simd};

/// The elements that each output row is made of.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    /// One run each, so many elements apart.
    Steps { input: &'a [f32], step: usize },
    /// Several runs, at the offsets of a table: tap by tap, `step` for each.
    Table { source: Source<'a>, offsets: &'a [u32], step: usize, taps: usize },
}

/// What a tile computes; all slices are shared by the tiles of a block of rows.
pub(super) struct Block<'a> {
    /// The elements that are multiplied.
    pub(super) rows: Rows<'a>,
    /// Whether taps that read nothing but padding may be left out.
    pub(super) skip_padding: bool,
    /// Elements of each tap.
    pub(super) depth: usize,
    /// The panel's weights for these taps.
    pub(super) weights: &'a [f32],
    /// Weights that are needed next; empty if none are.
    pub(super) next_weights: &'a [f32],
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

/// Tiles of `R` rows by `N` vectors of a block.
struct Tiles<'a, 'b, const R: usize, const N: usize> {
    block: &'a mut Block<'b>,
    first_row: usize,
    count: usize,
    /// How slowly the next weights are asked for: once in so many turns of the innermost loop, as a power of two.
    pace: u32,
}

impl<const R: usize, const N: usize> Kernel for Tiles<'_, '_, R, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { block, first_row, count, pace } = self;
        let len = block.depth * N * S::LANES;
        let mut next = block.next_weights;
        for row in (first_row..).step_by(R).take(count) {
            let mut sums = start::<S, R, N>(simd, block, row);
            match block.rows {
                Rows::Steps { input, step } => {
                    let rows = steps(&input[row * step..], step, block.depth);
                    multiply::<S, R, N>(simd, rows, (&block.weights[..len], &mut next, pace), &mut sums);
                }
                Rows::Table { source, offsets, step, taps } => {
                    for tap in 0..taps {
                        let offsets = &offsets[tap * step + row..][..R];
                        if let Some(rows) = source.rows(offsets, block.depth, block.skip_padding) {
                            let weights = &block.weights[tap * len..][..len];
                            multiply::<S, R, N>(simd, rows, (weights, &mut next, pace), &mut sums);
                        }
                    }
                }
            }
            end(simd, block, row, sums);
        }
        block.next_weights = next;
    }
}

/// Rows at equal distances.
#[inline(always)]
fn steps<const R: usize>(input: &[f32], step: usize, depth: usize) -> [&[f32]; R] {
    let mut rows: [&[f32]; R] = [&[]; R];
    let mut rest = input;
    for i in 0..R {
        rows[i] = &rest[..depth];
        if i + 1 < R {
            rest = &rest[step..];
        }
    }
    rows
}

/// Elements of a row that one turn of the innermost loop takes: so few turns that the processor foresees the last.
const UNROLL: usize = 4;

/// Tiles of a panel from which on there is time to ask for the next one's weights at half the speed, which leaves the way
/// free for the input.
const SLOW_TILES: usize = 2 * UNROLL;

/// Floats of a cache line.
const LINE_LEN: usize = 16;

/// Adds the products of equally long rows with a panel's weights, and brings others near meanwhile: weights are too many
/// for the caches, and each panel's come in at a stroke otherwise.
#[inline(always)]
fn multiply<S: Simd, const R: usize, const N: usize>(
    simd: S,
    rows: [&[f32]; R],
    (weights, next, pace): (&[f32], &mut &[f32], u32),
    sums: &mut [[S::Vector; N]; R],
) {
    let depth = rows[0].len();
    let ahead = *next;
    *next = &ahead[(((depth / UNROLL) >> pace) * LINE_LEN).min(ahead.len())..];
    let mut turns: [&[[f32; UNROLL]]; R] = [&[]; R];
    for i in 0..R {
        turns[i] = &rows[i].as_chunks().0[..depth / UNROLL];
    }
    let width = N * S::LANES;
    for (turn, weights) in (0..depth / UNROLL).zip(weights.chunks_exact(UNROLL * width)) {
        if !ahead.is_empty() {
            simd.prefetch(ahead, (turn >> pace) * LINE_LEN);
        }
        let mut quads = [simd.quad(&turns[0][turn]); R];
        for i in 1..R {
            quads[i] = simd.quad(&turns[i][turn]);
        }
        multiply_lane::<S, R, N, 0>(simd, quads, weights, sums);
        multiply_lane::<S, R, N, 1>(simd, quads, &weights[width..], sums);
        multiply_lane::<S, R, N, 2>(simd, quads, &weights[2 * width..], sums);
        multiply_lane::<S, R, N, 3>(simd, quads, &weights[3 * width..], sums);
    }
    let whole = depth / UNROLL * UNROLL;
    for (k, weights) in (whole..depth).zip(weights[whole * width..].chunks_exact(width)) {
        for i in 0..R {
            let element = simd.splat(rows[i][k]);
            for j in 0..N {
                sums[i][j] = simd.mul_add(element, simd.load(&weights[j * S::LANES..]), sums[i][j]);
            }
        }
    }
}

/// Adds the products of one of each row's four elements.
#[inline(always)]
fn multiply_lane<S: Simd, const R: usize, const N: usize, const LANE: i32>(
    simd: S,
    quads: [S::Quad<'_>; R],
    weights: &[f32],
    sums: &mut [[S::Vector; N]; R],
) {
    let mut columns = [simd.splat(0.0); N];
    for j in 0..N {
        columns[j] = simd.load(&weights[j * S::LANES..]);
    }
    for i in 0..R {
        for j in 0..N {
            sums[i][j] = simd.mul_add_lane::<LANE>(quads[i], columns[j], sums[i][j]);
        }
    }
}

/// Floats of the largest tile.
const TILE_MAX_LEN: usize = 8 * MAX_PANEL_VECTORS * MAX_LANES;

/// The sums to start with.
#[inline(always)]
fn start<S: Simd, const R: usize, const N: usize>(
    simd: S,
    block: &Block<'_>,
    row: usize,
) -> [[S::Vector; N]; R] {
    let mut sums = [[simd.splat(0.0); N]; R];
    if let Some(bias) = block.bias {
        for j in 0..N {
            let bias = simd.load(&bias[j * S::LANES..]);
            for i in 0..R {
                sums[i][j] = bias;
            }
        }
    } else {
        add(simd, block, row, block.output, &mut sums);
    }
    sums
}

/// Adds elements laid out like the output.
#[inline(always)]
fn add<S: Simd, const R: usize, const N: usize>(
    simd: S,
    block: &Block<'_>,
    row: usize,
    from: &[f32],
    sums: &mut [[S::Vector; N]; R],
) {
    let from = &from[row * block.row_step + block.column..];
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
fn end<S: Simd, const R: usize, const N: usize>(
    simd: S,
    block: &mut Block<'_>,
    row: usize,
    mut sums: [[S::Vector; N]; R],
) {
    if let Some(limits) = block.finish {
        if let Some(residual) = block.residual {
            add(simd, block, row, residual, &mut sums);
        }
        clip(simd, limits, &mut sums);
    }
    let to = &mut block.output[row * block.row_step + block.column..];
    if block.columns == N * S::LANES {
        store_rows::<S, R, N>(simd, &sums, to, block.row_step);
    } else {
        let mut copy = [0.0; TILE_MAX_LEN];
        store_rows::<S, R, N>(simd, &sums, &mut copy, N * S::LANES);
        copy_rows(&copy, N * S::LANES, (to, block.row_step), (R, block.columns));
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
    let count = rows.div_ceil(S::TILE_ROWS[N - 1]).max(1);
    let pace = u32::from(count >= SLOW_TILES);
    let (least, more) = (rows / count, rows % count);
    same_tiles::<S, N>(simd, block, (least + 1, 0, more), pace);
    same_tiles::<S, N>(simd, block, (least, (least + 1) * more, count - more), pace);
}

/// Computes `count` tiles of `rows` rows from a row on.
#[allow(
    clippy::collapsible_match,
    reason = "a guard would still compile tiles that the registers do not hold"
)]
fn same_tiles<S: Simd, const N: usize>(
    simd: S,
    block: &mut Block<'_>,
    (rows, first_row, count): (usize, usize, usize),
    pace: u32,
) {
    if count == 0 {
        return;
    }
    macro_rules! tile {
        ($($rows:literal)*) => {
            match rows {
                $($rows => if const { $rows <= S::TILE_ROWS[N - 1] } {
                    simd.call(Tiles::<$rows, N> { block, first_row, count, pace });
                })*
                _ => {}
            }
        };
    }
    tile!(1 2 3 4 5 6 7 8);
}

//! Sums, means and extremes along axes, f32.

use super::multiversion;

/// What becomes of the elements along the axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// The greatest.
    Max,
    /// The least.
    Min,
    /// The sum of their squares.
    SumSquare,
    /// The sum of their magnitudes.
    L1,
    /// The root of the sum of their squares.
    L2,
    /// Their product.
    Prod,
}

impl Reduction {
    const fn start(self) -> f32 {
        match self {
            Self::Max => f32::NEG_INFINITY,
            Self::Min => f32::INFINITY,
            Self::Prod => 1.0,
            Self::Sum | Self::Mean | Self::SumSquare | Self::L1 | Self::L2 => 0.0,
        }
    }

    fn finish(self, value: f32, count: usize) -> f32 {
        match self {
            Self::Mean => value / count as f32,
            Self::L2 => value.sqrt(),
            _ => value,
        }
    }
}

/// Independent results, so that the loops over a row have no long chain and can be vectorised.
const LANES: usize = 32;

#[inline(always)]
fn fold_row(row: &[f32], start: f32, step: impl Fn(f32, f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (blocks, rest) = row.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = step(lanes[lane], block[lane]);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, *value);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = join(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// The sum of a row, in 32 parts.
#[inline(always)]
pub(crate) fn row_sum(row: &[f32]) -> f32 {
    fold_row(
        row,
        0.0,
        #[inline(always)]
        |a, b| a + b,
        #[inline(always)]
        |a, b| a + b,
    )
}

/// The greatest of a row.
#[inline(always)]
pub(crate) fn row_max(row: &[f32]) -> f32 {
    fold_row(row, f32::NEG_INFINITY, greater, greater)
}

#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

#[inline(always)]
fn lesser(a: f32, b: f32) -> f32 {
    if b < a { b } else { a }
}

#[inline(always)]
fn sum(a: f32, b: f32) -> f32 {
    a + b
}

macro_rules! with_step {
    ($reduction:expr, $f:ident($($arg:expr),*)) => {
        match $reduction {
            Reduction::Sum | Reduction::Mean => $f($($arg,)* sum, sum),
            Reduction::Max => $f($($arg,)* greater, greater),
            Reduction::Min => $f($($arg,)* lesser, lesser),
            Reduction::SumSquare | Reduction::L2 => $f($($arg,)* #[inline(always)] |a, b| a + b * b, sum),
            Reduction::L1 => $f($($arg,)* #[inline(always)] |a: f32, b: f32| a + b.abs(), sum),
            Reduction::Prod => $f($($arg,)* #[inline(always)] |a, b| a * b, #[inline(always)] |a, b| a * b),
        }
    };
}

#[inline(always)]
fn fold_columns(
    input: &[f32],
    output: &mut [f32],
    step: impl Fn(f32, f32) -> f32,
    _join: impl Fn(f32, f32) -> f32,
) {
    for row in input.chunks_exact(output.len()) {
        for (out, value) in output.iter_mut().zip(row) {
            *out = step(*out, *value);
        }
    }
}

multiversion! {
    /// Reduces the last axis, of `length` elements: one result per row.
    ///
    /// # Panics
    /// The input does not hold a row for each element of the output.
    pub fn reduce_rows(reduction: Reduction, length: usize, input: &[f32], output: &mut [f32]) {
        assert_eq!(input.len(), length * output.len(), "a row per result");
        for (index, out) in output.iter_mut().enumerate() {
            let row = &input[index * length..][..length];
            let value = with_step!(reduction, fold_row(row, reduction.start()));
            *out = reduction.finish(value, length);
        }
    }

    /// Reduces the middle axis of a tensor of `outer x length x inner` elements, where `inner` is given and
    /// the output holds `outer x inner`.
    ///
    /// # Panics
    /// The slices do not hold whole blocks.
    pub fn reduce_columns(reduction: Reduction, length: usize, inner: usize, input: &[f32], output: &mut [f32]) {
        assert_eq!(input.len(), length * output.len(), "as many elements as the axes say");
        output.fill(reduction.start());
        if length > 0 && inner > 0 {
            for (input, output) in input.chunks_exact(length * inner).zip(output.chunks_exact_mut(inner)) {
                with_step!(reduction, fold_columns(input, output));
            }
        }
        for out in output {
            *out = reduction.finish(*out, length);
        }
    }
}

/// The place of the greatest element of a row, or of the last of several.
#[must_use]
pub fn arg_max(row: &[f32], last: bool) -> usize {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] || (last && *value == row[best]) {
            best = index;
        }
    }
    best
}

//! Products of two matrices that are known only at run time, as in attention.

use super::{
    activation::Activation,
    dense::{Data, Dense},
    panels::Panels,
    scratch::Scratch,
};
use crate::{geometry::Conv2d, isa::Isa};
use std::ops::Range;

/// What a product computes: `C = A x B (+ bias)`, for each matrix of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatMulSpec {
    /// Matrices.
    pub batch: usize,
    /// Rows of A and C.
    pub m: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Elements from a row of A to the next, and from a column to the next: `[k, 1]` for a plain one, `[1, m]` for a transposed
    /// one.
    pub a_steps: [usize; 2],
    /// Elements from a row of B to the next, and from a column to the next: `[n, 1]` for a plain one, `[1, k]` for a transposed
    /// one.
    pub b_steps: [usize; 2],
    /// Elements from a matrix A to the next; 0 if all are the same.
    pub a_batch_step: usize,
    /// Elements from a matrix B to the next; 0 if all are the same.
    pub b_batch_step: usize,
    /// What is applied in the end.
    pub activation: Activation,
}

impl MatMulSpec {
    /// A batch of plain products, A and B both of their own in each.
    #[must_use]
    pub const fn plain(batch: usize, m: usize, k: usize, n: usize) -> Self {
        Self {
            batch,
            m,
            k,
            n,
            a_steps: [k, 1],
            b_steps: [n, 1],
            a_batch_step: m * k,
            b_batch_step: k * n,
            activation: Activation::None,
        }
    }

    /// The same with A lying transposed, `k` rows of `m`.
    #[must_use]
    pub const fn transpose_a(self) -> Self {
        Self { a_steps: [1, self.m], ..self }
    }

    /// The same with B lying transposed, `n` rows of `k`.
    #[must_use]
    pub const fn transpose_b(self) -> Self {
        Self { b_steps: [1, self.k], ..self }
    }

    /// Elements of A that are read.
    #[must_use]
    pub const fn a_len(&self) -> usize {
        extent(&[(self.batch, self.a_batch_step), (self.m, self.a_steps[0]), (self.k, self.a_steps[1])])
    }

    /// Elements of B that are read.
    #[must_use]
    pub const fn b_len(&self) -> usize {
        extent(&[(self.batch, self.b_batch_step), (self.k, self.b_steps[0]), (self.n, self.b_steps[1])])
    }
}

const fn extent(axes: &[(usize, usize)]) -> usize {
    let (mut last, mut axis) = (0, 0);
    while axis < axes.len() {
        let (count, step) = axes[axis];
        if count == 0 {
            return 0;
        }
        last += (count - 1) * step;
        axis += 1;
    }
    last + 1
}

/// A product of two matrices that are known only at run time.
///
/// Its units are rows of C. Each thread packs B into its own scratch memory, once for each matrix of the batch that its rows
/// belong to: threads need not wait for each other, and packing is little beside the product unless the rows are few.
#[derive(Debug)]
pub struct MatMul {
    spec: MatMulSpec,
    dense: Dense,
}

impl MatMul {
    /// Plans a product.
    ///
    /// # Panics
    /// This machine lacks the instruction set, or a size is zero.
    #[must_use]
    pub fn new(isa: Isa, spec: &MatMulSpec) -> Self {
        let sizes = [spec.batch, spec.m, spec.k, spec.n];
        assert!(sizes.iter().all(|size| *size > 0), "no product has these sizes: {spec:?}");
        let dense = Dense::with_row_step(isa, &Conv2d::matmul(spec.m, spec.k, spec.n), spec.row_step());
        Self { spec: *spec, dense }
    }

    /// What it computes.
    #[must_use]
    pub const fn spec(&self) -> &MatMulSpec {
        &self.spec
    }

    /// Pieces of work: rows of all matrices.
    #[must_use]
    pub const fn units(&self) -> usize {
        self.spec.batch * self.spec.m
    }

    /// The output elements that some units fill.
    #[must_use]
    pub const fn output_range(&self, units: Range<usize>) -> Range<usize> {
        units.start * self.spec.n..units.end * self.spec.n
    }

    /// Bytes of scratch memory that each thread needs: for B, for A if its rows do not lie in one piece, and for the bias.
    #[must_use]
    pub fn scratch_bytes(&self) -> usize {
        let panels = &self.dense.panels;
        let a = if self.spec.is_a_direct() { 0 } else { self.spec.m * self.spec.k };
        Scratch::bytes_of(panels.width * panels.depth)
            + Scratch::bytes_of(panels.width)
            + Scratch::bytes_of(a)
            + self.dense.scratch_bytes()
    }

    /// Computes some units: `a`, `b` and `bias` (of `n` elements) are whole, `output` is the units' part of the output.
    ///
    /// # Panics
    /// A slice is shorter than the specification says, or `output` is not as long as [`Self::output_range`] says.
    pub fn run(
        &self,
        units: Range<usize>,
        (a, b): (&[f32], &[f32]),
        bias: Option<&[f32]>,
        output: &mut [f32],
        scratch: &mut [u8],
    ) {
        let spec = &self.spec;
        assert!(units.end <= self.units(), "units beyond the product's");
        assert!(a.len() >= spec.a_len() && b.len() >= spec.b_len(), "a matrix is shorter than it should be");
        assert_eq!(output.len(), self.output_range(units.clone()).len(), "output elements of the units");
        let (mut unit, mut output) = (units.start, output);
        while unit < units.end {
            let matrix = unit / spec.m;
            let end = ((matrix + 1) * spec.m).min(units.end);
            let (here, rest) = output.split_at_mut((end - unit) * spec.n);
            let rows = unit - matrix * spec.m..end - matrix * spec.m;
            let pair = (&a[matrix * spec.a_batch_step..], &b[matrix * spec.b_batch_step..]);
            self.run_one(rows, pair, bias, (here, &mut *scratch));
            (unit, output) = (end, rest);
        }
    }

    fn run_one(
        &self,
        rows: Range<usize>,
        (a, b): (&[f32], &[f32]),
        bias: Option<&[f32]>,
        (output, scratch): (&mut [f32], &mut [u8]),
    ) {
        let (spec, panels) = (&self.spec, &self.dense.panels);
        let mut scratch = Scratch::new(scratch);
        let weights: &mut [f32] = scratch.take(panels.width * panels.depth);
        pack(panels, spec.b_steps, b, weights);
        let packed_bias: &mut [f32] = scratch.take(panels.width);
        packed_bias.fill(0.0);
        if let Some(bias) = bias {
            // One group's panels lie next to each other: only the last has padding.
            packed_bias[..spec.n].copy_from_slice(&bias[..spec.n]);
        }
        let (input, rows) = if spec.is_a_direct() {
            (a, rows)
        } else {
            let copy: &mut [f32] = scratch.take(spec.m * spec.k);
            gather(spec, a, rows.clone(), copy);
            (&*copy, 0..rows.len())
        };
        let data =
            Data { weights, bias: packed_bias, input, residual: None, activation: spec.activation, output };
        self.dense.run(rows, data, scratch.rest());
    }
}

impl MatMulSpec {
    /// Whether the elements of A's rows lie next to each other.
    const fn is_a_direct(&self) -> bool {
        self.a_steps[1] == 1
    }

    const fn row_step(&self) -> usize {
        if self.is_a_direct() { self.a_steps[0] } else { self.k }
    }
}

/// Copies some rows of A so that the elements of each lie next to each other.
fn gather(spec: &MatMulSpec, a: &[f32], rows: Range<usize>, to: &mut [f32]) {
    let [row_step, column_step] = spec.a_steps;
    for (row, to) in rows.zip(to.chunks_exact_mut(spec.k)) {
        for (element, to) in a[row * row_step..].iter().step_by(column_step.max(1)).zip(to) {
            *to = *element;
        }
    }
}

/// Packs B into panels.
fn pack(panels: &Panels, [row_step, column_step]: [usize; 2], b: &[f32], to: &mut [f32]) {
    for panel in &panels.list {
        let width = panel.vectors * panels.lanes;
        let to = &mut to[panel.bias_at * panels.depth..][..width * panels.depth];
        for (row, to) in to.chunks_exact_mut(width).enumerate() {
            let from = &b[row * row_step + panel.column * column_step..];
            let (to, padding) = to.split_at_mut(panel.columns);
            padding.fill(0.0);
            if column_step == 1 {
                to.copy_from_slice(&from[..panel.columns]);
            } else {
                for (element, to) in from.iter().step_by(column_step.max(1)).zip(to) {
                    *to = *element;
                }
            }
        }
    }
}

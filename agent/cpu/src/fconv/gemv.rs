//! A single output pixel: a vector by a matrix, as fast as the weights come from memory.

use super::{
    activation::{Pass, clip},
    dense::Data,
    panels::{Panel, Panels},
    rows::{Source, Taps},
    scratch::Scratch,
};
use crate::{
    geometry::Conv2d,
    isa::Isa,
    simd::{Kernel, Simd, dispatch},
};
use std::ops::Range;

/// How a layer is computed.
#[derive(Debug)]
pub(super) struct Gemv {
    isa: Isa,
    pub(super) panels: Panels,
    taps: Taps,
    pointwise: bool,
    groups: usize,
}

impl Gemv {
    pub(super) fn new(isa: Isa, geometry: &Conv2d) -> Self {
        let taps = Taps::new(geometry, geometry.in_c);
        let depth = taps.count * taps.depth;
        let panels = Panels::new(isa, geometry.groups, geometry.out_c / geometry.groups, depth);
        Self { isa, panels, taps, pointwise: geometry.is_pointwise(), groups: geometry.groups }
    }

    pub(super) fn scratch_bytes(&self) -> usize {
        if self.pointwise {
            return 0;
        }
        Scratch::bytes_of(self.taps.count)
            + Scratch::bytes_of(self.taps.patch_len(1))
            + Scratch::bytes_of(self.panels.depth * self.groups)
    }

    /// Output elements of some panels.
    pub(super) fn output_range(&self, panels: Range<usize>) -> Range<usize> {
        let end = self.panels.list.last().map_or(0, |panel| panel.column + panel.columns);
        let start = |index: usize| self.panels.list.get(index).map_or(end, |panel| panel.column);
        start(panels.start)..start(panels.end)
    }

    pub(super) fn run(&self, panels: Range<usize>, data: Data<'_>, scratch: &mut [u8]) {
        let mut data = data;
        if !self.pointwise {
            data.input = self.gather(data.input, scratch);
        }
        dispatch(self.isa, Run { layer: self, panels, data });
    }

    /// The input elements in the order of the weights, group by group.
    fn gather<'a>(&self, input: &[f32], scratch: &'a mut [u8]) -> &'a [f32] {
        let mut scratch = Scratch::new(scratch);
        let offsets: &mut [u32] = scratch.take(self.taps.count);
        let patches: &mut [f32] = scratch.take(self.taps.patch_len(1));
        let gathered: &mut [f32] = scratch.take(self.panels.depth * self.groups);
        self.taps.fill(input, 0..1, offsets, patches);
        let source = Source { input, patches };
        let depth = self.taps.depth;
        for (index, to) in gathered.chunks_exact_mut(depth.max(1)).enumerate() {
            let (group, tap) = (index / self.taps.count, index % self.taps.count);
            to.copy_from_slice(source.skip(group * depth).row(offsets[tap], depth));
        }
        gathered
    }
}

struct Run<'a> {
    layer: &'a Gemv,
    panels: Range<usize>,
    data: Data<'a>,
}

impl Kernel for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { layer, panels, data } = self;
        let Some(first) = layer.panels.list.get(panels.start).map(|panel| panel.column) else { return };
        for panel in &layer.panels.list[panels] {
            let elements = panel.column - first..panel.column - first + panel.columns;
            let input = &data.input[panel.group * layer.panels.depth..][..layer.panels.depth];
            let one = One {
                input,
                weights: layer.panels.weights(panel, data.weights),
                bias: layer.panels.bias(panel, data.bias),
                residual: data.residual.map(|residual| &residual[elements.clone()]),
                limits: data.activation.limits(),
                output: &mut data.output[elements],
            };
            one_panel(simd, panel, one);
        }
        if data.activation.needs_pass() {
            simd.call(Pass { activation: data.activation, elements: data.output });
        }
    }
}

/// One panel's data.
struct One<'a> {
    input: &'a [f32],
    weights: &'a [f32],
    bias: &'a [f32],
    residual: Option<&'a [f32]>,
    limits: (f32, f32),
    output: &'a mut [f32],
}

fn one_panel<S: Simd>(simd: S, panel: &Panel, one: One<'_>) {
    match panel.vectors {
        1 => simd.call(Columns::<1>(one)),
        2 => simd.call(Columns::<2>(one)),
        _ => simd.call(Columns::<3>(one)),
    }
}

/// Products in a row that have sums of their own, so that they need not wait for each other.
const UNROLL: usize = 4;

/// Floats of a cache line.
const LINE_LEN: usize = 16;

/// Floats by which weights are asked for ahead: more than a page, at whose end the processor's own foresight stops.
const AHEAD_LEN: usize = 1024;

struct Columns<'a, const N: usize>(One<'a>);

impl<const N: usize> Kernel for Columns<'_, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let one = self.0;
        let width = N * S::LANES;
        let mut sums = [[simd.splat(0.0); N]; UNROLL];
        for j in 0..N {
            sums[0][j] = simd.load(&one.bias[j * S::LANES..]);
        }
        let whole = one.input.len() / UNROLL * UNROLL;
        let (input, input_rest) = one.input.split_at(whole);
        let (weights, weights_rest) = one.weights.split_at(whole * width);
        for (input, weights) in input.chunks_exact(UNROLL).zip(weights.chunks_exact(UNROLL * width)) {
            for line in 0..UNROLL * width / LINE_LEN {
                simd.prefetch(weights, AHEAD_LEN + line * LINE_LEN);
            }
            for i in 0..UNROLL {
                let element = simd.splat(input[i]);
                for j in 0..N {
                    let weights = simd.load(&weights[i * width + j * S::LANES..]);
                    sums[i][j] = simd.mul_add(element, weights, sums[i][j]);
                }
            }
        }
        for (input, weights) in input_rest.iter().zip(weights_rest.chunks_exact(width)) {
            let element = simd.splat(*input);
            for j in 0..N {
                sums[1][j] = simd.mul_add(element, simd.load(&weights[j * S::LANES..]), sums[1][j]);
            }
        }
        let mut total = [[simd.splat(0.0); N]];
        for j in 0..N {
            total[0][j] = simd.add(simd.add(sums[0][j], sums[1][j]), simd.add(sums[2][j], sums[3][j]));
            if let Some(residual) = one.residual {
                let residual = &residual[(j * S::LANES).min(residual.len())..];
                let residual = simd.load_some(residual, residual.len().min(S::LANES));
                total[0][j] = simd.add(total[0][j], residual);
            }
        }
        clip(simd, one.limits, &mut total);
        for j in 0..N {
            let start = (j * S::LANES).min(one.output.len());
            let output = &mut one.output[start..];
            let len = output.len().min(S::LANES);
            simd.store_some(total[0][j], output, len);
        }
    }
}

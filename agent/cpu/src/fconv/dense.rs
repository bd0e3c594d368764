//! Convolutions over whole groups of channels, as matrix products through a table of offsets.

use super::{
    activation::{Activation, Pass},
    panels::{Panel, Panels},
    rows::{Source, Taps},
    scratch::Scratch,
    tile::{self, Block, Rows},
};
use crate::{
    geometry::Conv2d,
    isa::Isa,
    simd::{Kernel, Simd, dispatch},
};
use std::ops::Range;

/// Bytes of a panel's weights that one block of products reads, to stay in the first cache.
const PANEL_BLOCK_BYTES: usize = 24 << 10;

/// Bytes of input that one block of rows reads with each part of the products, to stay in the second cache.
const ROW_BLOCK_BYTES: usize = 128 << 10;

/// Rows of a block, at least and at most.
const BLOCK_ROWS: [usize; 2] = [24, 240];

/// A part of the products that every output element sums.
#[derive(Debug, Clone, Copy)]
struct Slice {
    first_tap: usize,
    taps: usize,
    skip: usize,
    depth: usize,
}

/// How a layer is computed.
#[derive(Debug)]
pub(super) struct Dense {
    isa: Isa,
    pub(super) panels: Panels,
    taps: Taps,
    slices: Vec<Slice>,
    block_rows: usize,
    /// Whether the weights are too many for the first cache.
    prefetches: bool,
    group_channels: usize,
    out_c: usize,
    /// Whether products with padding may be left out: not where a weight is infinite or no number.
    pub(super) skip_padding: bool,
}

/// One call's data. The output starts at the first of the pixels.
pub(super) struct Data<'a> {
    pub(super) weights: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) input: &'a [f32],
    pub(super) residual: Option<&'a [f32]>,
    pub(super) activation: Activation,
    pub(super) output: &'a mut [f32],
}

impl Dense {
    pub(super) fn new(isa: Isa, geometry: &Conv2d) -> Self {
        Self::with_row_step(isa, geometry, geometry.in_c)
    }

    /// With pixels that lie so many elements apart.
    pub(super) fn with_row_step(isa: Isa, geometry: &Conv2d, step: usize) -> Self {
        let taps = Taps::new(geometry, step);
        let depth = taps.count * taps.depth;
        let panels = Panels::new(isa, geometry.groups, geometry.out_c / geometry.groups, depth);
        let widest = panels.list.iter().map(|panel| panel.vectors).max().unwrap_or(1) * panels.lanes;
        let slices = slices(&taps, (PANEL_BLOCK_BYTES / size_of::<f32>() / widest).max(1));
        let slice_depth = slices.first().map_or(1, |slice| slice.taps * slice.depth * geometry.groups);
        let row_bytes = slice_depth * size_of::<f32>();
        let block_rows = (ROW_BLOCK_BYTES / row_bytes.max(1)).clamp(BLOCK_ROWS[0], BLOCK_ROWS[1]);
        let prefetches = panels.width * panels.depth * size_of::<f32>() > PANEL_BLOCK_BYTES;
        Self {
            isa,
            panels,
            taps,
            slices,
            block_rows,
            prefetches,
            group_channels: geometry.in_c / geometry.groups,
            out_c: geometry.out_c,
            skip_padding: false,
        }
    }

    pub(super) fn scratch_bytes(&self) -> usize {
        let offsets = Scratch::bytes_of(self.block_rows * self.taps.count);
        offsets + Scratch::bytes_of(self.taps.patch_len(self.block_rows))
    }

    /// The parts of the products with each panel, in the order in which they are computed.
    fn places(&self) -> impl Iterator<Item = (usize, &Slice, &Panel)> {
        let slices = self.slices.iter().enumerate();
        slices.flat_map(|(index, slice)| self.panels.list.iter().map(move |panel| (index, slice, panel)))
    }

    /// A panel's weights of a part.
    fn weights<'a>(&self, slice: &Slice, panel: &Panel, weights: &'a [f32]) -> &'a [f32] {
        let width = panel.vectors * self.panels.lanes;
        let start = (slice.first_tap * self.taps.depth + slice.skip) * width;
        &self.panels.weights(panel, weights)[start..][..slice.taps * slice.depth * width]
    }

    pub(super) fn run(&self, pixels: Range<usize>, data: Data<'_>, scratch: &mut [u8]) {
        dispatch(self.isa, Run { layer: self, pixels, data, scratch });
    }
}

/// Cuts the products into parts of about `depth`, none across a tap and another's part.
fn slices(taps: &Taps, depth: usize) -> Vec<Slice> {
    let mut slices = Vec::new();
    if taps.depth > depth {
        let parts = taps.depth.div_ceil(depth);
        for tap in 0..taps.count {
            let mut skip = 0;
            for part in 0..parts {
                let here = (taps.depth - skip).div_ceil(parts - part);
                slices.push(Slice { first_tap: tap, taps: 1, skip, depth: here });
                skip += here;
            }
        }
    } else {
        let parts = taps.count.div_ceil((depth / taps.depth.max(1)).max(1));
        let mut tap = 0;
        for part in 0..parts {
            let here = (taps.count - tap).div_ceil(parts - part);
            slices.push(Slice { first_tap: tap, taps: here, skip: 0, depth: taps.depth });
            tap += here;
        }
    }
    slices
}

struct Run<'a> {
    layer: &'a Dense,
    pixels: Range<usize>,
    data: Data<'a>,
    scratch: &'a mut [u8],
}

impl Kernel for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { layer, pixels, data, scratch } = self;
        let mut scratch = Scratch::new(scratch);
        let offsets: &mut [u32] = scratch.take(layer.block_rows * layer.taps.count);
        let patches: &mut [f32] = scratch.take(layer.taps.patch_len(layer.block_rows));
        let blocks = pixels.len().div_ceil(layer.block_rows);
        let mut done = 0;
        for index in 0..blocks {
            let rows = (pixels.len() - done).div_ceil(blocks - index);
            let first = pixels.start + done;
            if layer.taps.steps.is_none() {
                layer.taps.fill(data.input, first..first + rows, offsets, patches);
            }
            let elements = done * layer.out_c..(done + rows) * layer.out_c;
            let output = &mut data.output[elements.clone()];
            let residual = data.residual.map(|residual| &residual[elements]);
            let fresh = Fresh { first, rows, residual, output };
            let read = Read { input: data.input, offsets, patches };
            rows_block(simd, layer, (data.weights, data.bias, data.activation), (read, fresh));
            done += rows;
        }
    }
}

/// What a block of rows reads.
struct Read<'a> {
    input: &'a [f32],
    offsets: &'a [u32],
    patches: &'a [f32],
}

/// What it writes.
struct Fresh<'a> {
    first: usize,
    rows: usize,
    residual: Option<&'a [f32]>,
    output: &'a mut [f32],
}

impl<'a> Read<'a> {
    /// The elements of a part of the products, `skip` elements into each pixel.
    fn rows(&self, layer: &Dense, slice: &Slice, (first, rows): (usize, usize), skip: usize) -> Rows<'a> {
        if let Some(step) = layer.taps.steps {
            return Rows::Steps { input: &self.input[first * step + skip..], step };
        }
        let offsets = &self.offsets[slice.first_tap * rows..][..slice.taps * rows];
        let source = Source { input: self.input, patches: self.patches }.skip(skip);
        Rows::Table { source, offsets, step: rows, taps: slice.taps }
    }
}

fn rows_block<S: Simd>(
    simd: S,
    layer: &Dense,
    (weights, bias, activation): (&[f32], &[f32], Activation),
    (read, fresh): (Read<'_>, Fresh<'_>),
) {
    let Fresh { first, rows, residual, output } = fresh;
    let last = layer.slices.len().saturating_sub(1);
    let mut places = layer.places().peekable();
    while let Some((index, slice, panel)) = places.next() {
        let next_weights = match places.peek() {
            Some((_, slice, panel)) if layer.prefetches => layer.weights(slice, panel, weights),
            _ => &[],
        };
        let skip = panel.group * layer.group_channels + slice.skip;
        let mut block = Block {
            rows: read.rows(layer, slice, (first, rows), skip),
            skip_padding: layer.skip_padding,
            depth: slice.depth,
            weights: layer.weights(slice, panel, weights),
            next_weights,
            bias: (index == 0).then(|| layer.panels.bias(panel, bias)),
            output: &mut *output,
            residual,
            row_step: layer.out_c,
            column: panel.column,
            columns: panel.columns,
            finish: (index == last).then(|| activation.limits()),
        };
        tile::run(simd, &mut block, rows, panel.vectors);
    }
    if activation.needs_pass() {
        simd.call(Pass { activation, elements: output });
    }
}

//! The run of layers that convolve each channel on its own.
//!
//! Sixteen channels at a time, input rows are interleaved into columns that hold the same place of several rows side by
//! side; a column serves every kernel column, and several output rows. Kernels of one row interleave neighbouring
//! places instead.

use super::{
    Places, Task,
    finish::{Block, Finish, Place},
    kernel::{self, Bytes, InterleaveKernel, LINE_CHANNELS, Line, LineKernel, Lines, Outlet},
    layout::Format,
    padded,
    shape::Shape,
    spec::{QConvSpec, QSlice},
    strands::Source,
};
use crate::{geometry::Conv2d, isa::Isa, packed::Packed};
use std::ops::Range;

/// A packed depthwise layer.
#[derive(Debug, Clone)]
pub(super) struct Depthwise {
    shape: Shape,
    kernels: (InterleaveKernel, LineKernel),
    /// The output rows of a band.
    rows: Vec<Line>,
    /// `[block of channels][variant][term][channel][tap of the term]`.
    weights: Packed,
}

fn padded_channels(geometry: &Conv2d) -> usize {
    geometry.out_c.next_multiple_of(LINE_CHANNELS)
}

impl Depthwise {
    pub(super) fn new(isa: Isa, spec: &QConvSpec<'_>) -> Self {
        let bytes = spec.weights.iter().all(|w| i8::try_from(*w).is_ok());
        let formats = [Format::Quads8, Format::Signed8, Format::Pairs16, Format::Words16];
        let mut formats = formats.into_iter().filter(|format| bytes || format.element_bytes() > 1);
        let format = formats.find(|format| kernel::line(isa, *format).is_some());
        let format = format.unwrap_or_else(|| unreachable!("every instruction set has kernels for words"));
        let depthwise = Self::from_parts(isa, &spec.geometry, format, pack(format, spec));
        depthwise.unwrap_or_else(|| unreachable!("freshly packed weights fit their layout"))
    }

    /// A layer of packed weights; `None` where they do not fit the geometry, or there are no kernels for the format.
    pub(super) fn from_parts(isa: Isa, geometry: &Conv2d, format: Format, weights: Packed) -> Option<Self> {
        let kernels = kernel::line(isa, format)?;
        let shape = Shape::new(format, geometry);
        let bytes = padded_channels(geometry) / LINE_CHANNELS * shape.term_count * format.column_bytes();
        let rows = (0..shape.band).map(|row| shape.line(geometry, row)).collect();
        (weights.as_bytes().len() == bytes).then_some(Self { shape, kernels, rows, weights })
    }

    pub(super) fn format(&self) -> Format {
        self.shape.format
    }

    pub(super) fn input_shift(&self) -> i32 {
        if self.format() == Format::Signed8 { 128 } else { 0 }
    }

    pub(super) fn parts(&self) -> [Packed; 3] {
        let nothing = Packed::of::<u32>(&[]);
        [self.weights.clone(), nothing.clone(), nothing]
    }

    pub(super) fn places(geometry: &Conv2d) -> Places {
        Places { columns: geometry.out_c, padded: padded_channels(geometry) }
    }

    /// Units of an image.
    fn per_image(&self, geometry: &Conv2d) -> usize {
        match self.shape.band {
            1 => geometry.out_h() * geometry.out_w().div_ceil(self.shape.segment),
            band => geometry.out_h().div_ceil(band),
        }
    }

    pub(super) fn units(&self, geometry: &Conv2d) -> usize {
        geometry.batch * self.per_image(geometry)
    }

    fn unit(&self, geometry: &Conv2d, unit: usize) -> Unit {
        let per_image = self.per_image(geometry).max(1);
        let (image, unit) = (unit / per_image, unit % per_image);
        if self.shape.band > 1 {
            let first = unit * self.shape.band;
            let rows = first..(first + self.shape.band).min(geometry.out_h());
            return Unit { image, rows, pixels: 0..geometry.out_w() };
        }
        let segments = geometry.out_w().div_ceil(self.shape.segment).max(1);
        let (row, first) = (unit / segments, unit % segments * self.shape.segment);
        let pixels = first..(first + self.shape.segment).min(geometry.out_w());
        Unit { image, rows: row..row + 1, pixels }
    }

    pub(super) fn output_before(&self, geometry: &Conv2d, unit: usize) -> usize {
        let unit = self.unit(geometry, unit);
        let row = unit.image * geometry.out_h() + unit.rows.start;
        (row * geometry.out_w() + unit.pixels.start) * geometry.out_c
    }

    fn column_bytes(&self) -> usize {
        self.shape.planes * self.shape.columns * self.shape.format.column_bytes()
    }

    pub(super) fn scratch_bytes(&self) -> usize {
        padded(self.column_bytes()) + padded(self.shape.segment * LINE_CHANNELS * size_of::<i32>())
    }

    pub(super) fn run(&self, isa: Isa, task: &Task<'_>, output: &mut QSlice<'_>, scratch: &mut [u8]) {
        let geometry = task.geometry;
        let units = task.units.clone().map(|unit| self.unit(geometry, unit));
        let kernels = self.kernels;
        let (columns, sums) = scratch.split_at_mut(padded(self.column_bytes()));
        let columns = &mut columns[..self.column_bytes()];
        let sums = &mut sums[..self.shape.segment * LINE_CHANNELS * size_of::<i32>()];
        let sums = bytemuck::cast_slice_mut(sums);
        let mut work = Work { isa, layer: self, kernels, task, columns, sums, padded: None };
        for unit in units {
            for first in unit.pixels.clone().step_by(self.shape.segment) {
                let pixels = first..(first + self.shape.segment).min(unit.pixels.end);
                for block in 0..geometry.out_c.div_ceil(LINE_CHANNELS) {
                    let pixels = pixels.clone();
                    work.part(&Unit { pixels, ..unit.clone() }, block, output);
                }
            }
        }
    }
}

/// A band of output rows, or a part of one.
#[derive(Debug, Clone)]
struct Unit {
    image: usize,
    rows: Range<usize>,
    pixels: Range<usize>,
}

fn pack(format: Format, spec: &QConvSpec<'_>) -> Packed {
    let geometry = &spec.geometry;
    let shape = Shape::new(format, geometry);
    let terms = shape.variants.iter().flat_map(|v| (0..v.terms.len()).map(move |term| (v, term)));
    let mut packed: Vec<u8> = Vec::new();
    for block in (0..geometry.out_c).step_by(LINE_CHANNELS) {
        for (variant, term) in terms.clone() {
            for i in 0..LINE_CHANNELS * format.elements() {
                let (channel, tap) = (block + i / format.elements(), i % format.elements());
                let place = shape.tap(geometry, variant, (term, tap));
                let weight = place.filter(|_| channel < geometry.out_c).map_or(0, |(ky, kx)| {
                    spec.weights[(channel * geometry.kernel_h + ky) * geometry.kernel_w + kx]
                });
                packed.extend(&weight.to_le_bytes()[..format.element_bytes()]);
            }
        }
    }
    Packed::of(&packed)
}

/// One run on one thread.
struct Work<'a> {
    isa: Isa,
    layer: &'a Depthwise,
    kernels: (InterleaveKernel, LineKernel),
    task: &'a Task<'a>,
    columns: &'a mut [u8],
    sums: &'a mut [i32],
    /// The columns of every plane around which there is padding already, and the count of all.
    padded: Option<(Range<usize>, usize)>,
}

impl Work<'_> {
    /// Sixteen channels of a segment of a band.
    fn part(&mut self, unit: &Unit, block: usize, output: &mut QSlice<'_>) {
        self.interleave(unit, block);
        let (geometry, shape) = (self.task.geometry, &self.layer.shape);
        let (channel, out_w) = (block * LINE_CHANNELS, geometry.out_w());
        let bytes = shape.format.column_bytes();
        let weights = block * shape.term_count * bytes..(block + 1) * shape.term_count * bytes;
        let lines = Lines {
            rows: &self.layer.rows[..unit.rows.len()],
            columns: self.columns,
            weights: &self.layer.weights.as_bytes()[weights],
            step: geometry.stride_w * bytes,
            pixels: unit.pixels.len(),
            row_pixels: out_w,
        };
        let columns = LINE_CHANNELS.min(geometry.out_c - channel);
        let parameters = self.task.columns.from(channel);
        let row = unit.image * geometry.out_h() + unit.rows.start;
        let start = (row * out_w + unit.pixels.start) * geometry.out_c + channel - self.task.start;
        if let (true, Finish::Quantised(quantise, add), QSlice::U8(output)) =
            (kernel::kernels_finish(self.isa), self.task.finish, &mut *output)
        {
            let bytes = Bytes {
                output: &mut output[start..],
                stride: geometry.out_c,
                columns,
                bias: parameters.bias,
                multiplier: parameters.multiplier,
                quantise: *quantise,
                add: add.map(|add| (add, &self.task.residual[start..])),
            };
            return (self.kernels.1)(&lines, Outlet::Bytes(bytes));
        }
        // Few sums stay in the first cache.
        for (row, line) in lines.rows.iter().enumerate() {
            let lines = Lines { rows: std::slice::from_ref(line), ..lines };
            (self.kernels.1)(&lines, Outlet::Sums(self.sums));
            let block = Block { sums: self.sums, stride: LINE_CHANNELS, columns, rows: lines.pixels };
            let start = start + row * out_w * geometry.out_c;
            let place = Place { output, start, stride: geometry.out_c, residual: self.task.residual };
            kernel::finish(self.isa)(&block, &parameters, self.task.finish, place);
        }
    }

    /// Fills the planes that these output rows read.
    fn interleave(&mut self, unit: &Unit, block: usize) {
        let (geometry, shape) = (self.task.geometry, &self.layer.shape);
        let zeros = [self.task.input_zero; LINE_CHANNELS];
        let source = Source {
            geometry,
            shape,
            input: self.task.input,
            zeros: &zeros,
            image: unit.image,
            y: (unit.rows.start * geometry.stride_h) as isize - geometry.pad[0] as isize,
            channel: block * LINE_CHANNELS,
        };
        let first = (unit.pixels.start * geometry.stride_w) as isize - geometry.pad[1] as isize;
        let count = shape.columns - (shape.segment - unit.pixels.len()) * geometry.stride_w;
        let inner = source.inner(first, count);
        let kept = shape.vertical.then_some((inner.clone(), count));
        let pads = kept.is_none() || self.padded != kept;
        let bytes = shape.format.column_bytes();
        for (plane, columns) in self.columns.chunks_exact_mut(shape.columns * bytes).enumerate() {
            if pads {
                source.pad((plane, first), &inner, &mut columns[..count * bytes], self.kernels.0);
            }
            if !inner.is_empty() {
                let columns = &mut columns[inner.start * bytes..inner.end * bytes];
                (self.kernels.0)(&source.strands(plane, first + inner.start as isize), columns);
            }
        }
        self.padded = kept;
    }
}

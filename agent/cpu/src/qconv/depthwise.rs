//! The run of layers that convolve each channel on its own.
//!
//! Sixteen channels at a time, input rows are interleaved into columns that hold the same place of several rows side by
//! side; a column serves every kernel column, and several output rows. Kernels of one row interleave neighbouring
//! places instead.

use super::{
    Places, Task,
    finish::{Block, Finish, Place},
    kernel::{self, Bytes, COLUMN_BYTES, InterleaveKernel, LINE_CHANNELS, Line, LineKernel, Outlet},
    layout::Format,
    padded, plain,
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
    /// None where [`plain`] runs it.
    kernels: Option<(InterleaveKernel, LineKernel)>,
    /// `[block of channels][variant][term][channel][tap of the term]`, or as [`plain`] has them.
    weights: Packed,
}

fn padded_channels(geometry: &Conv2d) -> usize {
    geometry.out_c.next_multiple_of(LINE_CHANNELS)
}

impl Depthwise {
    pub(super) fn new(isa: Isa, spec: &QConvSpec<'_>) -> Self {
        let bytes = spec.weights.iter().all(|w| i8::try_from(*w).is_ok());
        let formats = [Format::Quads8, Format::Signed8, Format::Pairs16];
        let mut formats = formats.into_iter().filter(|format| bytes || *format == Format::Pairs16);
        let format = formats.find(|format| kernel::line(isa, *format).is_some());
        let weights = format.map_or_else(|| plain::pack(spec), |format| pack(format, spec));
        let depthwise = Self::from_parts(isa, &spec.geometry, format, weights);
        depthwise.unwrap_or_else(|| unreachable!("freshly packed weights fit their layout"))
    }

    /// A layer of packed weights, in a format that there are kernels for, or as [`plain`] has them.
    pub(super) fn from_parts(
        isa: Isa,
        geometry: &Conv2d,
        format: Option<Format>,
        weights: Packed,
    ) -> Option<Self> {
        let kernels = match format {
            Some(format) => Some(kernel::line(isa, format)?),
            None => None,
        };
        let shape = Shape::new(format.unwrap_or(Format::Pairs16), geometry);
        let bytes = match format {
            None => plain::weight_bytes(geometry),
            Some(_) => padded_channels(geometry) / LINE_CHANNELS * shape.term_count() * COLUMN_BYTES,
        };
        (weights.as_bytes().len() == bytes).then_some(Self { shape, kernels, weights })
    }

    /// The format, if it is not [`plain`]'s.
    pub(super) fn format(&self) -> Option<Format> {
        self.kernels.map(|_| self.shape.format)
    }

    pub(super) fn input_shift(&self) -> i32 {
        if self.format() == Some(Format::Signed8) { 128 } else { 0 }
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
        self.shape.planes * self.shape.columns * COLUMN_BYTES
    }

    pub(super) fn scratch_bytes(&self) -> usize {
        self.column_bytes() + padded(self.shape.segment * LINE_CHANNELS * size_of::<i32>())
    }

    pub(super) fn run(&self, isa: Isa, task: &Task<'_>, output: &mut QSlice<'_>, scratch: &mut [u8]) {
        let geometry = task.geometry;
        let units = task.units.clone().map(|unit| self.unit(geometry, unit));
        let Some(kernels) = self.kernels else {
            for unit in units {
                for row in unit.rows {
                    let place = (unit.image * geometry.out_h() + row, unit.pixels.clone());
                    plain::run(isa, task, self.weights.elements(), place, output);
                }
            }
            return;
        };
        let (columns, sums) = scratch.split_at_mut(self.column_bytes());
        let sums = &mut sums[..self.shape.segment * LINE_CHANNELS * size_of::<i32>()];
        let sums = bytemuck::cast_slice_mut(sums);
        let mut work = Work { isa, shape: &self.shape, layer: self, kernels, task, columns, sums };
        for unit in units {
            for block in 0..geometry.out_c.div_ceil(LINE_CHANNELS) {
                for first in unit.pixels.clone().step_by(self.shape.segment) {
                    let pixels = first..(first + self.shape.segment).min(unit.pixels.end);
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
    let mut packed = Vec::new();
    for block in (0..geometry.out_c).step_by(LINE_CHANNELS) {
        for (variant, term) in terms.clone() {
            for i in 0..LINE_CHANNELS * format.elements() {
                let (channel, tap) = (block + i / format.elements(), i % format.elements());
                let place = shape.tap(geometry, variant, (term, tap));
                let weight = place.filter(|_| channel < geometry.out_c).map_or(0, |(ky, kx)| {
                    spec.weights[(channel * geometry.kernel_h + ky) * geometry.kernel_w + kx]
                });
                match format {
                    Format::Pairs16 => packed.extend(weight.to_le_bytes()),
                    Format::Quads8 | Format::Signed8 | Format::Shuffled8 => {
                        packed.push(weight as i8 as u8);
                    }
                }
            }
        }
    }
    Packed::of(&packed)
}

/// One run on one thread.
struct Work<'a> {
    isa: Isa,
    shape: &'a Shape,
    layer: &'a Depthwise,
    kernels: (InterleaveKernel, LineKernel),
    task: &'a Task<'a>,
    columns: &'a mut [u8],
    sums: &'a mut [i32],
}

impl Work<'_> {
    /// Sixteen channels of a segment of a band.
    fn part(&mut self, unit: &Unit, block: usize, output: &mut QSlice<'_>) {
        self.interleave(unit, block);
        for row in 0..unit.rows.len() {
            self.line(unit, row, block, output);
        }
    }

    /// Fills the planes that these output rows read.
    fn interleave(&mut self, unit: &Unit, block: usize) {
        let (geometry, shape) = (self.task.geometry, self.shape);
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
        for (plane, columns) in self.columns.chunks_exact_mut(shape.columns * COLUMN_BYTES).enumerate() {
            source.fill(plane, first, &mut columns[..count * COLUMN_BYTES], self.kernels.0);
        }
    }

    fn line(&mut self, unit: &Unit, row: usize, block: usize, output: &mut QSlice<'_>) {
        let (geometry, shape) = (self.task.geometry, self.shape);
        let channel = block * LINE_CHANNELS;
        let (plane, variant) = shape.place(geometry, row);
        let weights = (block * shape.term_count() + variant.first_term) * COLUMN_BYTES;
        let line = Line {
            columns: &self.columns[plane * shape.columns * COLUMN_BYTES..],
            terms: &variant.terms,
            step: geometry.stride_w * COLUMN_BYTES,
            pixels: unit.pixels.len(),
            weights: &self.layer.weights.as_bytes()[weights..],
        };
        let columns = LINE_CHANNELS.min(geometry.out_c - channel);
        let parameters = self.task.columns.from(channel);
        let row = unit.image * geometry.out_h() + unit.rows.start + row;
        let start = (row * geometry.out_w() + unit.pixels.start) * geometry.out_c + channel - self.task.start;
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
            return (self.kernels.1)(&line, Outlet::Bytes(bytes));
        }
        (self.kernels.1)(&line, Outlet::Sums(self.sums));
        let block = Block { sums: self.sums, stride: LINE_CHANNELS, columns, rows: unit.pixels.len() };
        let place = Place { output, start, stride: geometry.out_c, residual: self.task.residual };
        kernel::finish(self.isa)(&block, &parameters, self.task.finish, place);
    }
}

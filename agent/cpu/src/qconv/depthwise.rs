//! The run of layers that convolve each channel on its own.
//!
//! Sixteen channels at a time, input rows are interleaved into columns that hold the same place of several kernel rows
//! side by side; a column serves every kernel column. Kernels of one row interleave neighbouring places instead.

use super::{
    Places, Task,
    finish::{Block, Finish, Place},
    kernel::{self, Bytes, COLUMN_BYTES, InterleaveKernel, LINE_CHANNELS, Line, LineKernel, Outlet, Strand},
    layout::Format,
    padded, plain,
    spec::{QConvSpec, QSlice},
};
use crate::{geometry::Conv2d, isa::Isa, packed::Packed};
use std::ops::Range;

/// Most bytes of the columns of a segment, so that they stay in the first cache.
const SEGMENT_BYTES: usize = 16 << 10;

/// Least units to be had where segments of this many pixels allow it.
const LEAST_UNITS: usize = 8;
const LEAST_SEGMENT: usize = 8;

/// A packed depthwise layer.
#[derive(Debug, Clone)]
pub(super) struct Depthwise {
    shape: Shape,
    /// For each term of a sum, the byte of its column from the output pixel's first on.
    terms: Vec<u32>,
    /// `[block of channels][term][channel][tap of the term]`, or i16 `[tap][channel]` for the portable loop.
    weights: Packed,
}

/// How a layer is cut up.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Shape {
    format: Format,
    /// Kernel rows are interleaved, not columns.
    vertical: bool,
    /// Sets of columns.
    planes: usize,
    /// Output pixels of a segment of a row.
    segment: usize,
    /// Columns of a plane.
    columns: usize,
}

impl Shape {
    fn new(format: Format, geometry: &Conv2d) -> Self {
        let vertical = geometry.kernel_h > 1;
        let planes = if vertical { geometry.kernel_h.div_ceil(format.elements()) } else { 1 };
        let span = (geometry.kernel_w.next_multiple_of(format.elements()) - 1) * geometry.dilation_w;
        let most = (SEGMENT_BYTES / COLUMN_BYTES / planes).saturating_sub(span) / geometry.stride_w;
        let rows = (geometry.batch * geometry.out_h()).max(1);
        let shared = geometry.out_w().div_ceil(LEAST_UNITS.div_ceil(rows)).max(LEAST_SEGMENT);
        let segments = geometry.out_w().div_ceil(most.max(LEAST_SEGMENT).min(shared)).max(1);
        let segment = geometry.out_w().div_ceil(segments).max(1);
        let columns = (segment - 1) * geometry.stride_w + span + 1;
        Self { format, vertical, planes, segment, columns }
    }

    /// The kernel row and column of a term's tap; `None` beyond the kernel.
    fn tap(&self, geometry: &Conv2d, term: usize, tap: usize) -> Option<(usize, usize)> {
        let taps = self.format.elements();
        let place = if self.vertical {
            (term / geometry.kernel_w * taps + tap, term % geometry.kernel_w)
        } else {
            (0, term * taps + tap)
        };
        (place.0 < geometry.kernel_h && place.1 < geometry.kernel_w).then_some(place)
    }

    fn terms(&self, geometry: &Conv2d) -> Vec<u32> {
        let column = |plane: usize, x: usize| ((plane * self.columns + x) * COLUMN_BYTES) as u32;
        if self.vertical {
            let in_plane =
                |plane| (0..geometry.kernel_w).map(move |kx| column(plane, kx * geometry.dilation_w));
            (0..self.planes).flat_map(in_plane).collect()
        } else {
            let taps = self.format.elements();
            (0..geometry.kernel_w).step_by(taps).map(|kx| column(0, kx * geometry.dilation_w)).collect()
        }
    }
}

fn padded_channels(geometry: &Conv2d) -> usize {
    geometry.out_c.next_multiple_of(LINE_CHANNELS)
}

fn portable(isa: Isa) -> bool {
    kernel::line(isa, Format::Pairs16).is_none()
}

impl Depthwise {
    pub(super) fn new(isa: Isa, spec: &QConvSpec<'_>) -> Self {
        let bytes = spec.weights.iter().all(|w| i8::try_from(*w).is_ok());
        let quads = bytes && kernel::line(isa, Format::Quads8).is_some();
        let format = if quads { Format::Quads8 } else { Format::Pairs16 };
        let weights = if portable(isa) { plain::pack(spec) } else { pack(format, spec) };
        let depthwise = Self::from_parts(isa, &spec.geometry, format, weights);
        depthwise.unwrap_or_else(|| unreachable!("freshly packed weights fit their layout"))
    }

    pub(super) fn from_parts(isa: Isa, geometry: &Conv2d, format: Format, weights: Packed) -> Option<Self> {
        if !portable(isa) {
            kernel::line(isa, format)?;
        }
        let shape = Shape::new(format, geometry);
        let terms = shape.terms(geometry);
        let bytes = if portable(isa) {
            plain::weight_bytes(geometry)
        } else {
            padded_channels(geometry) / LINE_CHANNELS * terms.len() * COLUMN_BYTES
        };
        (weights.as_bytes().len() == bytes).then_some(Self { shape, terms, weights })
    }

    pub(super) fn format(&self) -> Format {
        self.shape.format
    }

    pub(super) fn parts(&self) -> [Packed; 2] {
        [self.weights.clone(), Packed::of::<u32>(&[])]
    }

    pub(super) fn places(geometry: &Conv2d) -> Places {
        Places { columns: geometry.out_c, padded: padded_channels(geometry) }
    }

    fn segments(&self, geometry: &Conv2d) -> usize {
        geometry.out_w().div_ceil(self.shape.segment)
    }

    pub(super) fn units(&self, geometry: &Conv2d) -> usize {
        geometry.batch * geometry.out_h() * self.segments(geometry)
    }

    /// The output row of a unit and its pixels there.
    fn unit(&self, geometry: &Conv2d, unit: usize) -> (usize, Range<usize>) {
        let segments = self.segments(geometry).max(1);
        let first = unit % segments * self.shape.segment;
        (unit / segments, first..(first + self.shape.segment).min(geometry.out_w()))
    }

    pub(super) fn output_before(&self, geometry: &Conv2d, unit: usize) -> usize {
        let (row, pixels) = self.unit(geometry, unit);
        (row * geometry.out_w() + pixels.start) * geometry.out_c
    }

    fn column_bytes(&self) -> usize {
        self.shape.planes * self.shape.columns * COLUMN_BYTES
    }

    pub(super) fn scratch_bytes(&self, geometry: &Conv2d) -> usize {
        let sums = self.shape.segment * LINE_CHANNELS * size_of::<i32>();
        self.column_bytes() + padded(sums) + padded(geometry.out_c * size_of::<i32>())
    }

    pub(super) fn run(&self, isa: Isa, task: &Task<'_>, output: &mut QSlice<'_>, scratch: &mut [u8]) {
        let Some(kernels) = kernel::line(isa, self.shape.format) else {
            for unit in task.units.clone() {
                let part = self.unit(task.geometry, unit);
                plain::run(isa, task, (self.weights.elements(), part), output, scratch);
            }
            return;
        };
        let (columns, sums) = scratch.split_at_mut(self.column_bytes());
        let sums = &mut sums[..self.shape.segment * LINE_CHANNELS * size_of::<i32>()];
        let mut work =
            Work { isa, layer: self, kernels, task, columns, sums: bytemuck::cast_slice_mut(sums) };
        for unit in task.units.clone() {
            let (row, pixels) = self.unit(task.geometry, unit);
            for block in 0..task.geometry.out_c.div_ceil(LINE_CHANNELS) {
                work.interleave(row, pixels.clone(), block);
                work.line(row, pixels.clone(), block, output);
            }
        }
    }
}

fn pack(format: Format, spec: &QConvSpec<'_>) -> Packed {
    let geometry = &spec.geometry;
    let shape = Shape::new(format, geometry);
    let mut packed = Vec::new();
    for block in (0..geometry.out_c).step_by(LINE_CHANNELS) {
        for term in 0..shape.terms(geometry).len() {
            for channel in block..block + LINE_CHANNELS {
                for tap in 0..format.elements() {
                    let place = shape.tap(geometry, term, tap).filter(|_| channel < geometry.out_c);
                    let weight = place.map_or(0, |(ky, kx)| {
                        spec.weights[(channel * geometry.kernel_h + ky) * geometry.kernel_w + kx]
                    });
                    match format {
                        Format::Pairs16 => packed.extend(weight.to_le_bytes()),
                        Format::Quads8 | Format::Signed8 => packed.push(weight as i8 as u8),
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
    layer: &'a Depthwise,
    kernels: (InterleaveKernel, LineKernel),
    task: &'a Task<'a>,
    columns: &'a mut [u8],
    sums: &'a mut [i32],
}

impl Work<'_> {
    /// Fills the columns that a segment of an output row reads.
    fn interleave(&mut self, row: usize, pixels: Range<usize>, block: usize) {
        let geometry = self.task.geometry;
        let shape = self.layer.shape;
        let (image, y) = (row / geometry.out_h(), row % geometry.out_h());
        let source = Source {
            geometry,
            shape,
            input: self.task.input,
            zeros: &[self.task.input_zero; LINE_CHANNELS],
            image,
            y: (y * geometry.stride_h) as isize - geometry.pad[0] as isize,
            channel: block * LINE_CHANNELS,
        };
        let first = (pixels.start * geometry.stride_w) as isize - geometry.pad[1] as isize;
        let count = shape.columns - (shape.segment - pixels.len()) * geometry.stride_w;
        for (plane, columns) in self.columns.chunks_exact_mut(shape.columns * COLUMN_BYTES).enumerate() {
            let columns = &mut columns[..count * COLUMN_BYTES];
            let inner = source.inner(first, count);
            for at in (0..inner.start).chain(inner.end..count) {
                let strands = source.strands(plane, first + at as isize);
                (self.kernels.0)(&strands, &mut columns[at * COLUMN_BYTES..][..COLUMN_BYTES]);
            }
            if !inner.is_empty() {
                let strands = source.strands(plane, first + inner.start as isize);
                let inner = inner.start * COLUMN_BYTES..inner.end * COLUMN_BYTES;
                (self.kernels.0)(&strands, &mut columns[inner]);
            }
        }
    }

    fn line(&mut self, row: usize, pixels: Range<usize>, block: usize, output: &mut QSlice<'_>) {
        let (geometry, layer) = (self.task.geometry, self.layer);
        let channel = block * LINE_CHANNELS;
        let per_block = layer.terms.len() * COLUMN_BYTES;
        let line = Line {
            columns: self.columns,
            terms: &layer.terms,
            step: geometry.stride_w * COLUMN_BYTES,
            pixels: pixels.len(),
            weights: &layer.weights.as_bytes()[block * per_block..][..per_block],
        };
        let columns = LINE_CHANNELS.min(geometry.out_c - channel);
        let parameters = self.task.columns.from(channel);
        let start = (row * geometry.out_w() + pixels.start) * geometry.out_c + channel - self.task.start;
        if let (Finish::Quantised(quantise, None), QSlice::U8(output)) = (self.task.finish, &mut *output) {
            let bytes = Bytes {
                output: &mut output[start..],
                stride: geometry.out_c,
                columns,
                bias: parameters.bias,
                multiplier: parameters.multiplier,
                quantise: *quantise,
            };
            return (self.kernels.1)(&line, Outlet::Bytes(bytes));
        }
        (self.kernels.1)(&line, Outlet::Sums(self.sums));
        let block = Block { sums: self.sums, stride: LINE_CHANNELS, columns, rows: pixels.len() };
        let place = Place { output, start, stride: geometry.out_c, residual: self.task.residual };
        kernel::finish(self.isa)(&block, &parameters, self.task.finish, place);
    }
}

/// Where the strands of one output row and block of channels come from.
struct Source<'a> {
    geometry: &'a Conv2d,
    shape: Shape,
    input: &'a [u8],
    zeros: &'a [u8],
    image: usize,
    /// The input row of the kernel's first one.
    y: isize,
    channel: usize,
}

impl<'a> Source<'a> {
    /// Of `count` columns, those from input column `first` on: the ones whose strands are all read from the input, or
    /// all from padding rows.
    fn inner(&self, first: isize, count: usize) -> Range<usize> {
        let reach = match self.shape.vertical {
            true => 0,
            false => (self.shape.format.elements() - 1) * self.geometry.dilation_w,
        };
        let end = self.geometry.in_w as isize - reach as isize - first;
        let end = end.clamp(0, count as isize) as usize;
        ((-first).max(0) as usize).min(end)..end
    }

    /// The strands of a plane from input column `x` on.
    fn strands(&self, plane: usize, x: isize) -> [Strand<'a>; 4] {
        let taps = self.shape.format.elements();
        std::array::from_fn(|tap| {
            let place = if self.shape.vertical { (plane * taps + tap, 0) } else { (0, tap) };
            let y = self.y + (place.0 * self.geometry.dilation_h) as isize;
            let x = x + (place.1 * self.geometry.dilation_w) as isize;
            let rows = 0..self.geometry.in_h as isize;
            let within = rows.contains(&y) && (0..self.geometry.in_w as isize).contains(&x);
            if !within || tap >= taps || place.0 >= self.geometry.kernel_h {
                return Strand { bytes: self.zeros, stride: 0 };
            }
            let line = (self.image * self.geometry.in_h + y as usize) * self.geometry.in_w;
            let at = (line + x as usize) * self.geometry.in_c + self.channel;
            Strand { bytes: &self.input[at..], stride: self.geometry.in_c }
        })
    }
}

//! How a depthwise layer is cut up: bands of output rows, planes of interleaved input rows, terms of a sum.

use super::{
    kernel::{Line, Offsets},
    layout::Format,
};
use crate::geometry::Conv2d;

/// Most bytes of the planes of a segment, so that they stay in the first cache.
const SEGMENT_BYTES: usize = 20 << 10;

/// Input bytes that a segment reads of all channels, for the same reason, unless that leaves it fewer pixels than these, or
/// less input than so many times what neighbouring segments both read.
const READ_BYTES: usize = 32 << 10;
const LEAST_READ: usize = 16;
const LEAST_SPANS: usize = 12;

/// Input rows from one plane to the next, or one if that is all a plane holds, where a band has several output rows.
const PLANE_ROWS: usize = 2;

/// Output rows of a band: few, and of narrow maps, of which a row costs little beside what a band costs, some more.
const BAND: usize = 4;
const NARROW_BAND: usize = 8;
const NARROW_COLUMNS: usize = 16;

/// Where a band is one row: least units to be had, if segments of this many pixels allow it.
const LEAST_UNITS: usize = 8;
const LEAST_SEGMENT: usize = 8;

/// How a layer is cut up.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    pub(super) format: Format,
    /// Kernel rows are interleaved, not columns.
    pub(super) vertical: bool,
    /// Output rows that share planes.
    pub(super) band: usize,
    /// Input rows from one plane to the next.
    pub(super) plane_rows: usize,
    /// Planes of a band.
    pub(super) planes: usize,
    /// Output pixels of a segment of a row.
    pub(super) segment: usize,
    /// Columns of a plane.
    pub(super) columns: usize,
    /// Where the kernel's first row lies within its first plane: one variant of the weights for each place.
    pub(super) variants: Vec<Variant>,
    /// Terms of all variants.
    pub(super) term_count: usize,
}

/// The terms of a sum whose kernel starts at row `shift` of a plane.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Variant {
    shift: usize,
    /// Terms of the variants before.
    first_term: usize,
    /// For each term, the byte of its column from the first one of the first plane on.
    pub(super) terms: Vec<u32>,
}

impl Shape {
    pub(super) fn new(format: Format, geometry: &Conv2d) -> Self {
        let vertical = geometry.kernel_h > 1;
        let most = if geometry.out_w() < NARROW_COLUMNS { NARROW_BAND } else { BAND };
        let band = match geometry.out_h() {
            _ if !vertical || geometry.dilation_h > 1 => 1,
            rows if rows <= BAND => rows.max(1),
            // As equal as can be, and an even count of them: threads share them out.
            rows => rows.div_ceil(rows.div_ceil(most).next_multiple_of(2)).max(2),
        };
        let plane_rows = if band == 1 {
            format.elements() * geometry.dilation_h
        } else {
            PLANE_ROWS.min(format.elements())
        };
        let mut shape = Self {
            format,
            vertical,
            band,
            plane_rows,
            planes: 1,
            segment: 1,
            columns: 1,
            variants: Vec::new(),
            term_count: 0,
        };
        if vertical {
            let last = (band - 1) * geometry.stride_h;
            shape.planes = last / plane_rows
                + (shape.groups(geometry, last % plane_rows) - 1) * shape.group_planes()
                + 1;
            if band > 1 && geometry.stride_h % 2 == 1 {
                // The row before the last may reach as far.
                let other = last - geometry.stride_h;
                let reach = (shape.groups(geometry, other % plane_rows) - 1) * shape.group_planes() + 1;
                shape.planes = shape.planes.max(other / plane_rows + reach);
            }
        }
        shape.cut(geometry);
        shape.add_variants(geometry);
        shape
    }

    /// Sets the segment and the columns of a plane.
    fn cut(&mut self, geometry: &Conv2d) {
        let taps = if self.vertical { 1 } else { self.format.elements() };
        let span = (geometry.kernel_w.next_multiple_of(taps) - 1) * geometry.dilation_w;
        let most = (SEGMENT_BYTES / self.format.column_bytes() / self.planes).saturating_sub(span)
            / geometry.stride_w;
        // All blocks of channels read the lines of a segment.
        let rows = (self.band - 1) * geometry.stride_h + geometry.kernel_h;
        let read = (READ_BYTES / (rows * geometry.stride_w * geometry.in_c))
            .max(LEAST_READ)
            .max(span * LEAST_SPANS / geometry.stride_w);
        let most = if self.band > 1 { most.min(read) } else { most };
        let shared = match self.band {
            1 => {
                let rows = (geometry.batch * geometry.out_h()).max(1);
                geometry.out_w().div_ceil(LEAST_UNITS.div_ceil(rows)).max(LEAST_SEGMENT)
            }
            _ => geometry.out_w().max(1),
        };
        let segments = geometry.out_w().div_ceil(most.max(LEAST_SEGMENT).min(shared)).max(1);
        self.segment = geometry.out_w().div_ceil(segments).max(1);
        self.columns = (self.segment - 1) * geometry.stride_w + span + 1;
    }

    fn add_variants(&mut self, geometry: &Conv2d) {
        let shifts = if self.band > 1 && geometry.stride_h % 2 == 1 { self.plane_rows } else { 1 };
        for shift in 0..shifts {
            let terms = self.terms(geometry, shift);
            let count = terms.len();
            self.variants.push(Variant { shift, first_term: self.term_count, terms });
            self.term_count += count;
        }
    }

    /// Sets of interleaved kernel rows that start at row `shift` of a plane.
    fn groups(&self, geometry: &Conv2d, shift: usize) -> usize {
        (shift + geometry.kernel_h).div_ceil(self.format.elements())
    }

    /// Planes from one such set to the next.
    fn group_planes(&self) -> usize {
        if self.band == 1 { 1 } else { self.format.elements() / self.plane_rows }
    }

    fn terms(&self, geometry: &Conv2d, shift: usize) -> Vec<u32> {
        let column =
            |plane: usize, x: usize| ((plane * self.columns + x) * self.format.column_bytes()) as u32;
        let dilation = geometry.dilation_w;
        if self.vertical {
            let planes = (0..self.groups(geometry, shift)).map(|group| group * self.group_planes());
            planes.flat_map(|p| (0..geometry.kernel_w).map(move |kx| column(p, kx * dilation))).collect()
        } else {
            let taps = self.format.elements();
            (0..geometry.kernel_w).step_by(taps).map(|kx| column(0, kx * dilation)).collect()
        }
    }

    /// The kernel row and column of a term's tap; `None` beyond the kernel.
    pub(super) fn tap(
        &self,
        geometry: &Conv2d,
        variant: &Variant,
        (term, tap): (usize, usize),
    ) -> Option<(usize, usize)> {
        let taps = self.format.elements();
        let (row, column) = if self.vertical {
            ((term / geometry.kernel_w * taps + tap).checked_sub(variant.shift)?, term % geometry.kernel_w)
        } else {
            (0, term * taps + tap)
        };
        (row < geometry.kernel_h && column < geometry.kernel_w).then_some((row, column))
    }

    /// A band's output row.
    pub(super) fn line(&self, geometry: &Conv2d, row: usize) -> Line {
        let at = if self.band == 1 { 0 } else { row * geometry.stride_h };
        let variant = &self.variants[at % self.plane_rows % self.variants.len()];
        let bytes = self.format.column_bytes();
        let first = at / self.plane_rows * self.columns * bytes;
        let terms = variant.terms.iter().map(|at| *at + first as u32).collect();
        Line { terms: Offsets::new(terms), weights: variant.first_term * bytes }
    }
}

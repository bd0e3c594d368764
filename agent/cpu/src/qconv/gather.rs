//! Input rows as dense kernels read them: the bytes that one output pixel is made of, padding filled in.

use super::layout::{Format, Layout};
use crate::geometry::Conv2d;
use std::ops::Range;

/// Elements copied at once where no exact count is needed.
pub(super) const CHUNK: usize = 16;

/// Beyond as many elements, exact copies are as quick.
const FEW: usize = 8 * CHUNK;

/// Where the rows of one group come from.
pub(super) struct Source<'a> {
    geometry: &'a Conv2d,
    format: Format,
    row_stride: usize,
    /// Channels of the group, and its first.
    in_c: usize,
    channel: usize,
    zero: u8,
    input: &'a [u8],
    /// The output columns whose kernel rows are runs of the input, if any can be.
    whole: Option<(usize, usize)>,
}

/// Output pixels side by side, and the places of the first one's row.
#[derive(Debug, Clone, Copy)]
struct Span {
    image: usize,
    /// The output row and its first and last column, the last one exclusive.
    y: usize,
    x: (usize, usize),
    /// The byte of the gathered rows at which the first one starts.
    at: usize,
}

/// Equally spaced runs of elements.
#[derive(Debug, Clone, Copy)]
struct Runs {
    /// The first input byte, and bytes from one run to the next.
    from: (usize, usize),
    /// The first byte written, and bytes from one run to the next.
    to: (usize, usize),
    /// Elements of a run.
    count: usize,
    runs: usize,
}

impl<'a> Source<'a> {
    pub(super) fn new(
        geometry: &'a Conv2d,
        layout: &Layout,
        group: usize,
        (input, zero): (&'a [u8], u8),
    ) -> Self {
        let (format, row_stride, in_c) = (layout.format, layout.row_stride(), layout.in_c);
        let whole = (geometry.dilation_w == 1 && geometry.groups == 1)
            .then(|| inside(geometry, geometry.kernel_w, 0));
        Self { geometry, format, row_stride, in_c, channel: group * in_c, zero, input, whole }
    }

    /// Writes the rows of some output pixels.
    pub(super) fn gather(&self, pixels: Range<usize>, rows: &mut [u8]) {
        let (width, height) = (self.geometry.out_w(), self.geometry.out_h());
        let (mut line, mut x) = (pixels.start / width, pixels.start % width);
        let mut at = 0;
        let mut left = pixels.len();
        while left > 0 {
            let count = left.min(width - x);
            let span = Span { image: line / height, y: line % height, x: (x, x + count), at };
            self.span(&span, rows);
            at += count * self.row_stride;
            left -= count;
            (line, x) = (line + 1, 0);
        }
        if self.format == Format::Signed8 {
            rows[..at].iter_mut().for_each(|byte| *byte ^= 0x80);
        }
    }

    fn span(&self, span: &Span, rows: &mut [u8]) {
        let geometry = self.geometry;
        let per_row = geometry.kernel_w * self.in_c * self.element();
        for ky in 0..geometry.kernel_h {
            let y = (span.y * geometry.stride_h + ky * geometry.dilation_h).wrapping_sub(geometry.pad[0]);
            let span = Span { at: span.at + ky * per_row, ..*span };
            if y >= geometry.in_h {
                self.zeros(&span, geometry.kernel_w * self.in_c, rows);
                continue;
            }
            let line = (span.image * geometry.in_h + y) * geometry.in_w;
            self.kernel_row(line, &span, rows);
        }
    }

    /// One kernel row of a span, read from the input row that starts at pixel `line`.
    fn kernel_row(&self, line: usize, span: &Span, rows: &mut [u8]) {
        let Some((low, high)) = self.whole else { return self.taps(line, span, rows) };
        let low = low.clamp(span.x.0, span.x.1);
        let high = high.clamp(low, span.x.1);
        self.run(line, self.geometry.kernel_w, 0, &self.part(span, low, high), rows);
        for x in (span.x.0..low).chain(high..span.x.1) {
            self.edge(line, &self.part(span, x, x + 1), rows);
        }
    }

    /// One kernel row of one pixel: padding, a run of the input, padding.
    fn edge(&self, line: usize, span: &Span, rows: &mut [u8]) {
        let Conv2d { stride_w, in_w, kernel_w, pad, .. } = *self.geometry;
        let left = pad[1].saturating_sub(span.x.0 * stride_w).min(kernel_w);
        let end = (in_w + pad[1]).saturating_sub(span.x.0 * stride_w).clamp(left, kernel_w);
        let bytes = self.in_c * self.element();
        self.zeros(span, left * self.in_c, rows);
        if end > left {
            self.run(line, end - left, left, &Span { at: span.at + left * bytes, ..*span }, rows);
        }
        self.zeros(&Span { at: span.at + end * bytes, ..*span }, (kernel_w - end) * self.in_c, rows);
    }

    /// One kernel row of a span, tap by tap.
    fn taps(&self, line: usize, span: &Span, rows: &mut [u8]) {
        for kx in 0..self.geometry.kernel_w {
            let span = Span { at: span.at + kx * self.in_c * self.element(), ..*span };
            let (low, high) = inside(self.geometry, 1, kx);
            let low = low.clamp(span.x.0, span.x.1);
            let high = high.clamp(low, span.x.1);
            self.zeros(&self.part(&span, span.x.0, low), self.in_c, rows);
            self.run(line, 1, kx, &self.part(&span, low, high), rows);
            self.zeros(&self.part(&span, high, span.x.1), self.in_c, rows);
        }
    }

    fn part(&self, span: &Span, low: usize, high: usize) -> Span {
        Span { x: (low, high), at: span.at + (low - span.x.0) * self.row_stride, ..*span }
    }

    fn zeros(&self, span: &Span, count: usize, rows: &mut [u8]) {
        for pixel in 0..span.x.1 - span.x.0 {
            let row = &mut rows[span.at + pixel * self.row_stride..][..count * self.element()];
            if self.element() == 2 {
                bytemuck::cast_slice_mut(row).fill(u16::from(self.zero));
            } else {
                row.fill(self.zero);
            }
        }
    }

    fn run(&self, line: usize, taps: usize, kx: usize, span: &Span, rows: &mut [u8]) {
        let geometry = self.geometry;
        if span.x.0 == span.x.1 {
            return;
        }
        let x = span.x.0 * geometry.stride_w + kx * geometry.dilation_w - geometry.pad[1];
        let runs = Runs {
            from: ((line + x) * geometry.in_c + self.channel, geometry.stride_w * geometry.in_c),
            to: (span.at, self.row_stride),
            count: taps * self.in_c,
            runs: span.x.1 - span.x.0,
        };
        match (self.element(), runs.count.div_ceil(CHUNK)) {
            (2, 1) => copy::<2, 1>(self.input, rows, &runs),
            (2, 2) => copy::<2, 2>(self.input, rows, &runs),
            (2, _) => copy::<2, 0>(self.input, rows, &runs),
            (_, 1) => copy::<1, 1>(self.input, rows, &runs),
            (_, 2) => copy::<1, 2>(self.input, rows, &runs),
            _ => copy::<1, 0>(self.input, rows, &runs),
        }
    }

    const fn element(&self) -> usize {
        self.format.element_bytes()
    }
}

/// The output columns for which `taps` taps from `kx` on lie within the input.
fn inside(geometry: &Conv2d, taps: usize, kx: usize) -> (usize, usize) {
    let Conv2d { stride_w, dilation_w, in_w, pad, .. } = *geometry;
    let low = pad[1].saturating_sub(kx * dilation_w).div_ceil(stride_w);
    let reach = (kx + taps - 1) * dilation_w;
    let high = (in_w + pad[1]).checked_sub(reach + 1).map_or(0, |most| most / stride_w + 1);
    (low, high.max(low))
}

/// Copies runs of bytes, each of them to `ELEMENT` bytes; `CHUNKS` of them, or as many as there are if it is zero.
///
/// May write up to a chunk of elements after a run: the next run's place, or room after the row.
fn copy<const ELEMENT: usize, const CHUNKS: usize>(input: &[u8], rows: &mut [u8], runs: &Runs) {
    let chunks = if CHUNKS == 0 { runs.count.div_ceil(CHUNK) } else { CHUNKS };
    let exact = ELEMENT == 1 && runs.count > FEW;
    for run in 0..runs.runs {
        let from = &input[runs.from.0 + run * runs.from.1..];
        let to = &mut rows[runs.to.0 + run * runs.to.1..];
        if exact {
            to[..runs.count].copy_from_slice(&from[..runs.count]);
            continue;
        }
        let from = from[..chunks * CHUNK].as_chunks::<CHUNK>().0;
        if ELEMENT == 1 {
            let to = to[..chunks * CHUNK].as_chunks_mut::<CHUNK>().0;
            to.copy_from_slice(from);
        } else {
            let to: &mut [u16] = bytemuck::cast_slice_mut(&mut to[..chunks * CHUNK * ELEMENT]);
            for (to, from) in to.as_chunks_mut::<CHUNK>().0.iter_mut().zip(from) {
                *to = from.map(u16::from);
            }
        }
    }
}

//! The input bytes that are interleaved into the columns of depthwise layers.

use super::{
    kernel::{InterleaveKernel, LINE_CHANNELS, Strand},
    layout::Format,
    shape::Shape,
};
use crate::geometry::Conv2d;
use std::ops::Range;

/// Where the strands of one band and block of channels come from.
pub(super) struct Source<'a> {
    pub(super) geometry: &'a Conv2d,
    pub(super) shape: &'a Shape,
    pub(super) input: &'a [u8],
    /// What padding reads.
    pub(super) zeros: &'a [u8; LINE_CHANNELS],
    pub(super) image: usize,
    /// The input row of the first plane's first strand.
    pub(super) y: isize,
    /// The first of the sixteen channels.
    pub(super) channel: usize,
}

impl<'a> Source<'a> {
    /// Fills the columns of a plane around the inner ones; the first one is of input column `first`.
    pub(super) fn pad(
        &self,
        (plane, first): (usize, isize),
        inner: &Range<usize>,
        columns: &mut [u8],
        interleave: InterleaveKernel,
    ) {
        let bytes = self.shape.format.column_bytes();
        for at in (0..inner.start).chain(inner.end..columns.len() / bytes) {
            let column = &mut columns[at * bytes..][..bytes];
            if self.shape.vertical {
                self.fill_zeros(column);
            } else {
                interleave(&self.strands(plane, first + at as isize), column);
            }
        }
    }

    fn fill_zeros(&self, column: &mut [u8]) {
        match self.shape.format {
            Format::Words16 | Format::Pairs16 => {
                bytemuck::cast_slice_mut(column).fill(u16::from(self.zeros[0]))
            }
            Format::Quads8 | Format::Shuffled8 => column.fill(self.zeros[0]),
            Format::Signed8 => column.fill(self.zeros[0] ^ 0x80),
        }
    }

    /// Of `count` columns from input column `first` on, those of which no strand lies left or right of the input.
    pub(super) fn inner(&self, first: isize, count: usize) -> Range<usize> {
        let taps = if self.shape.vertical { 1 } else { self.shape.format.elements() };
        let reach = (taps - 1) * self.geometry.dilation_w;
        let end = self.geometry.in_w as isize - reach as isize - first;
        let end = end.clamp(0, count as isize) as usize;
        ((-first).max(0) as usize).min(end)..end
    }

    /// The strands of a plane from input column `x` on.
    #[inline]
    pub(super) fn strands(&self, plane: usize, x: isize) -> [Strand<'a>; 4] {
        let mut strands = [Strand { bytes: self.zeros, stride: 0 }; 4];
        for (tap, strand) in strands.iter_mut().take(self.shape.format.elements()).enumerate() {
            let (row, column) = if self.shape.vertical { (tap, 0) } else { (0, tap) };
            let y = self.y + (plane * self.shape.plane_rows + row * self.geometry.dilation_h) as isize;
            let x = x + (column * self.geometry.dilation_w) as isize;
            let rows = 0..self.geometry.in_h as isize;
            if rows.contains(&y) && (0..self.geometry.in_w as isize).contains(&x) {
                let line = (self.image * self.geometry.in_h + y as usize) * self.geometry.in_w;
                strand.bytes = &self.input[(line + x as usize) * self.geometry.in_c + self.channel..];
                strand.stride = self.geometry.in_c;
            }
        }
        strands
    }
}

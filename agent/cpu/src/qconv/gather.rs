//! Input rows as dense kernels read them: the bytes that one output pixel is made of, padding filled in.

use super::layout::{Format, Layout};
use crate::geometry::Conv2d;
use std::ops::Range;

/// Bytes copied at once where no exact count is needed.
const CHUNK_BYTES: usize = 16;

/// One output pixel's place.
#[derive(Debug, Clone, Copy)]
struct Pixel {
    image: usize,
    /// The input row and column of the kernel's first tap; negative within padding.
    row: isize,
    column: isize,
}

fn pixel(geometry: &Conv2d, index: usize) -> Pixel {
    let (width, height) = (geometry.out_w(), geometry.out_h());
    let (row, column) = (index / width, index % width);
    Pixel {
        image: row / height,
        row: (row % height * geometry.stride_h) as isize - geometry.pad[0] as isize,
        column: (column * geometry.stride_w) as isize - geometry.pad[1] as isize,
    }
}

/// Where the rows of one group come from.
pub(crate) struct Source<'a> {
    geometry: &'a Conv2d,
    format: Format,
    row_bytes: usize,
    /// Channels of the group, and its first.
    in_c: usize,
    channel: usize,
    zero: u8,
    input: &'a [u8],
}

impl<'a> Source<'a> {
    pub(crate) fn new(
        geometry: &'a Conv2d,
        layout: &Layout,
        group: usize,
        (input, zero): (&'a [u8], u8),
    ) -> Self {
        let (format, row_bytes, in_c) = (layout.format, layout.row_bytes(), layout.in_c);
        Self { geometry, format, row_bytes, in_c, channel: group * in_c, zero, input }
    }

    /// Writes the rows of some output pixels; `bytes` is room for the elements of one of them.
    pub(crate) fn gather(&self, pixels: Range<usize>, rows: &mut [u8], bytes: &mut [u8]) {
        for (index, row) in pixels.zip(rows.chunks_exact_mut(self.row_bytes)) {
            let pixel = pixel(self.geometry, index);
            match self.format {
                Format::Quads8 => self.fill(pixel, row),
                Format::Signed8 => {
                    self.fill(pixel, row);
                    row.iter_mut().for_each(|byte| *byte ^= 0x80);
                }
                Format::Pairs16 => {
                    self.fill(pixel, bytes);
                    let wide: &mut [u16] = bytemuck::cast_slice_mut(row);
                    for (to, from) in wide.iter_mut().zip(bytes.iter()) {
                        *to = u16::from(*from);
                    }
                }
            }
        }
    }

    fn fill(&self, pixel: Pixel, row: &mut [u8]) {
        let geometry = self.geometry;
        let per_row = geometry.kernel_w * self.in_c;
        for ky in 0..geometry.kernel_h {
            let y = pixel.row + (ky * geometry.dilation_h) as isize;
            let at = ky * per_row;
            if y < 0 || y >= geometry.in_h as isize {
                row[at..at + per_row].fill(self.zero);
            } else {
                let line = (pixel.image * geometry.in_h + y as usize) * geometry.in_w;
                self.fill_row(line, pixel.column, at, row);
            }
        }
        row[geometry.kernel_h * per_row..].fill(0);
    }

    /// One row of the kernel, whose input row starts at pixel `line`.
    fn fill_row(&self, line: usize, column: isize, at: usize, row: &mut [u8]) {
        let geometry = self.geometry;
        let last = column + ((geometry.kernel_w - 1) * geometry.dilation_w) as isize;
        let inside = column >= 0 && last < geometry.in_w as isize;
        if inside && geometry.dilation_w == 1 && geometry.groups == 1 {
            let start = (line + column as usize) * self.in_c;
            return copy(self.input, start, row, at, geometry.kernel_w * self.in_c);
        }
        for kx in 0..geometry.kernel_w {
            let x = column + (kx * geometry.dilation_w) as isize;
            let at = at + kx * self.in_c;
            if x < 0 || x >= geometry.in_w as isize {
                row[at..at + self.in_c].fill(self.zero);
            } else {
                let start = (line + x as usize) * geometry.in_c + self.channel;
                copy(self.input, start, row, at, self.in_c);
            }
        }
    }
}

/// Copies `count` bytes; may write more of those after them, which are to be written later.
#[inline]
fn copy(from: &[u8], start: usize, to: &mut [u8], at: usize, count: usize) {
    let whole = count.next_multiple_of(CHUNK_BYTES);
    if count <= 4 * CHUNK_BYTES && start + whole <= from.len() && at + whole <= to.len() {
        let (from, to) = (&from[start..start + whole], &mut to[at..at + whole]);
        for (to, from) in to.chunks_exact_mut(CHUNK_BYTES).zip(from.chunks_exact(CHUNK_BYTES)) {
            to.copy_from_slice(from);
        }
    } else {
        to[at..at + count].copy_from_slice(&from[start..start + count]);
    }
}

//! Where the bytes that an output pixel is made of lie: in the input as it is, or in a band of its rows, copied with their
//! padding.
//!
//! A pixel's row of K is a few runs of neighbouring bytes, at the same distances for every pixel; so that no byte is copied for
//! each output pixel that reads it. Compare "The Indirect Convolution Algorithm" (Dukhan, 2019), which keeps a pointer for each
//! run of each pixel instead.

use super::{
    kernel::Offsets,
    layout::{ENTRY_BYTES, Format, Layout},
    padded,
};
use crate::geometry::Conv2d;
use std::ops::Range;

/// Bytes after a band that kernels may read: a run's last entry reaches beyond it.
const SLACK_BYTES: usize = 64;

/// The windows of a layer.
#[derive(Debug, Clone)]
pub(super) struct Window {
    /// Whether input rows are copied: there is padding, or elements are widened or shifted.
    copied: bool,
    /// Bytes of an element, as it is read.
    element: usize,
    /// What is changed in each byte that is read.
    flip: u8,
    /// Pixels of a row, with padding where it is copied.
    width: usize,
    /// Bytes from one window to the next, where these are equal.
    pub(super) stride: Option<usize>,
    /// For each run, its first byte from the window's first on.
    pub(super) runs: Offsets,
}

impl Window {
    pub(super) fn new(geometry: &Conv2d, layout: &Layout) -> Self {
        let format = layout.format;
        let bytes_as_they_are = matches!(format, Format::Quads8 | Format::Shuffled8);
        let copied = geometry.pad != [0; 4] || !bytes_as_they_are;
        let element = format.element_bytes();
        let reach = (geometry.kernel_w - 1) * geometry.dilation_w;
        let width = if copied {
            geometry.out_w().saturating_sub(1) * geometry.stride_w + reach + 1
        } else {
            geometry.in_w
        };
        let per_row = geometry.kernel_w / layout.run_taps;
        let run = |index: usize| {
            let (ky, kx) = (index / per_row, index % per_row);
            (ky * geometry.dilation_h * width + kx * geometry.dilation_w) * geometry.in_c * element
        };
        let runs = Offsets::new((0..layout.runs).map(|index| run(index) as u32).collect());
        let flip = if format == Format::Signed8 { 0x80 } else { 0 };
        let stride = geometry.is_pointwise().then_some(geometry.in_c * element);
        Self { copied, element, flip, width, stride, runs }
    }

    /// Whether input rows are copied.
    pub(super) fn is_copied(&self) -> bool {
        self.copied
    }

    /// The byte from a window's first on at which a byte of its row of K lies.
    pub(super) fn place(&self, layout: &Layout, at: u32) -> u32 {
        let run_bytes = (layout.run_entries() * ENTRY_BYTES) as u32;
        self.runs.all()[(at / run_bytes) as usize] + at % run_bytes
    }

    fn line_bytes(&self, geometry: &Conv2d) -> usize {
        self.width * geometry.in_c * self.element
    }

    /// Bytes of the bands of at most so many pixels.
    pub(super) fn band_bytes(&self, geometry: &Conv2d, pixels: usize) -> usize {
        if !self.copied || pixels == 0 {
            return 0;
        }
        let (width, height) = (geometry.out_w().max(1), geometry.out_h().max(1));
        let lines = (pixels - 1) / width + 2;
        let images = ((pixels - 1) / (width * height) + 2).min(lines);
        let reach = (geometry.kernel_h - 1) * geometry.dilation_h + 1;
        let rows = |images: usize| (lines - images) * geometry.stride_h + images * reach;
        padded(rows(1).max(rows(images)) * self.line_bytes(geometry) + SLACK_BYTES)
    }

    /// Makes the bytes of some pixels' windows ready. The first one starts at the returned byte, of the band if rows are copied,
    /// else of the input; at which byte from there on each starts is written unless there is a stride.
    pub(super) fn prepare(
        &self,
        geometry: &Conv2d,
        (input, zero): (&[u8], u8),
        pixels: Range<usize>,
        (band, starts): (&mut [u8], &mut [u32]),
    ) -> usize {
        if let (false, Some(stride)) = (self.copied, self.stride) {
            return pixels.start * stride;
        }
        let (width, height) = (geometry.out_w(), geometry.out_h());
        let (row, pixel) = (self.line_bytes(geometry), geometry.stride_w * geometry.in_c * self.element);
        let mut starts = starts.iter_mut();
        let mut filled = 0;
        let mut first = None;
        let mut at = pixels.start;
        while at < pixels.end {
            // The rest of an image.
            let image = at / (width * height);
            let end = pixels.end.min((image + 1) * width * height);
            let lines = at / width % height..(end - 1) / width % height + 1;
            let origin = if self.copied {
                let rows =
                    self.copy(geometry, (input, zero), (image, lines.clone()), &mut band[filled * row..]);
                filled += rows;
                (filled - rows) * row
            } else {
                (image * geometry.in_h + lines.start * geometry.stride_h) * row
            };
            for line in lines.clone() {
                let from = if line == lines.start { at % width } else { 0 };
                let to = if line + 1 == lines.end { (end - 1) % width + 1 } else { width };
                let start = origin + (line - lines.start) * geometry.stride_h * row;
                let base = *first.get_or_insert(start + from * pixel);
                for (x, to) in (from..to).zip(starts.by_ref()) {
                    *to = (start + x * pixel - base) as u32;
                }
            }
            at = end;
        }
        first.unwrap_or_default()
    }

    /// Copies the input rows that some output lines of an image read; returns how many these are.
    fn copy(
        &self,
        geometry: &Conv2d,
        (input, zero): (&[u8], u8),
        (image, lines): (usize, Range<usize>),
        band: &mut [u8],
    ) -> usize {
        let reach = (geometry.kernel_h - 1) * geometry.dilation_h + 1;
        let rows = (lines.len() - 1) * geometry.stride_h + reach;
        let line = self.line_bytes(geometry);
        let left = geometry.pad[1].min(self.width);
        let pixels = geometry.in_w.min(self.width - left);
        for (r, to) in band.chunks_exact_mut(line).take(rows).enumerate() {
            let y = (lines.start * geometry.stride_h + r).wrapping_sub(geometry.pad[0]);
            if y >= geometry.in_h {
                self.fill(zero, to);
                continue;
            }
            let from = &input[(image * geometry.in_h + y) * geometry.in_w * geometry.in_c..];
            let bytes = geometry.in_c * self.element;
            let (before, to) = to.split_at_mut(left * bytes);
            let (here, after) = to.split_at_mut(pixels * bytes);
            self.fill(zero, before);
            self.fill(zero, after);
            self.take(&from[..pixels * geometry.in_c], here);
        }
        rows
    }

    fn fill(&self, zero: u8, to: &mut [u8]) {
        match self.element {
            2 => bytemuck::cast_slice_mut(to).fill(u16::from(zero)),
            _ => to.fill(zero ^ self.flip),
        }
    }

    fn take(&self, from: &[u8], to: &mut [u8]) {
        match (self.element, self.flip) {
            (2, _) => {
                let to: &mut [u16] = bytemuck::cast_slice_mut(to);
                to.iter_mut().zip(from).for_each(|(to, from)| *to = u16::from(*from));
            }
            (_, 0) => to.copy_from_slice(from),
            (_, flip) => to.iter_mut().zip(from).for_each(|(to, from)| *to = from ^ flip),
        }
    }
}

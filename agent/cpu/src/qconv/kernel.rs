//! The choice of kernels by instruction set, and the portable ones.

use super::{
    finish::{self, Add, Block, Columns, Finish, Place, Quantise},
    layout::{ENTRY_BYTES, Format, SHUFFLED},
};
use crate::isa::Isa;
use std::ops::Range;

/// At which byte each row of K starts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Starts<'a> {
    /// So many rows, from the first byte on, so many bytes from one to the next.
    Spaced {
        count: usize,
        stride: usize,
    },
    At(&'a [u32]),
}

impl Starts<'_> {
    pub(crate) const fn len(&self) -> usize {
        match self {
            Self::Spaced { count, .. } => *count,
            Self::At(starts) => starts.len(),
        }
    }

    /// The start of a row.
    #[inline]
    pub(crate) fn of(&self, row: usize) -> usize {
        match self {
            Self::Spaced { stride, .. } => row * stride,
            Self::At(starts) => starts[row] as usize,
        }
    }

    fn greatest(&self) -> usize {
        match self {
            Self::Spaced { count, stride } => count.saturating_sub(1) * stride,
            Self::At(starts) => starts.iter().copied().max().map_or(0, |at| at as usize),
        }
    }
}

/// Rows of K, as the format has their elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) input: &'a [u8],
    pub(crate) starts: Starts<'a>,
    /// From there on, at which byte each run of it starts.
    pub(crate) runs: &'a Offsets,
    /// Entries of a run.
    pub(crate) run_entries: usize,
}

impl Rows<'_> {
    /// The bytes from a row's start on that are read of it, and panics where a row leaves the input.
    pub(crate) fn check(&self) -> usize {
        let bytes = self.runs.greatest + self.run_entries * ENTRY_BYTES;
        assert!(self.starts.greatest() + bytes <= self.input.len(), "input rows");
        bytes
    }

    /// Entries of a row.
    pub(crate) const fn entries(&self) -> usize {
        self.runs.all.len() * self.run_entries
    }
}

/// Where a panel's weights and extra entries lie.
#[derive(Debug, Clone)]
pub(crate) struct PanelPlace {
    /// The first column within the group.
    pub(crate) first: usize,
    /// Vectors of columns.
    pub(crate) vectors: usize,
    pub(crate) weights: Range<usize>,
    pub(crate) extra: Range<usize>,
}

/// Neighbouring panels of output channels over some input rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panels<'a> {
    pub(crate) rows: Rows<'a>,
    pub(crate) places: &'a [PanelPlace],
    /// The bytes from a row's start on at which entries beyond those of its runs read.
    pub(crate) extra: &'a Offsets,
    /// The weights of all entries: four bytes for each column.
    pub(crate) weights: &'a [u8],
    /// For each panel, the order of the bytes within every sixteen of a row; nothing where they are read as they lie.
    pub(crate) orders: &'a [u8],
}

impl<'a> Panels<'a> {
    /// Bytes of an ordered row.
    pub(crate) const fn ordered_bytes(&self) -> usize {
        if self.orders.is_empty() { 0 } else { self.rows.entries() * ENTRY_BYTES }
    }

    /// The first panel's first column within the group.
    pub(crate) fn first(&self) -> usize {
        self.places.first().map_or(0, |place| place.first)
    }

    /// Panics where a kernel of `lanes` columns a vector would leave one of the slices.
    pub(crate) fn check(&self, lanes: usize, outlet: &Outlet<'_>) {
        let (mut row_bytes, entries) = (self.rows.check(), self.rows.entries());
        let mut columns = 0;
        for place in self.places {
            let width = place.vectors * lanes;
            assert!(place.first == self.first() + columns, "panels are neighbours");
            columns += width;
            let bytes = (entries + place.extra.len()) * width * ENTRY_BYTES;
            let weights = place.weights.clone();
            assert!(weights.len() >= bytes && weights.end <= self.weights.len(), "weights of a panel");
            assert!(place.extra.end <= self.extra.all.len(), "extra entries");
        }
        if !self.orders.is_empty() {
            row_bytes = self.ordered_bytes();
            let run = self.rows.run_entries * ENTRY_BYTES;
            assert!(run.is_multiple_of(SHUFFLED), "runs of sixteens");
            assert!(self.orders.len() >= self.places.len() * row_bytes, "orders of the panels' rows");
        }
        let extra = self.extra.all.is_empty() || self.extra.greatest + ENTRY_BYTES <= row_bytes;
        assert!(extra, "places of extra entries");
        let last = self.places.last().map_or(0, |place| place.first - self.first());
        outlet.check(self.rows.starts.len(), last..columns);
    }

    /// One of the panels.
    pub(crate) fn get(&self, index: usize) -> Panel<'a> {
        let place = &self.places[index];
        let ordered = self.ordered_bytes();
        Panel {
            rows: self.rows,
            extra: &self.extra.all[place.extra.clone()],
            weights: &self.weights[place.weights.clone()],
            vectors: place.vectors,
            order: &self.orders[index * ordered..][..ordered],
        }
    }
}

/// One panel of output channels over some input rows.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, reason = "the portable kernel has neither wide panels nor extra entries")
)]
pub(crate) struct Panel<'a> {
    pub(crate) rows: Rows<'a>,
    pub(crate) extra: &'a [u32],
    pub(crate) weights: &'a [u8],
    pub(crate) vectors: usize,
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for kernels that order rows"))]
    pub(crate) order: &'a [u8],
}

/// Bytes at which something is read, of which the greatest is known.
#[derive(Debug, Clone)]
pub(crate) struct Offsets {
    all: Vec<u32>,
    greatest: usize,
}

impl Offsets {
    pub(crate) fn new(all: Vec<u32>) -> Self {
        let greatest = all.iter().copied().max().map_or(0, |at| at as usize);
        Self { all, greatest }
    }

    pub(crate) fn all(&self) -> &[u32] {
        &self.all
    }
}

/// One of the output rows that a depthwise kernel computes.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// For each term of the sum, the byte at which the first pixel's column lies.
    pub(crate) terms: Offsets,
    /// The byte at which the weights of the first term lie.
    pub(crate) weights: usize,
}

/// Sixteen channels of some output rows of a depthwise layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines<'a> {
    pub(crate) rows: &'a [Line],
    /// Interleaved input columns, as long as the format has them.
    pub(crate) columns: &'a [u8],
    /// The weights of each term, as long as a column.
    pub(crate) weights: &'a [u8],
    /// Bytes from one pixel's column to the next one's.
    pub(crate) step: usize,
    /// Output pixels of a row.
    pub(crate) pixels: usize,
    /// Output pixels from one row to the next.
    pub(crate) row_pixels: usize,
}

/// Channels of [`Lines`].
pub(crate) const LINE_CHANNELS: usize = 16;

impl Lines<'_> {
    /// Panics where a kernel for columns of that many bytes would leave one of the slices.
    pub(crate) fn check(&self, column_bytes: usize, outlet: &Outlet<'_>) {
        assert!(self.pixels > 0 && !self.rows.is_empty(), "output pixels");
        let last = (self.pixels - 1) * self.step + column_bytes;
        for row in self.rows {
            assert!(row.terms.greatest + last <= self.columns.len(), "columns of a line");
            let weights = row.weights + row.terms.all.len() * column_bytes;
            assert!(weights <= self.weights.len(), "weights of a line");
        }
        outlet.check((self.rows.len() - 1) * self.row_pixels + self.pixels, 0..LINE_CHANNELS);
    }
}

/// Where a kernel's sums go.
#[derive(Debug)]
pub(crate) enum Outlet<'a> {
    /// As they are, each row as wide as the panel.
    Sums(&'a mut [i32]),
    /// Requantised.
    Bytes(Bytes<'a>),
}

/// The requantised results of a kernel.
#[derive(Debug)]
pub(crate) struct Bytes<'a> {
    /// Of the first row on.
    pub(crate) output: &'a mut [u8],
    /// Bytes from one row to the next.
    pub(crate) stride: usize,
    /// Columns that are results.
    pub(crate) columns: usize,
    /// Added to the sums.
    pub(crate) bias: &'a [i32],
    /// Multiplies them.
    pub(crate) multiplier: &'a [f32],
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for kernels that finish"))]
    pub(crate) quantise: Quantise,
    /// A sum with another tensor, of which the elements lie as the output's do.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for kernels that finish"))]
    pub(crate) add: Option<(Add, &'a [u8])>,
}

impl Outlet<'_> {
    /// The last panel has those columns.
    fn check(&self, rows: usize, last: Range<usize>) {
        let columns = last.end;
        match self {
            Self::Sums(sums) => {
                assert!(last.start == 0 && sums.len() >= rows * columns, "room for the sums of one panel");
            }
            Self::Bytes(bytes) => {
                let elements = (rows - 1) * bytes.stride + bytes.columns;
                let others = bytes.add.is_none_or(|(_, other)| other.len() >= elements);
                let fits = bytes.output.len() >= elements && others;
                let of_last = last.start + 1..=columns;
                assert!(fits && of_last.contains(&bytes.columns), "room for results");
                let parameters = bytes.bias.len().min(bytes.multiplier.len());
                assert!(parameters >= columns, "parameters of columns");
            }
        }
    }
}

/// Computes the sums of panels, row by row; of one panel where they are wanted as they are. The scratch memory is for
/// [`ORDERED_ROWS`] ordered rows.
pub(crate) type PanelKernel = fn(&Panels<'_>, Outlet<'_>, &mut [u8]);

/// Rows that are ordered at once: those of the highest tile.
pub(crate) const ORDERED_ROWS: usize = 8;

/// Computes the sums of lines, pixel by pixel.
pub(crate) type LineKernel = fn(&Lines<'_>, Outlet<'_>);

/// One of the up to four input rows that are interleaved: sixteen bytes in every `stride`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strand<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) stride: usize,
}

/// Interleaves strands into columns, as many as there is room for.
pub(crate) type InterleaveKernel = fn(&[Strand<'_>; 4], &mut [u8]);

/// The kernels of a depthwise layer, for the formats that an instruction set has some for.
pub(crate) fn line(isa: Isa, format: Format) -> Option<(InterleaveKernel, LineKernel)> {
    match (isa, format) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni, Format::Pairs16) => {
            Some((crate::x86_64::interleave_pairs16, crate::x86_64::line_avx2))
        }
        #[cfg(target_arch = "x86_64")]
        (Isa::AvxVnni, Format::Quads8) => {
            Some((crate::x86_64::interleave_quads8, crate::x86_64::line_avx_vnni))
        }
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512Vnni, Format::Quads8) => {
            Some((crate::x86_64::interleave_quads8, crate::x86_64::line_avx512_vnni))
        }
        #[cfg(target_arch = "aarch64")]
        (Isa::NeonDotprod, Format::Signed8) => {
            Some((crate::aarch64::interleave_signed8, crate::aarch64::line_dotprod))
        }
        #[cfg(target_arch = "aarch64")]
        (Isa::NeonI8mm, Format::Quads8) => {
            Some((crate::aarch64::interleave_quads8, crate::aarch64::line_i8mm))
        }
        #[cfg(target_arch = "aarch64")]
        (Isa::Neon | Isa::NeonDotprod | Isa::NeonI8mm, Format::Words16) => {
            Some((interleave_words16, crate::aarch64::line_neon))
        }
        (Isa::Generic, Format::Words16) => Some((interleave_words16, line_words16)),
        _ => None,
    }
}

/// Whether panel and line kernels requantise, too.
pub(crate) fn kernels_finish(isa: Isa) -> bool {
    matches!(isa, Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni)
}

/// Turns sums into results.
pub(crate) type FinishKernel = fn(&Block<'_>, &Columns<'_>, &Finish, Place<'_, '_>);

/// Whether this build has kernels for an instruction set.
pub(crate) fn exist(isa: Isa) -> bool {
    [Format::Pairs16, Format::Words16].iter().any(|format| line(isa, *format).is_some())
}

/// The kernel of an instruction set for a format, if it has one.
pub(crate) fn panel(isa: Isa, format: Format) -> Option<PanelKernel> {
    Some(match (isa, format) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, Format::Pairs16) => crate::x86_64::panel_avx2_pairs16,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, Format::Quads8 | Format::Shuffled8) => crate::x86_64::panel_avx2_quads8,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, Format::Signed8) => crate::x86_64::panel_avx2_signed8,
        #[cfg(target_arch = "x86_64")]
        (Isa::AvxVnni, Format::Quads8) => crate::x86_64::panel_avx_vnni,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512Vnni, Format::Quads8) => crate::x86_64::panel_avx512_vnni,
        #[cfg(target_arch = "aarch64")]
        (Isa::Neon, Format::Pairs16) => crate::aarch64::panel_neon,
        #[cfg(target_arch = "aarch64")]
        (Isa::NeonDotprod, Format::Signed8) => crate::aarch64::panel_dotprod,
        #[cfg(target_arch = "aarch64")]
        (Isa::NeonI8mm, Format::Quads8) => crate::aarch64::panel_i8mm,
        (Isa::Generic, Format::Pairs16) => panel_pairs16,
        _ => return None,
    })
}

/// The finishing of an instruction set.
pub(crate) fn finish(isa: Isa) -> FinishKernel {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::AvxVnni => crate::x86_64::finish_avx2,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => crate::x86_64::finish_avx512,
        // Fused multiplication is in every aarch64 build.
        Isa::Neon | Isa::NeonDotprod | Isa::NeonI8mm => finish::finish::<true>,
        _ => finish::finish::<false>,
    }
}

const LANES: usize = 8;

fn panel_pairs16(panels: &Panels<'_>, outlet: Outlet<'_>, _: &mut [u8]) {
    panels.check(LANES, &outlet);
    let panel = panels.get(0);
    let weights: &[[[i16; 2]; LANES]] = bytemuck::cast_slice(panel.weights);
    let Rows { input, starts, runs, run_entries } = panel.rows;
    for (row, sums) in sums_of(outlet).chunks_exact_mut(LANES).take(starts.len()).enumerate() {
        let start = starts.of(row);
        let mut acc = [0i32; LANES];
        for (run, weights) in runs.all().iter().zip(weights.chunks_exact(run_entries)) {
            let row = &input[start + *run as usize..][..run_entries * ENTRY_BYTES];
            let row: &[[i16; 2]] = bytemuck::cast_slice(row);
            for (a, weights) in row.iter().zip(weights) {
                let (a0, a1) = (i32::from(a[0]), i32::from(a[1]));
                for (acc, w) in acc.iter_mut().zip(weights) {
                    *acc += a0 * i32::from(w[0]) + a1 * i32::from(w[1]);
                }
            }
        }
        sums.copy_from_slice(&acc);
    }
}

/// The room for sums of kernels that leave requantisation to others.
pub(crate) fn sums_of(outlet: Outlet<'_>) -> &mut [i32] {
    match outlet {
        Outlet::Sums(sums) => sums,
        Outlet::Bytes(_) => unreachable!("only kernels that finish get an outlet of bytes"),
    }
}

/// Columns of one i16 of each channel, of the first strand.
fn interleave_words16(strands: &[Strand<'_>; 4], columns: &mut [u8]) {
    let Strand { bytes, stride } = strands[0];
    let columns: &mut [[u16; LINE_CHANNELS]] = bytemuck::cast_slice_mut(columns);
    for (i, column) in columns.iter_mut().enumerate() {
        for (to, from) in column.iter_mut().zip(&bytes[i * stride..][..LINE_CHANNELS]) {
            *to = u16::from(*from);
        }
    }
}

fn line_words16(lines: &Lines<'_>, outlet: Outlet<'_>) {
    const BYTES: usize = Format::Words16.column_bytes();
    lines.check(BYTES, &outlet);
    let columns: &[[i16; LINE_CHANNELS]] = bytemuck::cast_slice(lines.columns);
    let (all_sums, _) = sums_of(outlet).as_chunks_mut::<LINE_CHANNELS>();
    for (row, line) in lines.rows.iter().enumerate() {
        let weights: &[[i16; LINE_CHANNELS]] = bytemuck::cast_slice(&lines.weights[line.weights..]);
        let sums = all_sums[row * lines.row_pixels..].iter_mut();
        for (pixel, sums) in sums.take(lines.pixels).enumerate() {
            let mut acc = [0i32; LINE_CHANNELS];
            for (at, weights) in line.terms.all().iter().zip(weights) {
                let column = &columns[(pixel * lines.step + *at as usize) / BYTES];
                for ((acc, value), weight) in acc.iter_mut().zip(column).zip(weights) {
                    *acc += i32::from(*value) * i32::from(*weight);
                }
            }
            *sums = acc;
        }
    }
}

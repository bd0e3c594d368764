//! The run of dense layers: input rows times panels of weights, group by group.

use super::{
    Places, Task,
    finish::{Block, Finish, Place},
    kernel::{self, Bytes, ORDERED_ROWS, Offsets, Outlet, PanelKernel, PanelPlace, Panels, Rows, Starts},
    layout::{ENTRY_BYTES, Format, Layout},
    pack::{Limit, Matrix, PackedPanels},
    padded,
    spec::{QConvSpec, QSlice},
    window::Window,
};
use crate::{geometry::Conv2d, isa::Isa, packed::Packed};
use std::ops::Range;

/// Output pixels of a block: enough of them to pay for reading the weights again, and where rows are short, for what
/// else a panel costs.
const BLOCK_PIXELS: usize = 24;
const MOST_BLOCK_PIXELS: usize = 96;
const BLOCK_BYTES: usize = 8 << 10;

/// Blocks to be had at least, where that leaves them as many pixels.
const LEAST_BLOCKS: usize = 8;

/// Rows of most kernels' tiles.
const TILE: usize = 4;

/// A packed dense layer.
#[derive(Debug, Clone)]
pub(super) struct Dense {
    layout: Layout,
    kernel: PanelKernel,
    blocks: Blocks,
    window: Window,
    panels: Vec<PanelPlace>,
    weights: Packed,
    /// u32: of each panel its count of extra entries, then the offsets of all in a row of K.
    extra: Packed,
    /// The same offsets, from where a kernel's rows start on.
    extra_places: Offsets,
    /// Of each panel, its order of the elements of a row.
    shuffles: Packed,
}

impl Dense {
    pub(super) fn new(isa: Isa, spec: &QConvSpec<'_>) -> Self {
        let (layout, packed) = choose(isa, spec);
        let extra: Vec<u32> = packed.extra_counts.into_iter().chain(packed.extra_offsets).collect();
        let parts = [packed.weights, Packed::of(&extra), Packed::of(&packed.shuffles)];
        let dense = Self::from_parts(isa, &spec.geometry, layout.format, parts);
        dense.unwrap_or_else(|| unreachable!("freshly packed weights fit their layout"))
    }

    /// A layer of packed parts; `None` where they do not fit the geometry.
    pub(super) fn from_parts(
        isa: Isa,
        geometry: &Conv2d,
        format: Format,
        [weights, extra, shuffles]: [Packed; 3],
    ) -> Option<Self> {
        let kernel = kernel::panel(isa, format)?;
        let layout = Layout::new(isa, format, geometry);
        let (panels, offsets) = places(&layout, weights.as_bytes().len(), extra.elements())?;
        if shuffles.as_bytes().len() != panels.len() * layout.shuffle_bytes() {
            return None;
        }
        let window = Window::new(geometry, &layout);
        let blocks = Blocks::new(geometry, &layout, window.is_copied());
        let extra_places = match layout.shuffle_bytes() {
            0 => offsets.iter().map(|at| window.place(&layout, *at)).collect(),
            _ => offsets.to_vec(),
        };
        let extra_places = Offsets::new(extra_places);
        Some(Self { layout, kernel, blocks, window, panels, weights, extra, extra_places, shuffles })
    }

    pub(super) fn format(&self) -> Format {
        self.layout.format
    }

    pub(super) fn parts(&self) -> [Packed; 3] {
        [self.weights.clone(), self.extra.clone(), self.shuffles.clone()]
    }

    pub(super) fn input_shift(&self) -> i32 {
        if self.layout.format == Format::Signed8 { 128 } else { 0 }
    }

    pub(super) fn places(&self) -> Places {
        Places { columns: self.layout.columns, padded: self.layout.padded_columns() }
    }

    pub(super) fn units(&self, geometry: &Conv2d) -> usize {
        match geometry.out_pixels() {
            0 => 0,
            1 => self.panels.len(),
            _ => self.blocks.count,
        }
    }

    /// Output elements before those of a unit.
    pub(super) fn output_before(&self, geometry: &Conv2d, unit: usize) -> usize {
        if geometry.out_pixels() != 1 {
            return self.blocks.first(unit) * geometry.out_c;
        }
        let (group, panel) = (unit / self.layout.panels(), unit % self.layout.panels());
        group * self.layout.columns + self.layout.panel(panel).0 * self.layout.lanes
    }

    fn starts_bytes(&self) -> usize {
        padded(self.blocks.most() * size_of::<u32>())
    }

    fn ordered_bytes(&self) -> usize {
        padded(ORDERED_ROWS * self.layout.shuffle_bytes())
    }

    pub(super) fn scratch_bytes(&self, geometry: &Conv2d) -> usize {
        let sums = self.blocks.most() * self.layout.widest() * size_of::<i32>();
        let band = self.window.band_bytes(geometry, self.blocks.most());
        band + self.starts_bytes() + self.ordered_bytes() + padded(sums)
    }

    pub(super) fn run(&self, isa: Isa, task: &Task<'_>, output: &mut QSlice<'_>, scratch: &mut [u8]) {
        let band = self.window.band_bytes(task.geometry, self.blocks.most());
        let (band, scratch) = scratch.split_at_mut(band);
        let (starts, scratch) = scratch.split_at_mut(self.starts_bytes());
        let starts = &mut bytemuck::cast_slice_mut(starts)[..self.blocks.most()];
        let (ordered, sums) = scratch.split_at_mut(self.ordered_bytes());
        let sums = &mut sums[..self.blocks.most() * self.layout.widest() * size_of::<i32>()];
        let sums = bytemuck::cast_slice_mut(sums);
        let mut work = Work { isa, dense: self, task, band, starts, ordered, sums, first: 0 };
        if task.geometry.out_pixels() == 1 {
            work.single_pixel(output);
        } else {
            for pixels in self.blocks.of(&task.units) {
                work.pixels(pixels, output);
            }
        }
    }
}

/// The format that is fastest for the weights, with the weights in it.
fn choose(isa: Isa, spec: &QConvSpec<'_>) -> (Layout, PackedPanels) {
    let (format, limit) = match isa {
        Isa::Generic | Isa::Neon => (Format::Pairs16, Limit::Byte),
        Isa::AvxVnni | Isa::Avx512Vnni | Isa::NeonI8mm => (Format::Quads8, Limit::Byte),
        Isa::NeonDotprod => (Format::Signed8, Limit::Byte),
        Isa::Avx2 => return choose_avx2(spec),
    };
    let layout = Layout::new(isa, format, &spec.geometry);
    (layout, Matrix::new(&layout, spec).pack(&layout, limit))
}

/// AVX2 multiplies bytes in 16 bits, where great weights side by side do not fit: they need extra entries, or another
/// order, or words instead of bytes. The costs are those of the instructions for four elements of K.
fn choose_avx2(spec: &QConvSpec<'_>) -> (Layout, PackedPanels) {
    let layout = |format| Layout::new(Isa::Avx2, format, &spec.geometry);
    let single = spec.geometry.out_pixels() == 1;
    let (quads, shuffled) = (layout(Format::Quads8), layout(Format::Shuffled8));
    let mut matrix = Matrix::new(&quads, spec);
    matrix.find_misfits();
    let extra = matrix.extra_entries(&quads, Limit::ProductPair);
    if extra == 0 {
        return (quads, matrix.pack(&quads, Limit::ProductPair));
    }
    let panels = quads.panels() * quads.groups;
    let quads_cost = 12 * (quads.entries() * panels + extra);
    matrix = matrix.relaid(&quads, &shuffled, spec);
    matrix.shuffle();
    let extra = matrix.extra_entries(&shuffled, Limit::ProductPair);
    let shuffled_cost = 13 * (shuffled.entries() * panels + extra);
    let bytes = quads_cost.min(shuffled_cost);
    // A single row's time is made of reading its weights: words are twice as many bytes.
    let words = if single { 32 } else { 16 } * quads.entries() * panels;
    let (layout, limit) = if single && 16 * quads.entries() * panels < bytes {
        (layout(Format::Signed8), Limit::Symmetric)
    } else if words < bytes {
        (layout(Format::Pairs16), Limit::Byte)
    } else if quads_cost == bytes {
        (quads, Limit::ProductPair)
    } else {
        (shuffled, Limit::ProductPair)
    };
    if layout.format != Format::Shuffled8 {
        matrix = matrix.relaid(&shuffled, &layout, spec);
    }
    (layout, matrix.pack(&layout, limit))
}

/// How output pixels are cut into blocks: an even count of them where there are several, since threads share them out.
#[derive(Debug, Clone, Copy)]
struct Blocks {
    pixels: usize,
    count: usize,
    /// Blocks that are run together where one thread has several.
    together: usize,
}

impl Blocks {
    fn new(geometry: &Conv2d, layout: &Layout, copied: bool) -> Self {
        let pixels = geometry.out_pixels();
        // Several windows read a copied row; where each reads its own, rows are to stay in the first cache.
        let shared = copied && geometry.kernel_h > 1;
        let most = if shared { MOST_BLOCK_PIXELS } else { BLOCK_BYTES / layout.row_bytes() };
        let most = most.clamp(BLOCK_PIXELS, MOST_BLOCK_PIXELS);
        let block = most.min((pixels / LEAST_BLOCKS).max(BLOCK_PIXELS));
        let count = (pixels + block / 2) / block;
        let count = if count > 1 { count.next_multiple_of(2) } else { 1 };
        // Small maps have many weights, which are better read once.
        let together = if pixels <= MOST_BLOCK_PIXELS { count } else { (most * count / pixels).max(1) };
        Self { pixels, count, together }
    }

    /// The first pixel of a block: whole tiles before it.
    fn first(&self, block: usize) -> usize {
        if block >= self.count { self.pixels } else { block * self.pixels / self.count / TILE * TILE }
    }

    /// The pixels that are run together for some units.
    fn of(self, units: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let (end, together) = (units.end, self.together);
        units
            .clone()
            .step_by(together)
            .map(move |unit| self.first(unit)..self.first((unit + together).min(end)))
    }

    /// Pixels that are run together at most, or more.
    fn most(&self) -> usize {
        (self.pixels * self.together / self.count + TILE).min(self.pixels)
    }
}

/// Where each panel lies, and the offsets of all extra entries.
fn places<'a>(layout: &Layout, weights: usize, extra: &'a [u32]) -> Option<(Vec<PanelPlace>, &'a [u32])> {
    let count = layout.groups * layout.panels();
    let (counts, offsets) = extra.split_at_checked(count)?;
    let mut places = Vec::with_capacity(count);
    let (mut weights_at, mut extra_at) = (0usize, 0usize);
    for (index, extras) in counts.iter().enumerate() {
        let (first, vectors) = layout.panel(index % layout.panels());
        let entries = layout.entries().checked_add(*extras as usize)?;
        let bytes = entries.checked_mul(vectors * layout.lanes * ENTRY_BYTES)?;
        let (weights_end, extra_end) =
            (weights_at.checked_add(bytes)?, extra_at.checked_add(*extras as usize)?);
        places.push(PanelPlace {
            first: first * layout.lanes,
            vectors,
            weights: weights_at..weights_end,
            extra: extra_at..extra_end,
        });
        (weights_at, extra_at) = (weights_end, extra_end);
    }
    let in_row = |at: &u32| *at as usize + ENTRY_BYTES <= layout.row_bytes();
    let fits = weights_at == weights && extra_at == offsets.len() && offsets.iter().all(in_row);
    fits.then_some((places, offsets))
}

/// One run on one thread.
struct Work<'a> {
    isa: Isa,
    dense: &'a Dense,
    task: &'a Task<'a>,
    /// Input rows with their padding, where they are copied.
    band: &'a mut [u8],
    /// Where each pixel's row starts, in the band or the input, from byte `first` on.
    starts: &'a mut [u32],
    ordered: &'a mut [u8],
    sums: &'a mut [i32],
    first: usize,
}

impl Work<'_> {
    fn pixels(&mut self, pixels: Range<usize>, output: &mut QSlice<'_>) {
        let layout = &self.dense.layout;
        self.prepare(pixels.clone());
        for group in 0..layout.groups {
            self.panels(group, 0..layout.panels(), pixels.clone(), output);
        }
    }

    fn single_pixel(&mut self, output: &mut QSlice<'_>) {
        let layout = &self.dense.layout;
        self.prepare(0..1);
        let Range { mut start, end } = self.task.units.clone();
        while start < end {
            let (group, first) = (start / layout.panels(), start % layout.panels());
            let last = (first + end - start).min(layout.panels());
            self.panels(group, first..last, 0..1, output);
            start += last - first;
        }
    }

    fn prepare(&mut self, pixels: Range<usize>) {
        let input = (self.task.input, self.task.input_zero);
        let to = (&mut *self.band, &mut *self.starts);
        self.first = self.dense.window.prepare(self.task.geometry, input, pixels, to);
    }

    /// Runs some panels of a group over the pixels that are prepared.
    fn panels(&mut self, group: usize, panels: Range<usize>, pixels: Range<usize>, output: &mut QSlice<'_>) {
        let (dense, task) = (self.dense, self.task);
        let layout = &dense.layout;
        let input = if dense.window.is_copied() { &*self.band } else { task.input };
        let starts = match dense.window.stride {
            Some(stride) => Starts::Spaced { count: pixels.len(), stride },
            None => Starts::At(&self.starts[..pixels.len()]),
        };
        let start = self.first + group * layout.in_c * layout.format.element_bytes();
        let before = group * layout.panels();
        let places = before + panels.start..before + panels.end;
        let bytes = layout.shuffle_bytes();
        let panels = Panels {
            rows: Rows {
                input: &input[start..],
                starts,
                runs: &dense.window.runs,
                run_entries: layout.run_entries(),
            },
            orders: &dense.shuffles.as_bytes()[places.start * bytes..places.end * bytes],
            places: &dense.panels[places],
            extra: &dense.extra_places,
            weights: dense.weights.as_bytes(),
        };
        let parameters = task.columns.from(group * layout.padded_columns() + panels.first());
        let out_c = task.geometry.out_c;
        let start = pixels.start * out_c + group * layout.columns + panels.first() - task.start;
        if let (true, Finish::Quantised(quantise, add), QSlice::U8(output)) =
            (kernel::kernels_finish(self.isa), task.finish, &mut *output)
        {
            let width: usize = panels.places.iter().map(|place| place.vectors * layout.lanes).sum();
            let bytes = Bytes {
                output: &mut output[start..],
                stride: out_c,
                columns: width.min(layout.columns - panels.first()),
                bias: parameters.bias,
                multiplier: parameters.multiplier,
                quantise: *quantise,
                add: add.map(|add| (add, &task.residual[start..])),
            };
            return (dense.kernel)(&panels, Outlet::Bytes(bytes), self.ordered);
        }
        for (index, place) in panels.places.iter().enumerate() {
            let orders = &panels.orders[index * bytes..][..bytes];
            let panel = Panels { places: std::slice::from_ref(place), orders, ..panels };
            (dense.kernel)(&panel, Outlet::Sums(self.sums), self.ordered);
            let width = place.vectors * layout.lanes;
            let columns = width.min(layout.columns - place.first);
            let block = Block { sums: self.sums, stride: width, columns, rows: pixels.len() };
            let first = place.first - panels.first();
            let to = Place { output, start: start + first, stride: out_c, residual: task.residual };
            kernel::finish(self.isa)(&block, &parameters.from(first), task.finish, to);
        }
    }
}

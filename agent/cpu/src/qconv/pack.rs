//! Packing of dense weights.
//!
//! A panel holds its main entries and, after them, extra ones that read input bytes again: they take what of a weight
//! an entry cannot hold. Where pairs of weights are too great, another order of K may pair them better.

use super::{
    layout::{ENTRY_BYTES, Format, Layout, SHUFFLED},
    order,
    spec::QConvSpec,
};
use crate::packed::Packed;
use std::ops::RangeInclusive;

/// Columns that are turned at once, and elements of each.
const TILE: usize = 8;

/// The packed weights of all panels, one group's after the other's.
#[derive(Debug)]
pub(crate) struct PackedPanels {
    pub(crate) weights: Packed,
    /// For each panel, where each element of its order lies within its sixteen.
    pub(crate) shuffles: Vec<u8>,
    /// For each panel, its count of extra entries.
    pub(crate) extra_counts: Vec<u32>,
    /// For each extra entry, the byte of the input row at which it reads.
    pub(crate) extra_offsets: Vec<u32>,
}

/// What an entry may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Any i8.
    Byte,
    /// Any i8 but -128.
    Symmetric,
    /// i8 of which no pair's product with u8 leaves i16.
    ProductPair,
}

/// The greatest magnitude of the sum of two weights whose products with u8 add up within i16.
pub(super) const MOST_OF_PAIR: i16 = i16::MAX / 255;

impl Limit {
    /// The part of four remaining weights that one entry takes.
    fn part(self, rest: [i16; 4]) -> [i16; 4] {
        match self {
            Self::Byte => rest.map(|w| w.clamp(-128, 127)),
            Self::Symmetric => rest.map(|w| w.clamp(-127, 127)),
            Self::ProductPair => {
                let (a, b) = (pair(rest[0], rest[1]), pair(rest[2], rest[3]));
                [a.0, a.1, b.0, b.1]
            }
        }
    }

    /// Weights of which an entry holds any that stand alone.
    const fn range(self) -> RangeInclusive<i16> {
        match self {
            Self::Symmetric => -127..=127,
            Self::Byte | Self::ProductPair => -128..=127,
        }
    }
}

fn pair(a: i16, b: i16) -> (i16, i16) {
    let (a, b) = (a.clamp(-128, 127), b.clamp(-128, 127));
    if a > 0 && b > 0 && a + b > MOST_OF_PAIR {
        (a, MOST_OF_PAIR - a)
    } else if a < 0 && b < 0 && a + b < -MOST_OF_PAIR {
        (a, -MOST_OF_PAIR - a)
    } else {
        (a, b)
    }
}

/// Elements from the start of one run of K to that of the next.
const fn spacing(layout: &Layout) -> usize {
    layout.run_entries() * layout.format.elements()
}

/// The weights of a layer, panel by panel, as they are packed from.
pub(crate) struct Matrix {
    panels: Vec<Columns>,
    /// The least and the greatest weight.
    range: (i16, i16),
}

impl Matrix {
    /// The weights as a layout has them, pairs that are too great not yet found.
    pub(crate) fn new(layout: &Layout, spec: &QConvSpec<'_>) -> Self {
        let groups = 0..layout.groups;
        let places = groups.flat_map(|group| (0..layout.panels()).map(move |panel| (group, panel)));
        let range = spec.weights.iter().fold((0, 0), |(least, most), w| (least.min(*w), most.max(*w)));
        Self { panels: places.map(|place| Columns::new(layout, spec, place)).collect(), range }
    }

    /// The weights as another layout of the layer has them, in the order of K.
    pub(crate) fn relaid(mut self, from: &Layout, to: &Layout, spec: &QConvSpec<'_>) -> Self {
        if from.runs == 1 || spacing(from) == spacing(to) {
            self.panels.iter_mut().for_each(|panel| panel.order.clear());
        } else {
            self = Self::new(to, spec);
        }
        self.find_misfits();
        self
    }

    /// Extra entries of all panels, in the order of K that is set.
    pub(crate) fn extra_entries(&self, layout: &Layout, limit: Limit) -> usize {
        let small = self.are_small(limit);
        let of_panel = |panel: &Columns| -> usize {
            (0..layout.entries()).map(|entry| panel.extra_entries(entry, limit, small)).sum()
        };
        self.panels.iter().map(of_panel).sum()
    }

    /// Whether only pairs of weights can be too great for an entry.
    fn are_small(&self, limit: Limit) -> bool {
        limit.range().contains(&self.range.0) && limit.range().contains(&self.range.1)
    }

    /// Finds the pairs that are too great, in the order of K.
    pub(crate) fn find_misfits(&mut self) {
        self.panels.iter_mut().for_each(Columns::find_misfits);
    }

    /// Puts the elements of every sixteen in the order that pairs them best.
    pub(crate) fn shuffle(&mut self) {
        self.panels.iter_mut().for_each(Columns::shuffle);
    }

    /// Packs every panel; `limit` matters to formats of bytes.
    pub(crate) fn pack(&self, layout: &Layout, limit: Limit) -> PackedPanels {
        let bytes = layout.format != Format::Pairs16;
        let extra = if bytes { self.extra_entries(layout, limit) } else { 0 };
        let (entries, small) = (layout.entries(), self.are_small(limit));
        let main: usize = self.panels.iter().map(|panel| entries * panel.width * ENTRY_BYTES).sum();
        let widest = self.panels.iter().map(|panel| panel.width).max().unwrap_or_default();
        let (mut counts, mut offsets, mut len) = (Vec::new(), Vec::new(), 0);
        // Panels differ in width: there may be less of extra entries than this.
        let packed = Packed::filled(main + extra * widest * ENTRY_BYTES, |to| {
            for panel in &self.panels {
                let before = offsets.len();
                let (here, rest) = to[len..].split_at_mut(entries * panel.width * ENTRY_BYTES);
                len += here.len();
                if bytes {
                    len += panel.pack_bytes((limit, small), here, rest, &mut offsets);
                } else {
                    panel.pack_words(here);
                }
                counts.push((offsets.len() - before) as u32);
            }
        });
        let shuffles = self.panels.iter().flat_map(|panel| panel.order.iter().copied()).collect();
        PackedPanels {
            weights: packed.shortened(len),
            shuffles,
            extra_counts: counts,
            extra_offsets: offsets,
        }
    }
}

/// The weights of one panel.
struct Columns {
    width: usize,
    /// `[element][column]`, elements in the order (kernel row, kernel column, input channel), each run padded to whole
    /// entries and all to sixteens.
    weights: Vec<i16>,
    /// For each place within its sixteen, the element there; empty where they lie as they are.
    order: Vec<u8>,
    /// For each pair of places, whether its weights are too great for a product of pairs; empty where nobody asked.
    misfits: Vec<bool>,
}

impl Columns {
    fn new(layout: &Layout, spec: &QConvSpec<'_>, (group, panel): (usize, usize)) -> Self {
        let (first, vectors) = layout.panel(panel);
        let (first, width) = (first * layout.lanes, vectors * layout.lanes);
        let taps = layout.runs * layout.run_taps;
        let (run, column_weights) = (spacing(layout), layout.column_weights());
        let mut weights = vec![0; width * (layout.runs * run).next_multiple_of(SHUFFLED)];
        let columns = group * layout.columns + first..(group + 1) * layout.columns;
        let columns: Vec<usize> = columns.take(width).collect();
        // Eight columns at a time, so that what is read and written stays in the cache.
        let mut lines = vec![0; if taps == 1 { 0 } else { TILE * layout.runs * run }];
        for (first, columns) in (0..).step_by(TILE).zip(columns.chunks(TILE)) {
            let column = |c: usize| &spec.weights[c * column_weights..][..column_weights];
            if taps == 1 {
                let lines: Vec<&[i16]> = columns.iter().map(|c| column(*c)).collect();
                transpose(&lines, &mut weights, (width, first));
                continue;
            }
            for (line, c) in lines.chunks_exact_mut(layout.runs * run).zip(columns) {
                for tap in 0..taps {
                    let at = tap / layout.run_taps * run + tap % layout.run_taps * layout.in_c;
                    let from = column(*c)[tap..].iter().step_by(taps);
                    line[at..at + layout.in_c].iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                }
            }
            let lines: Vec<&[i16]> = lines.chunks_exact(layout.runs * run).take(columns.len()).collect();
            transpose(&lines, &mut weights, (width, first));
        }
        Self { width, weights, order: Vec::new(), misfits: Vec::new() }
    }

    fn row(&self, k: usize) -> &[i16] {
        &self.weights[k * self.width..][..self.width]
    }

    /// The element at a place of the order.
    fn at(&self, place: usize) -> &[i16] {
        match self.order.get(place) {
            Some(element) => self.row(place / SHUFFLED * SHUFFLED + usize::from(*element)),
            None => self.row(place),
        }
    }

    fn entry(&self, entry: usize) -> [&[i16]; 4] {
        std::array::from_fn(|k| self.at(entry * 4 + k))
    }

    fn find_misfits(&mut self) {
        let pairs = 0..self.weights.len() / self.width / 2;
        self.misfits = pairs.map(|pair| !order::fit(self.at(pair * 2), self.at(pair * 2 + 1))).collect();
    }

    fn shuffle(&mut self) {
        let elements = self.weights.len() / self.width;
        self.order = (0..elements).map(|place| (place % SHUFFLED) as u8).collect();
        for block in (0..elements).step_by(SHUFFLED) {
            let pairs = block / 2..(block + SHUFFLED) / 2;
            if !self.misfits[pairs.clone()].contains(&true) {
                continue;
            }
            let order = order::of_block(&std::array::from_fn(|k| self.row(block + k)));
            self.order[block..block + SHUFFLED].copy_from_slice(&order);
            for pair in pairs {
                self.misfits[pair] = !order::fit(self.at(pair * 2), self.at(pair * 2 + 1));
            }
        }
    }

    /// Whether one entry holds its four elements of every column whole; `small` as of [`Matrix::are_small`].
    fn holds(&self, entry: usize, limit: Limit, small: bool) -> bool {
        let fits = limit != Limit::ProductPair || !self.misfits[entry * 2..entry * 2 + 2].contains(&true);
        fits && (small || self.entry(entry).iter().all(|row| row.iter().all(|w| limit.range().contains(w))))
    }

    /// How many entries more than one four elements need.
    fn extra_entries(&self, entry: usize, limit: Limit, small: bool) -> usize {
        if self.holds(entry, limit, small) {
            return 0;
        }
        if small {
            // What of a pair is too much is small enough for the next entry.
            return 1;
        }
        let rows = self.entry(entry);
        let column = |c: usize| {
            let mut rest = rows.map(|row| row[c]);
            let mut entries = 0usize;
            while rest != [0; 4] {
                let part = limit.part(rest);
                rest.iter_mut().zip(part).for_each(|(rest, part)| *rest -= part);
                entries += 1;
            }
            entries.saturating_sub(1)
        };
        (0..self.width).map(column).max().unwrap_or_default()
    }

    fn pack_words(&self, into: &mut [u8]) {
        for (pair, into) in into.chunks_exact_mut(self.width * ENTRY_BYTES).enumerate() {
            let (a, b) = (self.row(pair * 2), self.row(pair * 2 + 1));
            for ((into, a), b) in into.as_chunks_mut::<4>().0.iter_mut().zip(a).zip(b) {
                let ([a, c], [b, d]) = (a.to_le_bytes(), b.to_le_bytes());
                *into = [a, c, b, d];
            }
        }
    }

    /// Packs main entries, and into `rest` extra ones, adding at which bytes these read a row; returns their bytes.
    fn pack_bytes(
        &self,
        (limit, small): (Limit, bool),
        into: &mut [u8],
        rest: &mut [u8],
        offsets: &mut Vec<u32>,
    ) -> usize {
        let mut extra = rest.chunks_exact_mut(self.width * ENTRY_BYTES);
        let before = offsets.len();
        let mut rests = Vec::new();
        for (entry, into) in into.chunks_exact_mut(self.width * ENTRY_BYTES).enumerate() {
            let rows = self.entry(entry);
            if self.holds(entry, limit, small) {
                take_whole(rows, into);
                continue;
            }
            rests.clear();
            rests.extend((0..self.width).map(|c| rows.map(|row| row[c])));
            take(limit, &mut rests, into);
            while rests.iter().any(|rest| *rest != [0; 4])
                && let Some(into) = extra.next()
            {
                take(limit, &mut rests, into);
                offsets.push((entry * ENTRY_BYTES) as u32);
            }
        }
        (offsets.len() - before) * self.width * ENTRY_BYTES
    }
}

/// Writes lines as the columns, from `first` on, of rows that are `width` wide.
fn transpose(lines: &[&[i16]], rows: &mut [i16], (width, first): (usize, usize)) {
    let len = lines.first().map_or(0, |line| line.len());
    let mut whole = 0;
    if let Ok(lines) = <[&[i16]; TILE]>::try_from(lines) {
        let lines = lines.map(|line| line.as_chunks::<TILE>().0);
        whole = len - len % TILE;
        for (block, rows) in rows.chunks_exact_mut(width * TILE).take(len / TILE).enumerate() {
            let tile = lines.map(|line| line[block]);
            for (k, row) in rows.chunks_exact_mut(width).enumerate() {
                row[first..first + TILE].copy_from_slice(&tile.map(|line| line[k]));
            }
        }
    }
    for (k, row) in rows.chunks_exact_mut(width).enumerate().take(len).skip(whole) {
        row[first..].iter_mut().zip(lines).for_each(|(to, line)| *to = line[k]);
    }
}

/// Weights that an entry holds whole.
fn take_whole([a, b, c, d]: [&[i16]; 4], into: &mut [u8]) {
    let byte = |weight: i16| u32::from(weight as u8);
    for (at, into) in into.as_chunks_mut::<4>().0.iter_mut().enumerate().take(a.len()) {
        *into = (byte(a[at]) | byte(b[at]) << 8 | byte(c[at]) << 16 | byte(d[at]) << 24).to_le_bytes();
    }
}

fn take(limit: Limit, rests: &mut [[i16; 4]], into: &mut [u8]) {
    for (rest, into) in rests.iter_mut().zip(into.as_chunks_mut::<4>().0) {
        let part = limit.part(*rest);
        *into = part.map(|w| w as i8 as u8);
        rest.iter_mut().zip(part).for_each(|(rest, part)| *rest -= part);
    }
}

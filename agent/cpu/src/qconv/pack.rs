//! Packing of dense weights.
//!
//! A panel holds its main entries and, after them, extra ones that read input bytes again: they take what of a weight
//! an entry cannot hold. Where pairs of weights are too great, another order of K may pair them better.

use super::{
    layout::{ENTRY_BYTES, Format, Layout, SHUFFLED},
    order,
    spec::QConvSpec,
};

/// The packed weights of all panels, one group's after the other's.
#[derive(Debug, Default)]
pub(crate) struct PackedPanels {
    pub(crate) weights: Vec<u8>,
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

/// Packs every panel; `limit` matters to formats of bytes.
pub(crate) fn pack(layout: &Layout, limit: Limit, spec: &QConvSpec<'_>) -> PackedPanels {
    let mut packed = PackedPanels::default();
    for group in 0..layout.groups {
        for panel in 0..layout.panels() {
            pack_panel(layout, limit, spec, (group, panel), &mut packed);
        }
    }
    packed
}

/// The weights of one panel.
struct Columns {
    width: usize,
    /// Elements of K, padded to those of whole entries.
    k: usize,
    /// `[column][element]`, elements in the order (kernel row, kernel column, input channel), each run padded to whole entries.
    weights: Vec<i16>,
}

impl Columns {
    fn new(layout: &Layout, spec: &QConvSpec<'_>, (group, panel): (usize, usize)) -> Self {
        let (first, vectors) = layout.panel(panel);
        let (first, width) = (first * layout.lanes, vectors * layout.lanes);
        let (k, run) =
            (layout.entries() * layout.format.elements(), layout.run_entries() * layout.format.elements());
        let taps = layout.runs * layout.run_taps;
        let mut weights = vec![0; width * k];
        let columns = (group * layout.columns + first..(group + 1) * layout.columns).take(width);
        for (to, column) in weights.chunks_exact_mut(k).zip(columns) {
            let from = &spec.weights[column * layout.column_weights()..][..layout.column_weights()];
            for tap in 0..taps {
                let at = tap / layout.run_taps * run + tap % layout.run_taps * layout.in_c;
                for (to, from) in to[at..][..layout.in_c].iter_mut().zip(from[tap..].iter().step_by(taps)) {
                    *to = *from;
                }
            }
        }
        Self { width, k, weights }
    }

    fn column(&self, column: usize) -> &[i16] {
        &self.weights[column * self.k..][..self.k]
    }

    /// Puts the elements of every sixteen in the order that pairs them best, and returns it.
    fn shuffle(&mut self) -> Vec<u8> {
        let mut orders = Vec::with_capacity(self.k);
        for at in (0..self.k).step_by(SHUFFLED) {
            let block: [Vec<i16>; SHUFFLED] =
                std::array::from_fn(|k| (0..self.width).map(|c| self.column(c)[at + k]).collect());
            let order = order::of_block(&block);
            for (c, column) in self.weights.chunks_exact_mut(self.k).enumerate() {
                for (to, k) in column[at..at + SHUFFLED].iter_mut().zip(order) {
                    *to = block[usize::from(k)][c];
                }
            }
            orders.extend(order);
        }
        orders
    }
}

fn pack_panel(
    layout: &Layout,
    limit: Limit,
    spec: &QConvSpec<'_>,
    place: (usize, usize),
    packed: &mut PackedPanels,
) {
    let mut columns = Columns::new(layout, spec, place);
    if layout.format == Format::Shuffled8 {
        packed.shuffles.extend(columns.shuffle());
    }
    let extra = match layout.format {
        Format::Pairs16 => {
            pack_words(&columns, &mut packed.weights);
            Vec::new()
        }
        _ => pack_bytes(&columns, limit, &mut packed.weights),
    };
    packed.extra_counts.push(extra.len() as u32);
    packed.extra_offsets.extend(extra);
}

fn pack_words(columns: &Columns, into: &mut Vec<u8>) {
    for k in (0..columns.k).step_by(2) {
        for c in 0..columns.width {
            into.extend(columns.column(c)[k..k + 2].iter().flat_map(|weight| weight.to_le_bytes()));
        }
    }
}

/// Packs main entries and then extra ones; returns at which bytes these read a row.
fn pack_bytes(columns: &Columns, limit: Limit, into: &mut Vec<u8>) -> Vec<u32> {
    let (mut extra, mut offsets) = (Vec::new(), Vec::new());
    let mut rests = vec![[0i16; 4]; columns.width];
    for k in (0..columns.k).step_by(4) {
        for (c, rest) in rests.iter_mut().enumerate() {
            rest.copy_from_slice(&columns.column(c)[k..k + 4]);
        }
        take(limit, &mut rests, into);
        while rests.iter().any(|rest| *rest != [0; 4]) {
            take(limit, &mut rests, &mut extra);
            offsets.push((k / 4 * ENTRY_BYTES) as u32);
        }
    }
    into.extend(extra);
    offsets
}

fn take(limit: Limit, rests: &mut [[i16; 4]], into: &mut Vec<u8>) {
    for rest in rests {
        let part = limit.part(*rest);
        into.extend(part.map(|w| w as i8 as u8));
        for (rest, part) in rest.iter_mut().zip(part) {
            *rest -= part;
        }
    }
}

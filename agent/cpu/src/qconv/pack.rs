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

const MOST_OF_PAIR: i16 = i16::MAX / 255;

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

/// Whether one entry can hold both weights of a pair, whatever they are multiplied with.
pub(super) fn pair_fits(a: i16, b: i16) -> bool {
    pair(a, b) == (a, b)
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

fn pack_panel(
    layout: &Layout,
    limit: Limit,
    spec: &QConvSpec<'_>,
    (group, panel): (usize, usize),
    packed: &mut PackedPanels,
) {
    let (first, vectors) = layout.panel(panel);
    let (first, width) = (first * layout.lanes, vectors * layout.lanes);
    let column = |c: usize| (first + c < layout.columns).then_some(group * layout.columns + first + c);
    if layout.format == Format::Pairs16 {
        for entry in 0..layout.entries() {
            for c in 0..width {
                for k in entry * 2..entry * 2 + 2 {
                    packed.weights.extend(weight(layout, spec, column(c), k).to_le_bytes());
                }
            }
        }
        packed.extra_counts.push(0);
        return;
    }
    let order = (layout.format == Format::Shuffled8).then(|| {
        let weight = |c: usize, k: usize| weight(layout, spec, column(c), k);
        let block = |at: usize| order::of_block(width, |c, k| weight(c, at + k));
        (0..layout.entries() * 4).step_by(SHUFFLED).flat_map(block).collect::<Vec<u8>>()
    });
    let place = |k: usize| order.as_ref().map_or(k, |order| k / SHUFFLED * SHUFFLED + order[k] as usize);
    let mut extra = Vec::new();
    let mut rests = vec![[0i16; 4]; width];
    let before = packed.extra_offsets.len();
    for entry in 0..layout.entries() {
        for (c, rest) in rests.iter_mut().enumerate() {
            *rest = std::array::from_fn(|i| weight(layout, spec, column(c), place(entry * 4 + i)));
        }
        take(limit, &mut rests, &mut packed.weights);
        while rests.iter().any(|rest| *rest != [0; 4]) {
            take(limit, &mut rests, &mut extra);
            packed.extra_offsets.push((entry * ENTRY_BYTES) as u32);
        }
    }
    packed.weights.extend(extra);
    packed.shuffles.extend(order.unwrap_or_default());
    packed.extra_counts.push((packed.extra_offsets.len() - before) as u32);
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

/// The weight of an output channel at place `k` of (kernel row, kernel column, input channel).
fn weight(layout: &Layout, spec: &QConvSpec<'_>, column: Option<usize>, k: usize) -> i16 {
    let Some(column) = column.filter(|_| k < layout.k) else { return 0 };
    let taps = layout.k / layout.in_c;
    let (tap, channel) = (k / layout.in_c, k % layout.in_c);
    spec.weights[column * layout.k + channel * taps + tap]
}

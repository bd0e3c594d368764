//! Recurrent layers: LSTM, GRU and plain ones, one step after another.
//!
//! | module | holds |
//! |---|---|
//! | `cell` | a state from the one before and the sums of its gates |
//! | `product` | a state by the weights |

mod cell;
mod product;

pub use cell::Activations;
pub use product::Weights;
pub use whimbrel_infer::plan::Cell;

use crate::{
    isa::Isa,
    packed::{ALIGNMENT_BYTES, Packed},
};
use bytemuck::Pod;
use cell::Row;
use product::Product;

/// A recurrent layer.
#[derive(Debug, Clone)]
pub struct RecurrentSpec<'a> {
    /// How a state follows from the one before.
    pub cell: Cell,
    /// Steps of the longest sequence.
    pub steps: usize,
    /// Sequences.
    pub batch: usize,
    /// Elements of a state.
    pub hidden: usize,
    /// Whether sequences, rather than steps, are the slowest axis.
    pub batch_first: bool,
    /// Bound on what goes into the activations of gates, on both sides of 0.
    pub clip: Option<f32>,
    /// One or two.
    pub directions: Vec<DirectionSpec<'a>>,
}

/// One direction of a layer.
#[derive(Debug, Clone)]
pub struct DirectionSpec<'a> {
    /// Whether it goes from the last step to the first.
    pub reverse: bool,
    /// Functions of gates and states.
    pub activations: Activations,
    /// Of `gates * hidden` rows by `hidden` columns.
    pub weights: Weights<'a>,
    /// One for each row.
    pub bias: Option<&'a [f32]>,
    /// Of LSTM: for the input, output and forget gate.
    pub peepholes: Option<&'a [f32]>,
}

/// What a run is given.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// A row for every step and sequence, in the order that `batch_first` says: the gates of every direction, as the input makes them.
    pub projected: &'a [f32],
    /// Steps of each sequence; all of them where absent.
    pub lens: Option<&'a [i32]>,
    /// The hidden state before the first step; zeros where absent.
    pub hidden: Option<&'a [f32]>,
    /// The cell state before the first step; zeros where absent.
    pub cell: Option<&'a [f32]>,
}

/// Where a run's results go.
#[derive(Debug)]
pub struct Results<'a> {
    /// The hidden state after every step: `steps x directions x batch x hidden`, or `batch x steps x directions x hidden`.
    pub all: &'a mut [f32],
    /// The hidden state after each sequence's last step: `directions x batch x hidden`, or `batch x directions x hidden`.
    pub hidden: &'a mut [f32],
    /// The cell state then; of layers other than LSTM, nothing is written.
    pub cell: &'a mut [f32],
}

/// A recurrent layer with packed weights.
#[derive(Debug)]
pub struct Recurrent {
    isa: Isa,
    cell: Cell,
    steps: usize,
    batch: usize,
    hidden: usize,
    batch_first: bool,
    clip: Option<f32>,
    directions: Vec<Direction>,
}

#[derive(Debug)]
struct Direction {
    reverse: bool,
    activations: Activations,
    product: Product,
    peepholes: Option<Vec<f32>>,
    /// Added after quantised products.
    bias: Option<Vec<f32>>,
}

/// A direction's working memory.
struct Memory<'a> {
    /// The hidden state, with slack.
    hidden: &'a mut [f32],
    cell: &'a mut [f32],
    gates: &'a mut [f32],
    /// The state times the reset gate.
    reset: &'a mut [f32],
    rest: &'a mut [u8],
}

impl Recurrent {
    /// Packs a layer.
    ///
    /// # Panics
    /// A size is 0, or a slice's length is not that of the sizes.
    #[must_use]
    pub fn new(isa: Isa, spec: &RecurrentSpec<'_>) -> Self {
        let RecurrentSpec { cell, steps, batch, hidden, batch_first, clip, .. } = *spec;
        assert!(steps > 0 && batch > 0 && hidden > 0, "a recurrent layer of nothing");
        let rows = cell.gates() * hidden;
        let direction = |spec: &DirectionSpec<'_>| {
            assert!(spec.bias.is_none_or(|bias| bias.len() == rows), "a recurrent layer's biases");
            let peepholes = spec.peepholes.map(<[f32]>::to_vec);
            assert!(
                peepholes.as_ref().is_none_or(|p| p.len() == 3 * hidden),
                "a recurrent layer's peepholes"
            );
            let later = matches!(spec.weights, Weights::Bytes { .. });
            Direction {
                reverse: spec.reverse,
                activations: spec.activations,
                product: Product::new(
                    isa,
                    cell,
                    [batch, hidden],
                    &spec.weights,
                    spec.bias.filter(|_| !later),
                ),
                peepholes,
                bias: spec.bias.filter(|_| later).map(<[f32]>::to_vec),
            }
        };
        let directions = spec.directions.iter().map(direction).collect();
        Self { isa, cell, steps, batch, hidden, batch_first, clip, directions }
    }

    /// Bytes of its packed weights.
    #[must_use]
    pub fn packed_bytes(&self) -> usize {
        self.directions.iter().map(|direction| direction.product.packed_bytes()).sum()
    }

    /// What was packed of each direction, as numbers and parts.
    #[must_use]
    pub fn parts(&self) -> Vec<Vec<(Vec<u64>, Vec<Packed>)>> {
        self.directions.iter().map(|direction| direction.product.parts()).collect()
    }

    /// The layer that [`Self::new`] makes of a specification, whose weights may be missing, with what was packed of it. `None` where the
    /// two do not fit.
    #[must_use]
    pub fn from_parts(
        isa: Isa,
        spec: &RecurrentSpec<'_>,
        parts: Vec<Vec<(Vec<u64>, Vec<Packed>)>>,
    ) -> Option<Self> {
        let RecurrentSpec { cell, steps, batch, hidden, batch_first, clip, .. } = *spec;
        let rows = cell.gates().checked_mul(hidden)?;
        let mut directions = Vec::new();
        for (spec, parts) in spec.directions.iter().zip(parts) {
            let product = Product::from_parts(isa, cell, [batch, hidden], parts)?;
            let fits = spec.bias.is_none_or(|bias| bias.len() == rows)
                && spec.peepholes.is_none_or(|peepholes| peepholes.len() / 3 == hidden);
            directions.push(Direction {
                reverse: spec.reverse,
                activations: spec.activations,
                bias: spec.bias.filter(|_| matches!(product, Product::Bytes(_))).map(<[f32]>::to_vec),
                product: fits.then_some(product)?,
                peepholes: spec.peepholes.map(<[f32]>::to_vec),
            });
        }
        let fits = steps > 0 && !directions.is_empty() && directions.len() == spec.directions.len();
        fits.then_some(Self { isa, cell, steps, batch, hidden, batch_first, clip, directions })
    }

    /// Bytes of scratch memory that a run needs.
    #[must_use]
    pub fn scratch_bytes(&self) -> usize {
        let state = self.batch * self.hidden;
        let pieces = [state, state, state * self.cell.gates(), state];
        let product = self.directions.iter().map(|direction| direction.product.scratch_bytes()).max();
        pieces.iter().map(|len| piece_bytes(*len)).sum::<usize>() + product.unwrap_or(0) + ALIGNMENT_BYTES
    }

    /// Runs all steps.
    ///
    /// # Panics
    /// A slice is shorter than the sizes say.
    pub fn run(&self, given: Given<'_>, results: &mut Results<'_>, scratch: &mut [u8]) {
        let state = self.batch * self.hidden;
        let row = self.directions.len() * self.cell.gates() * self.hidden;
        assert!(given.projected.len() >= self.steps * self.batch * row, "a recurrent layer's inputs");
        assert!(given.lens.is_none_or(|lens| lens.len() >= self.batch), "a recurrent layer's lengths");
        for index in 0..self.directions.len() {
            let skip = scratch.as_ptr().align_offset(ALIGNMENT_BYTES);
            let mut rest = &mut scratch[skip..];
            let mut memory = Memory {
                hidden: take(&mut rest, state),
                cell: take(&mut rest, state),
                gates: take(&mut rest, state * self.cell.gates()),
                reset: take(&mut rest, state),
                rest,
            };
            self.start(index, given.hidden, memory.hidden);
            self.start(index, given.cell, memory.cell);
            for step in 0..self.steps {
                self.step(index, step, given, &mut memory, results.all);
            }
            for batch in 0..self.batch {
                let (from, to) = (batch * self.hidden, self.state_at(index, batch));
                results.hidden[to..to + self.hidden]
                    .copy_from_slice(&memory.hidden[from..from + self.hidden]);
                if matches!(self.cell, Cell::Lstm { .. }) {
                    results.cell[to..to + self.hidden]
                        .copy_from_slice(&memory.cell[from..from + self.hidden]);
                }
            }
        }
    }

    /// Where a direction's state of a sequence lies among those given and answered.
    fn state_at(&self, direction: usize, batch: usize) -> usize {
        let directions = self.directions.len();
        let row =
            if self.batch_first { batch * directions + direction } else { direction * self.batch + batch };
        row * self.hidden
    }

    fn start(&self, direction: usize, from: Option<&[f32]>, to: &mut [f32]) {
        to.fill(0.0);
        let Some(from) = from else { return };
        for (batch, to) in to.chunks_exact_mut(self.hidden).enumerate().take(self.batch) {
            to.copy_from_slice(&from[self.state_at(direction, batch)..][..self.hidden]);
        }
    }

    /// Steps of a sequence; one shorter than nothing or longer than all is taken as that.
    fn len(&self, lens: Option<&[i32]>, batch: usize) -> usize {
        lens.map_or(self.steps, |lens| usize::try_from(lens[batch]).unwrap_or(0).min(self.steps))
    }

    fn step(&self, index: usize, step: usize, given: Given<'_>, memory: &mut Memory<'_>, all: &mut [f32]) {
        let (direction, hidden) = (&self.directions[index], self.hidden);
        let (gates, directions) = (self.cell.gates() * hidden, self.directions.len());
        direction.product.run(self.isa, memory.hidden, memory.gates, memory.rest);
        // The step that a sequence is at, and where that is among all rows.
        let at = |batch: usize| {
            let len = self.len(given.lens, batch);
            let time = if step < len && direction.reverse { len - 1 - step } else { step };
            let row = if self.batch_first { batch * self.steps + time } else { time * self.batch + batch };
            (step < len, time, row)
        };
        if direction.product.is_split() {
            for batch in 0..self.batch {
                let (_, _, row) = at(batch);
                let mut row = self.row(index, batch, &given.projected[row * directions * gates..], memory);
                row.reset();
            }
            direction.product.run_rest(memory.reset, memory.gates, memory.rest);
        }
        for batch in 0..self.batch {
            let (active, time, row) = at(batch);
            let out = if self.batch_first {
                (row * directions + index) * hidden
            } else {
                ((time * directions + index) * self.batch + batch) * hidden
            };
            let out = &mut all[out..out + hidden];
            if !active {
                out.fill(0.0);
                continue;
            }
            let mut row = self.row(index, batch, &given.projected[row * directions * gates..], memory);
            row.finish();
            out.copy_from_slice(&memory.hidden[batch * hidden..(batch + 1) * hidden]);
        }
    }

    fn row<'a>(
        &'a self,
        index: usize,
        batch: usize,
        projected: &'a [f32],
        memory: &'a mut Memory<'_>,
    ) -> Row<'a> {
        let (direction, hidden) = (&self.directions[index], self.hidden);
        let gates = self.cell.gates() * hidden;
        let state = batch * hidden..(batch + 1) * hidden;
        Row {
            isa: self.isa,
            cell: self.cell,
            activations: &direction.activations,
            clip: self.clip,
            bias: direction.bias.as_deref(),
            peepholes: direction.peepholes.as_deref(),
            split: direction.product.is_split(),
            projected: &projected[index * gates..][..gates],
            gates: &mut memory.gates[batch * gates..(batch + 1) * gates],
            hidden: &mut memory.hidden[state.clone()],
            state: &mut memory.cell[state.clone()],
            reset: &mut memory.reset[state],
        }
    }
}

/// Bytes of a piece of scratch memory.
const fn piece_bytes(len: usize) -> usize {
    (len * size_of::<f32>() + whimbrel_infer::plan::SLACK_BYTES).next_multiple_of(ALIGNMENT_BYTES)
}

/// The next `len` elements, and slack after them.
fn take<'a, T: Pod>(rest: &mut &'a mut [u8], len: usize) -> &'a mut [T] {
    let (piece, after) = std::mem::take(rest).split_at_mut(piece_bytes(len));
    *rest = after;
    &mut bytemuck::cast_slice_mut(piece)[..len]
}

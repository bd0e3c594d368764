//! Recurrent layers as layers of a plan.

use crate::{
    isa::Isa,
    packed::Packed,
    pointwise::unary::Unary,
    recurrent::{Activations, DirectionSpec, Given, Recurrent, RecurrentSpec, Results, Weights},
};
use bytemuck::cast_slice;
use whimbrel_infer::plan::{self, RecurrentWeights};

/// A layer, where its results lie, and what it is given.
pub(super) struct Layer {
    recurrent: Recurrent,
    /// Where the three results begin, and the last one ends.
    places: [usize; 4],
    lens: [usize; 2],
    given: [bool; 3],
}

impl Layer {
    pub(super) fn new(isa: Isa, layer: &plan::Recurrent, unary: impl Fn(plan::Unary) -> Unary) -> Self {
        Self::of(Recurrent::new(isa, &spec(layer, unary)), layer)
    }

    /// The layer with what was packed of its directions; `None` where the two do not fit.
    pub(super) fn from_parts(
        isa: Isa,
        layer: &plan::Recurrent,
        unary: impl Fn(plan::Unary) -> Unary,
        parts: Vec<(Vec<u64>, Vec<Packed>)>,
    ) -> Option<Self> {
        let each = parts.len().checked_div(layer.directions.len()).filter(|each| *each > 0)?;
        let parts = parts.chunks(each).map(<[_]>::to_vec).collect();
        Some(Self::of(Recurrent::from_parts(isa, &spec(layer, unary), parts)?, layer))
    }

    /// What was packed, direction by direction.
    pub(super) fn parts(&self) -> Vec<(Vec<u64>, Vec<Packed>)> {
        self.recurrent.parts().into_iter().flatten().collect()
    }

    fn of(recurrent: Recurrent, layer: &plan::Recurrent) -> Self {
        Self { recurrent, places: layer.places(), lens: layer.lens(), given: layer.given }
    }

    pub(super) fn packed_bytes(&self) -> usize {
        self.recurrent.packed_bytes()
    }

    pub(super) fn scratch_bytes(&self) -> usize {
        self.recurrent.scratch_bytes()
    }

    /// Runs it over the bytes of its inputs; `output` holds all results.
    pub(super) fn run(&self, inputs: &[&[u8]], output: &mut [f32], scratch: &mut [u8]) {
        let mut inputs = inputs.iter().copied();
        let projected = cast_slice(inputs.next().unwrap_or_default());
        let mut next = |given: bool| if given { inputs.next() } else { None };
        let [lens, hidden, cell] = self.given.map(&mut next);
        let given = Given {
            projected,
            lens: lens.map(cast_slice),
            hidden: hidden.map(cast_slice),
            cell: cell.map(cast_slice),
        };
        let (all, rest) = output.split_at_mut(self.places[1]);
        let (hidden, cell) = rest.split_at_mut(self.places[2] - self.places[1]);
        let [all_len, last_len] = self.lens;
        let mut results = Results {
            all: &mut all[..all_len],
            hidden: &mut hidden[..last_len],
            cell: &mut cell[..last_len],
        };
        self.recurrent.run(given, &mut results, scratch);
    }
}

fn spec(layer: &plan::Recurrent, unary: impl Fn(plan::Unary) -> Unary) -> RecurrentSpec<'_> {
    let cell = layer.cell;
    let directions = layer.directions.iter().map(|direction| {
        let function = |index: usize| {
            let last = direction.activations.last().copied();
            direction.activations.get(index).copied().or(last).map_or(Unary::Tanh, &unary)
        };
        let weights = match &direction.weights {
            RecurrentWeights::Floats(weights) => Weights::Floats(weights),
            RecurrentWeights::Bytes { weights, scales } => Weights::Bytes { weights, scales },
        };
        DirectionSpec {
            reverse: direction.reverse,
            activations: Activations { gate: function(0), candidate: function(1), state: function(2) },
            weights,
            bias: direction.bias.as_ref().map(|bias| bias.as_slice()),
            peepholes: direction.peepholes.as_ref().map(|peepholes| peepholes.as_slice()),
        }
    });
    RecurrentSpec {
        cell,
        steps: layer.steps,
        batch: layer.batch,
        hidden: layer.hidden,
        batch_first: layer.batch_first,
        clip: layer.clip,
        directions: directions.collect(),
    }
}

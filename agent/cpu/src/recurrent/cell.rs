//! A state from the one before and the sums of its gates.

use crate::{
    isa::Isa,
    pointwise::{
        multiversion,
        unary::{Unary, unary, unary_in_place},
    },
};
use whimbrel_infer::plan::Cell;

/// Functions of gates and states.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activations {
    /// Of the gates that let through, from 0 to 1; the only one of a plain layer.
    pub gate: Unary,
    /// Of what is let through.
    pub candidate: Unary,
    /// Of an LSTM's cell state, on its way out.
    pub state: Unary,
}

/// One sequence's step.
pub(super) struct Row<'a> {
    pub(super) isa: Isa,
    pub(super) cell: Cell,
    pub(super) activations: &'a Activations,
    pub(super) clip: Option<f32>,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) peepholes: Option<&'a [f32]>,
    /// Whether the reset gate was applied before the last product.
    pub(super) split: bool,
    /// Gates as the input makes them.
    pub(super) projected: &'a [f32],
    /// Gates as the state before makes them.
    pub(super) gates: &'a mut [f32],
    pub(super) hidden: &'a mut [f32],
    pub(super) state: &'a mut [f32],
    pub(super) reset: &'a mut [f32],
}

impl Row<'_> {
    /// Update and reset gate, and the state times the latter.
    pub(super) fn reset(&mut self) {
        let len = self.hidden.len();
        let gates = &mut self.gates[..2 * len];
        add(self.isa, gates, &self.projected[..2 * len]);
        clipped(self.clip, gates);
        unary_in_place(self.isa, self.activations.gate, gates);
        product(self.isa, &gates[len..], self.hidden, self.reset);
    }

    /// The new state.
    pub(super) fn finish(&mut self) {
        match self.cell {
            Cell::Lstm { coupled } => self.lstm(coupled),
            Cell::Gru { .. } => self.gru(),
            Cell::Rnn => {
                self.sum(0..self.gates.len());
                clipped(self.clip, self.gates);
                unary(self.isa, self.activations.gate, self.gates, self.hidden);
            }
        }
    }

    fn sum(&mut self, range: std::ops::Range<usize>) {
        add(self.isa, &mut self.gates[range.clone()], &self.projected[range.clone()]);
        if let Some(bias) = self.bias {
            add(self.isa, &mut self.gates[range.clone()], &bias[range]);
        }
    }

    fn lstm(&mut self, coupled: bool) {
        let (isa, len, Activations { gate, candidate, state }) =
            (self.isa, self.hidden.len(), *self.activations);
        self.sum(0..self.gates.len());
        let (through, cell) = self.gates.split_at_mut(3 * len);
        if let Some(peepholes) = self.peepholes {
            multiply_add(isa, &mut through[..len], &peepholes[..len], self.state);
            multiply_add(isa, &mut through[2 * len..], &peepholes[2 * len..], self.state);
        }
        clipped(self.clip, cell);
        unary_in_place(isa, candidate, cell);
        match self.peepholes {
            None => {
                clipped(self.clip, through);
                unary_in_place(isa, gate, through);
            }
            // The output gate waits for the new state.
            Some(_) => {
                for gates in [0..len, 2 * len..3 * len] {
                    clipped(self.clip, &mut through[gates.clone()]);
                    unary_in_place(isa, gate, &mut through[gates]);
                }
            }
        }
        if coupled {
            let (input, rest) = through.split_at_mut(len);
            rest[len..].iter_mut().zip(input).for_each(|(forget, input)| *forget = 1.0 - *input);
        }
        lstm_state(isa, &through[2 * len..], &through[..len], cell, self.state);
        let output = &mut through[len..2 * len];
        if let Some(peepholes) = self.peepholes {
            multiply_add(isa, output, &peepholes[len..2 * len], self.state);
            clipped(self.clip, output);
            unary_in_place(isa, gate, output);
        }
        unary(isa, state, self.state, cell);
        product(isa, output, cell, self.hidden);
    }

    fn gru(&mut self) {
        let (isa, len, activations) = (self.isa, self.hidden.len(), *self.activations);
        if !self.split {
            self.sum(0..2 * len);
            let gates = &mut self.gates[..2 * len];
            clipped(self.clip, gates);
            unary_in_place(isa, activations.gate, gates);
            let (gates, last) = self.gates.split_at_mut(2 * len);
            last.iter_mut().zip(&gates[len..]).for_each(|(last, reset)| *last *= reset);
        }
        add(isa, &mut self.gates[2 * len..], &self.projected[2 * len..]);
        let (gates, last) = self.gates.split_at_mut(2 * len);
        clipped(self.clip, last);
        unary_in_place(isa, activations.candidate, last);
        gru_state(isa, &gates[..len], last, self.hidden);
    }
}

fn clipped(bound: Option<f32>, values: &mut [f32]) {
    if let Some(bound) = bound {
        values.iter_mut().for_each(|value| *value = value.clamp(-bound, bound));
    }
}

multiversion! {
    /// Adds other elements.
    fn add(to: &mut [f32], other: &[f32]) {
        to.iter_mut().zip(other).for_each(#[inline(always)] |(to, other)| *to += other);
    }

    /// Products of elements.
    fn product(a: &[f32], b: &[f32], to: &mut [f32]) {
        to.iter_mut().zip(a.iter().zip(b)).for_each(#[inline(always)] |(to, (a, b))| *to = a * b);
    }

    /// Adds products of elements.
    fn multiply_add(to: &mut [f32], a: &[f32], b: &[f32]) {
        to.iter_mut().zip(a.iter().zip(b)).for_each(#[inline(always)] |(to, (a, b))| *to += a * b);
    }

    /// `state = forget * state + input * cell`.
    fn lstm_state(forget: &[f32], input: &[f32], cell: &[f32], state: &mut [f32]) {
        let gates = forget.iter().zip(input.iter().zip(cell));
        state.iter_mut().zip(gates).for_each(
            #[inline(always)]
            |(state, (forget, (input, cell)))| *state = forget * *state + input * cell,
        );
    }

    /// `hidden = (1 - update) * candidate + update * hidden`.
    fn gru_state(update: &[f32], candidate: &[f32], hidden: &mut [f32]) {
        hidden.iter_mut().zip(update.iter().zip(candidate)).for_each(
            #[inline(always)]
            |(hidden, (update, candidate))| *hidden = (1.0 - update) * candidate + update * *hidden,
        );
    }
}

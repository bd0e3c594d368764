//! Recurrent layers: what is left of them once the inputs of all steps are multiplied by their weights.

use super::Unary;
use crate::cache::form;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A recurrent layer over all its steps.
///
/// Inputs: the projected inputs, of `steps * batch` rows in the order of the layer's own input, each with the gates of every direction
/// one after another and, in layers of floats, the biases of the input added; then, where they are there, sequence lengths (int32), the
/// initial hidden state, the initial cell state. Output: one buffer with the hidden states of all steps, the last hidden state and,
/// for LSTM, the last cell state, at [`Recurrent::places`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recurrent {
    /// How a state follows from the one before.
    pub cell: Cell,
    /// Steps of the longest sequence.
    pub steps: usize,
    /// Sequences.
    pub batch: usize,
    /// Elements of a state.
    pub hidden: usize,
    /// Whether sequences, rather than steps, are the slowest axis of inputs, states and outputs.
    pub batch_first: bool,
    /// Bound on what goes into the activations, on both sides of 0.
    pub clip: Option<f32>,
    /// One or two.
    pub directions: Vec<Direction>,
    /// Whether sequence lengths, an initial hidden state and an initial cell state are given.
    pub given: [bool; 3],
}

/// A kind of recurrence; gates lie in the order that ONNX gives weights in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cell {
    /// Input, output, forget and cell gate.
    Lstm {
        /// Whether the forget gate is 1 less the input gate.
        coupled: bool,
    },
    /// Update, reset and hidden gate.
    Gru {
        /// Whether the reset gate multiplies after the matrix product rather than before.
        reset_after: bool,
    },
    /// One gate.
    Rnn,
}

impl Cell {
    /// Gates.
    #[must_use]
    pub const fn gates(self) -> usize {
        match self {
            Self::Lstm { .. } => 4,
            Self::Gru { .. } => 3,
            Self::Rnn => 1,
        }
    }
}

/// One direction of a recurrent layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Direction {
    /// Whether it goes from the last step to the first.
    pub reverse: bool,
    /// Those of the gates and, for LSTM, of the cell state, in ONNX's order.
    pub activations: Vec<Unary>,
    /// Gates by hidden elements.
    #[serde(skip)]
    pub weights: RecurrentWeights,
    /// One for each row of the weights; of quantised layers, both the input's and the state's.
    #[serde(with = "form::floats")]
    pub bias: Option<Arc<Vec<f32>>>,
    /// Of LSTM: of the input, output and forget gate, one after another.
    #[serde(with = "form::floats")]
    pub peepholes: Option<Arc<Vec<f32>>>,
}

/// What a hidden state is multiplied by.
#[derive(Debug, Clone)]
pub enum RecurrentWeights {
    /// As they are.
    Floats(Arc<Vec<f32>>),
    /// Integers: the state of every step is quantised by its range.
    Bytes {
        /// The zero point subtracted.
        weights: Arc<Vec<i16>>,
        /// One per row.
        scales: Arc<Vec<f32>>,
    },
}

impl Default for RecurrentWeights {
    /// None, as where they were packed before.
    fn default() -> Self {
        Self::Floats(Arc::default())
    }
}

impl Recurrent {
    /// Elements of the hidden states of all steps, and of the last one.
    #[must_use]
    pub fn lens(&self) -> [usize; 2] {
        let last = self.directions.len() * self.batch * self.hidden;
        [self.steps * last, last]
    }

    /// The elements at which the hidden states of all steps, the last hidden state and the last cell state begin, and where the last
    /// one ends; each is a whole number of cache lines from the first.
    #[must_use]
    pub fn places(&self) -> [usize; 4] {
        const LINE: usize = crate::compile::memory::ALIGNMENT_BYTES / size_of::<f32>();
        let [all, last] = self.lens();
        let (all, last) = (all.next_multiple_of(LINE), last.next_multiple_of(LINE));
        [0, all, all + last, all + 2 * last]
    }

    /// Multiplications with accumulation.
    #[must_use]
    pub fn macs(&self) -> u64 {
        (self.steps * self.batch * self.directions.len() * self.cell.gates() * self.hidden * self.hidden)
            as u64
    }
}

//! A state by the weights of its gates.

use super::Cell;
use crate::{
    fconv::{self, Activation},
    geometry::Conv2d,
    isa::Isa,
    packed::{ALIGNMENT_BYTES, Packed},
    pointwise::quantise,
    qconv::{Dynamic, QConv, QConvSpec, QOutput, QSlice},
};

/// What a state is multiplied by, row by row.
#[derive(Debug, Clone, Copy)]
pub enum Weights<'a> {
    /// As they are.
    Floats(&'a [f32]),
    /// Integers: the state is quantised by its range, of all sequences together.
    Bytes {
        /// The zero point subtracted.
        weights: &'a [i16],
        /// One per row.
        scales: &'a [f32],
    },
}

/// Packed weights.
#[derive(Debug)]
pub(super) enum Product {
    Floats(Box<fconv::Conv>),
    /// Of the first gates, and of the last one, whose state is another.
    Split([Box<fconv::Conv>; 2]),
    Bytes(Box<QConv>),
}

impl Product {
    pub(super) fn new(
        isa: Isa,
        cell: Cell,
        [batch, hidden]: [usize; 2],
        weights: &Weights<'_>,
        bias: Option<&[f32]>,
    ) -> Self {
        let rows = cell.gates() * hidden;
        let floats = |weights: &[f32], bias: Option<&[f32]>| {
            let geometry = Conv2d::matmul(batch, hidden, weights.len() / hidden);
            let spec =
                fconv::ConvSpec { geometry, weights, bias, activation: Activation::None, residual: false };
            Box::new(fconv::Conv::new(isa, &spec))
        };
        match *weights {
            Weights::Floats(weights) if matches!(cell, Cell::Gru { reset_after: false }) => {
                let (first, last) = weights.split_at(2 * hidden * hidden);
                let [first_bias, last_bias] =
                    [bias.map(|bias| &bias[..2 * hidden]), bias.map(|bias| &bias[2 * hidden..])];
                Self::Split([floats(first, first_bias), floats(last, last_bias)])
            }
            Weights::Floats(weights) => Self::Floats(floats(weights, bias)),
            Weights::Bytes { weights, scales } => {
                let geometry = Conv2d::matmul(batch, hidden, rows);
                let output = QOutput::Float { multiplier: scales, bias: None };
                let spec = QConvSpec { geometry, weights, bias: None, input_zero: 0, output };
                Self::Bytes(Box::new(QConv::new(isa, &spec)))
            }
        }
    }

    /// Numbers and packed parts, from which [`Self::from_parts`] makes it again: one pair, or two where the last gate's product is
    /// another.
    pub(super) fn parts(&self) -> Vec<(Vec<u64>, Vec<Packed>)> {
        match self {
            Self::Floats(conv) => vec![conv.parts()],
            Self::Split(convs) => convs.iter().map(|conv| conv.parts()).collect(),
            Self::Bytes(conv) => {
                let (numbers, parts) = conv.parts();
                vec![(numbers.into_iter().map(u64::from).collect(), parts)]
            }
        }
    }

    /// The product of [`Self::parts`]; `None` where they are not those of such a layer.
    pub(super) fn from_parts(
        isa: Isa,
        cell: Cell,
        [batch, hidden]: [usize; 2],
        parts: Vec<(Vec<u64>, Vec<Packed>)>,
    ) -> Option<Self> {
        let rows = cell.gates().checked_mul(hidden)?;
        let floats = |(numbers, parts): (Vec<u64>, Vec<Packed>), columns: usize| {
            let conv = fconv::Conv::from_parts(isa, &numbers, parts)?;
            let fits = *conv.geometry() == Conv2d::matmul(batch, hidden, columns) && !conv.adds_residual();
            fits.then(|| Box::new(conv))
        };
        let mut parts = parts.into_iter();
        let (first, second, none) = (parts.next()?, parts.next(), parts.next());
        let split = matches!(cell, Cell::Gru { reset_after: false });
        let product = match second {
            Some(second) if split => Self::Split([floats(first, 2 * hidden)?, floats(second, hidden)?]),
            Some(_) => return None,
            // A quantised layer has one product whatever its cell.
            None => match floats(first.clone(), rows) {
                Some(conv) if !split => Self::Floats(conv),
                _ => {
                    let numbers =
                        first.0.iter().map(|n| u32::try_from(*n)).collect::<Result<Vec<_>, _>>().ok()?;
                    let conv = QConv::from_parts(isa, &numbers, &first.1)?;
                    let fits = *conv.geometry() == Conv2d::matmul(batch, hidden, rows) && conv.makes_floats();
                    Self::Bytes(Box::new(fits.then_some(conv)?))
                }
            },
        };
        none.is_none().then_some(product)
    }

    /// Whether the last gate's product is another.
    pub(super) fn is_split(&self) -> bool {
        matches!(self, Self::Split(_))
    }

    pub(super) fn packed_bytes(&self) -> usize {
        let of = |parts: Vec<Packed>| parts.iter().map(|part| part.as_bytes().len()).sum::<usize>();
        match self {
            Self::Floats(conv) => of(conv.parts().1),
            Self::Split(pair) => pair.iter().map(|conv| of(conv.parts().1)).sum(),
            Self::Bytes(conv) => of(conv.parts().1),
        }
    }

    pub(super) fn scratch_bytes(&self) -> usize {
        match self {
            Self::Floats(conv) => conv.scratch_bytes(),
            Self::Split([first, last]) => {
                let out = first.geometry().out_len() + last.geometry().out_len();
                first.scratch_bytes().max(last.scratch_bytes()) + super::piece_bytes(out)
            }
            Self::Bytes(conv) => {
                let bytes = conv.geometry().in_len() + conv.input_slack_bytes();
                bytes.next_multiple_of(ALIGNMENT_BYTES) + conv.scratch_bytes()
            }
        }
    }

    /// The gates of a state: all of them, or all but the last.
    pub(super) fn run(&self, isa: Isa, state: &[f32], gates: &mut [f32], scratch: &mut [u8]) {
        match self {
            Self::Floats(conv) => conv.run(0..conv.units(), state, None, gates, scratch),
            Self::Split([conv, _]) => strided(conv, state, gates, scratch, 0),
            Self::Bytes(conv) => {
                let len = conv.geometry().in_len();
                let bytes = (len + conv.input_slack_bytes()).next_multiple_of(ALIGNMENT_BYTES);
                let (bytes, scratch) = scratch.split_at_mut(bytes);
                let (least, greatest) = quantise::range(isa, state);
                let q = quantise::dynamic(least, greatest);
                quantise::quantise(isa, q, state, &mut bytes[..len]);
                let dynamic = Dynamic { input_zero: q.zero, scale: q.scale };
                conv.run_dynamic(0..conv.units(), bytes, dynamic, QSlice::F32(gates), scratch);
            }
        }
    }

    /// The last gate of a state that is multiplied by the reset gate.
    pub(super) fn run_rest(&self, state: &[f32], gates: &mut [f32], scratch: &mut [u8]) {
        if let Self::Split([first, conv]) = self {
            strided(conv, state, gates, scratch, first.geometry().out_c);
        }
    }
}

/// Puts the columns of a product into rows of gates, from a column on.
fn strided(conv: &fconv::Conv, state: &[f32], gates: &mut [f32], scratch: &mut [u8], column: usize) {
    let (mut rest, columns) = (scratch, conv.geometry().out_c);
    let rows = conv.geometry().out_pixels().max(1);
    let made: &mut [f32] = super::take(&mut rest, rows * columns);
    conv.run(0..conv.units(), state, None, made, rest);
    let row_len = gates.len() / rows;
    for (made, gates) in made.chunks_exact(columns).zip(gates.chunks_exact_mut(row_len)) {
        gates[column..column + columns].copy_from_slice(made);
    }
}

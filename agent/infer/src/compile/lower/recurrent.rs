//! Recurrent layers: one product for the inputs of all steps, and what follows from step to step.

use super::{Form, Lower, Lowered, Placed, ValueId, input, quant::integers};
use crate::{
    datatype::Datatype,
    plan::{
        self, Activation, Buffer, BufferId, Cell, Conv, Conv2d, Direction, Layout, Operation, Place, QConv,
        QConvOutput, Recurrent, RecurrentWeights, Unary,
    },
};
use std::sync::Arc;

/// A layer's weights, one row for each gate of each direction.
enum Weights {
    Floats(Vec<f32>),
    Bytes { weights: Vec<i16>, scales: Vec<f32> },
}

/// A layer's sizes.
#[derive(Clone, Copy)]
struct Sizes {
    rows: usize,
    input: usize,
    hidden: usize,
    directions: usize,
    gates: usize,
}

impl Lower<'_> {
    pub(super) fn recurrent(&mut self, index: usize) -> Lowered<bool> {
        let placed = self.placed(index);
        let Some((sizes, mut layer, weights, input_bias)) = self.parse(placed) else { return Ok(false) };
        let Some(x) = input(placed, 0) else { return Ok(false) };
        let mut inputs = vec![self.project(placed, x, sizes, weights, input_bias)?];
        for (place, given) in [4, 5, 6].into_iter().zip(&mut layer.given) {
            if let Some(id) = input(placed, place) {
                *given = true;
                inputs.push(self.want(id, Form::plain())?);
            }
        }
        let [first, second, third, end] = layer.places();
        let whole = self.scratch(Datatype::Fp32, vec![end], Layout::Rows);
        self.emit(Operation::Recurrent(Box::new(layer)), inputs, vec![whole], &placed.node);
        for (id, start) in placed.outputs.iter().zip([first, second, third]) {
            if let Some(id) = *id {
                let part = self.part(whole, start * size_of::<f32>(), id);
                self.alias(id, Form::plain(), part);
            }
        }
        Ok(true)
    }

    /// A value that is a part of a buffer, from a byte on.
    pub(super) fn part(&mut self, whole: BufferId, offset: usize, id: ValueId) -> BufferId {
        let value = self.value(id);
        self.plan.buffers.push(Buffer {
            datatype: value.datatype,
            shape: value.shape.clone(),
            layout: Layout::Rows,
            place: Place::Part(whole, offset),
        });
        BufferId(self.plan.buffers.len() - 1)
    }

    /// What a node says, where kernels can do it.
    fn parse(&self, placed: &Placed) -> Option<(Sizes, Recurrent, Weights, Vec<f32>)> {
        let attributes = &placed.node.attributes;
        let cell = match placed.node.op.as_str() {
            "LSTM" | "com.microsoft.DynamicQuantizeLSTM" => {
                Cell::Lstm { coupled: attributes.flag("input_forget") }
            }
            "GRU" => Cell::Gru { reset_after: attributes.flag("linear_before_reset") },
            _ => Cell::Rnn,
        };
        let [x, w, r] = [0, 1, 2].map(|place| input(placed, place));
        let x_shape: [usize; 3] = self.shape(x?).try_into().ok()?;
        let directions = *self.shape(r?).first()?;
        let batch_first = attributes.flag("layout");
        let (steps, batch) = if batch_first { (x_shape[1], x_shape[0]) } else { (x_shape[0], x_shape[1]) };
        let quantised = placed.node.op.starts_with("com.");
        let hidden = self.shape(r?)[if quantised { 1 } else { 2 }];
        let sizes = Sizes { rows: steps * batch, input: x_shape[2], hidden, directions, gates: cell.gates() };
        let floats = self.value(x?).datatype == Datatype::Fp32;
        if !floats || x_shape.contains(&0) || hidden == 0 || !self.states_fit(placed, sizes, batch) {
            return None;
        }
        let (input_weights, state_weights) = if quantised {
            let input_weights =
                self.bytes(w?, [8, 9].map(|place| input(placed, place)), sizes.input, sizes)?;
            (input_weights, self.bytes(r?, [10, 11].map(|place| input(placed, place)), hidden, sizes)?)
        } else {
            (self.rows(w?, sizes.input, sizes)?, self.rows(r?, hidden, sizes)?)
        };
        let (input_bias, state_bias) = self.biases(placed, sizes, quantised)?;
        let peepholes = match input(placed, 7) {
            Some(id) => Some(self.floats(id).filter(|p| p.len() == directions * 3 * hidden)?),
            None => None,
        };
        let part = |direction: usize| -> Option<Direction> {
            let rows = sizes.gates * hidden;
            let all = direction * rows * hidden..(direction + 1) * rows * hidden;
            let weights = match &state_weights {
                Weights::Floats(weights) => RecurrentWeights::Floats(Arc::new(weights[all].to_vec())),
                Weights::Bytes { weights, scales } => RecurrentWeights::Bytes {
                    weights: Arc::new(weights[all].to_vec()),
                    scales: Arc::new(scales[direction * rows..(direction + 1) * rows].to_vec()),
                },
            };
            let own = |values: &[f32], len: usize| Arc::new(values[direction * len..][..len].to_vec());
            Some(Direction {
                reverse: direction == 1 || attributes.text("direction") == Some("reverse"),
                activations: activations(placed, cell, direction)?,
                weights,
                bias: state_bias.as_ref().map(|bias| own(bias, rows)),
                peepholes: peepholes.as_ref().map(|peepholes| own(peepholes, 3 * hidden)),
            })
        };
        let expected = if attributes.text("direction") == Some("bidirectional") { 2 } else { 1 };
        let clip = attributes.float("clip").filter(|clip| *clip > 0.0);
        let list = (0..directions).map(part).collect::<Option<Vec<_>>>()?;
        let layer =
            Recurrent { cell, steps, batch, hidden, batch_first, clip, directions: list, given: [false; 3] };
        (directions == expected).then_some((sizes, layer, input_weights, input_bias))
    }

    /// Whether lengths and initial states have the shapes that ONNX asks for.
    fn states_fit(&self, placed: &Placed, sizes: Sizes, batch: usize) -> bool {
        let is = |place: usize, datatype: Datatype, len: usize| {
            input(placed, place).is_none_or(|id| {
                self.value(id).datatype == datatype && self.shape(id).iter().product::<usize>() == len
            })
        };
        let state = sizes.directions * batch * sizes.hidden;
        is(4, Datatype::Int32, batch) && is(5, Datatype::Fp32, state) && is(6, Datatype::Fp32, state)
    }

    fn rows(&self, id: ValueId, columns: usize, sizes: Sizes) -> Option<Weights> {
        let len = sizes.directions * sizes.gates * sizes.hidden * columns;
        self.floats(id).filter(|weights| weights.len() == len).map(Weights::Floats)
    }

    /// Quantised weights, which lie transposed, with one scale and zero point for each direction or row.
    fn bytes(
        &self,
        id: ValueId,
        [scale, zero]: [Option<ValueId>; 2],
        columns: usize,
        sizes: Sizes,
    ) -> Option<Weights> {
        let rows = sizes.gates * sizes.hidden;
        let values = integers(self.constant(id)?).ok()?;
        let scales: Vec<f32> = self.constant(scale?)?.values::<f32>().ok()?.collect();
        let zeros = integers(self.constant(zero?)?).ok()?;
        let total = sizes.directions * rows;
        let fits = |len: usize| len == sizes.directions || len == total;
        if values.len() != total * columns || !fits(scales.len()) || !fits(zeros.len()) {
            return None;
        }
        let pick = |row: usize, len: usize| if len == total { row } else { row / rows };
        let mut weights = Vec::with_capacity(values.len());
        for row in 0..total {
            let block = &values[row / rows * rows * columns..];
            let zero = zeros[pick(row, zeros.len())];
            for column in 0..columns {
                weights.push(i16::try_from(block[column * rows + row % rows] - zero).ok()?);
            }
        }
        let scales = (0..total).map(|row| scales[pick(row, scales.len())]).collect();
        Some(Weights::Bytes { weights, scales })
    }

    /// The biases of the inputs and of the state; of quantised layers, whose products are scaled before anything is added, all are the
    /// state's.
    fn biases(&self, placed: &Placed, sizes: Sizes, quantised: bool) -> Option<(Vec<f32>, Option<Vec<f32>>)> {
        let rows = sizes.gates * sizes.hidden;
        let zeros = vec![0.0; sizes.directions * rows];
        let Some(id) = input(placed, 3) else { return Some((zeros, None)) };
        let all = self.floats(id).filter(|bias| bias.len() == 2 * sizes.directions * rows)?;
        let half = |at: usize| -> Vec<f32> {
            all.chunks_exact(rows).skip(at).step_by(2).flatten().copied().collect()
        };
        let (of_input, of_state) = (half(0), half(1));
        if quantised {
            let sum = of_input.iter().zip(&of_state).map(|(a, b)| a + b).collect();
            return Some((zeros, Some(sum)));
        }
        Some((of_input, Some(of_state)))
    }

    /// The inputs of all steps by their weights.
    fn project(
        &mut self,
        placed: &Placed,
        x: ValueId,
        sizes: Sizes,
        weights: Weights,
        bias: Vec<f32>,
    ) -> Lowered<BufferId> {
        let columns = sizes.directions * sizes.gates * sizes.hidden;
        let geometry = Conv2d::matmul(sizes.rows, sizes.input, columns);
        let from = self.want(x, Form::plain())?;
        let to = self.scratch(Datatype::Fp32, vec![sizes.rows, columns], Layout::Rows);
        match weights {
            Weights::Floats(weights) => {
                let conv = Conv {
                    geometry,
                    weights: plan::Weights::of(weights),
                    bias: Some(Arc::new(bias)),
                    activation: Activation::None,
                    residual: false,
                };
                self.emit(Operation::Conv(conv), vec![from], vec![to], &placed.node);
            }
            Weights::Bytes { weights, scales } => {
                let [scale, zero, bytes] = self.quantise_by_range(placed, from, self.shape(x).to_vec(), None);
                let output = QConvOutput::Floats { multiplier: Arc::new(scales), bias: None };
                let conv = QConv {
                    geometry,
                    weights: plan::Weights::of(weights),
                    bias: None,
                    input_zero: 0,
                    output,
                };
                let inputs = vec![bytes, zero, scale];
                self.emit(Operation::DynamicConv(conv), inputs, vec![to], &placed.node);
            }
        }
        Ok(to)
    }
}

/// The activations of a direction, where there are kernels for them.
fn activations(placed: &Placed, cell: Cell, direction: usize) -> Option<Vec<Unary>> {
    let count = match cell {
        Cell::Lstm { .. } => 3,
        Cell::Gru { .. } => 2,
        Cell::Rnn => 1,
    };
    let attributes = &placed.node.attributes;
    let names: Vec<String> = match attributes.texts("activations") {
        Some(names) => names.iter().map(|name| String::from_utf8_lossy(name).to_lowercase()).collect(),
        None => {
            let defaults: &[&str] = match cell {
                Cell::Lstm { .. } => &["sigmoid", "tanh", "tanh"],
                Cell::Gru { .. } => &["sigmoid", "tanh"],
                Cell::Rnn => &["tanh"],
            };
            let twice = [defaults, defaults].concat();
            twice.into_iter().map(str::to_owned).collect()
        }
    };
    // Alphas and betas are listed for those functions alone that have one.
    let (mut alphas, mut betas) = ["activation_alpha", "activation_beta"]
        .map(|name| attributes.floats(name).unwrap_or_default().iter())
        .into();
    let mut list = Vec::new();
    for name in &names {
        let mut alpha = |default: f32| alphas.next().copied().unwrap_or(default);
        list.push(match name.as_str() {
            "sigmoid" => Unary::Sigmoid,
            "tanh" => Unary::Tanh,
            "relu" => Unary::Clip { min: 0.0, max: f32::INFINITY },
            "leakyrelu" => Unary::LeakyRelu { alpha: alpha(0.01) },
            "elu" => Unary::Elu { alpha: alpha(1.0) },
            "softplus" => Unary::Softplus,
            "hardsigmoid" => {
                Unary::HardSigmoid { alpha: alpha(0.2), beta: betas.next().copied().unwrap_or(0.5) }
            }
            _ => return None,
        });
    }
    Some(list.get(direction * count..(direction + 1) * count)?.to_vec())
}

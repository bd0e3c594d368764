//! Element-wise operators and softmax.

use super::{
    Form, Lower, Lowered, Placed, ValueId,
    forms::{is_same_order, physical},
    input,
    matmul::strides_over,
    output,
    quant::Sink,
};
use crate::{
    datatype::Datatype,
    plan::{
        Activation, Binary, BinaryKind, Buffer, BufferId, Layout, MapFunction, Operation, Place, QBroadcast,
        QMap, QPair, Quant, Unary,
    },
    rules,
    tensor::Tensor,
};
use std::sync::Arc;

impl Lower<'_> {
    pub(super) fn pointwise(&mut self, index: usize) -> Lowered<bool> {
        let placed = self.placed(index);
        match placed.node.op.as_str() {
            "Add" | "Mul" => {
                if self.quantised_pair(index)? {
                    return Ok(true);
                }
                self.binary(index)
            }
            "Sub" | "Div" | "Pow" | "PRelu" | "Min" | "Max" => self.binary(index),
            "com.microsoft.QLinearAdd" | "com.microsoft.QLinearMul" => self.qlinear_pair(placed),
            "com.microsoft.QLinearSigmoid" => self.qlinear_unary(placed, Unary::Sigmoid),
            "com.microsoft.QLinearLeakyRelu" => {
                let alpha = placed.node.attributes.float("alpha").unwrap_or(0.01);
                self.qlinear_unary(placed, Unary::LeakyRelu { alpha })
            }
            "BatchNormalization" => self.normalise(placed),
            "Softmax" | "LogSoftmax" => self.softmax(index),
            _ => self.function(index),
        }
    }

    /// The function of one f32 that a node stands for.
    pub(super) fn unary(&self, placed: &Placed) -> Option<Unary> {
        if self.value(input(placed, 0)?).datatype != Datatype::Fp32 {
            return None;
        }
        if let Some((min, max)) = self.clip_bounds(placed) {
            return Some(Unary::Clip { min, max });
        }
        let float = |name: &str, default: f32| placed.node.attributes.float(name).unwrap_or(default);
        Some(match placed.node.op.as_str() {
            "LeakyRelu" => Unary::LeakyRelu { alpha: float("alpha", 0.01) },
            "Sigmoid" => Unary::Sigmoid,
            "Tanh" => Unary::Tanh,
            "HardSigmoid" => Unary::HardSigmoid { alpha: float("alpha", 0.2), beta: float("beta", 0.5) },
            "HardSwish" => Unary::HardSwish,
            "Gelu" if placed.node.attributes.text("approximate") == Some("tanh") => Unary::GeluTanh,
            "Gelu" | "com.microsoft.Gelu" => Unary::Gelu,
            "com.microsoft.FastGelu" => Unary::GeluTanh,
            "Erf" => Unary::Erf,
            "Exp" => Unary::Exp,
            "Log" => Unary::Log,
            "Sqrt" => Unary::Sqrt,
            "Reciprocal" => Unary::Reciprocal,
            "Neg" => Unary::Neg,
            "Abs" => Unary::Abs,
            "Floor" => Unary::Floor,
            "Ceil" => Unary::Ceil,
            "Round" => Unary::Round,
            "Elu" => Unary::Elu { alpha: float("alpha", 1.0) },
            "Softplus" => Unary::Softplus,
            _ => return None,
        })
    }

    fn function(&mut self, index: usize) -> Lowered<bool> {
        let placed = self.placed(index);
        let (Some(unary), Some(x), Some(out)) = (self.unary(placed), input(placed, 0), output(placed)) else {
            return Ok(false);
        };
        if let (Some((q, before)), Some(sink)) = (self.as_bytes(x), self.sink(out)) {
            return self.map_bytes(placed, (q, before), MapFunction::Unary(unary), &sink);
        }
        let form = Form { layout: self.layout_of(x), shifted: false };
        let from = self.want(x, form)?;
        let to = self.make(out, form);
        self.emit(Operation::Unary(unary), vec![from], vec![to], &placed.node);
        Ok(true)
    }

    fn map_bytes(
        &mut self,
        placed: &Placed,
        (q, from): (ValueId, Quant),
        function: MapFunction,
        sink: &Sink,
    ) -> Lowered<bool> {
        let layout = self.layout_of(q);
        let input = self.want(q, self.bytes_form(q, layout))?;
        let to = self.make(sink.q, self.bytes_form(sink.q, layout));
        let function = Some(function);
        let map = QMap { from, to: sink.quant, function, min: sink.min, max: sink.max };
        self.emit(Operation::Map(map), vec![input], vec![to], &placed.node);
        self.claim(&sink.nodes);
        Ok(true)
    }

    fn qlinear_unary(&mut self, placed: &Placed, unary: Unary) -> Lowered<bool> {
        let (Some(x), Some(out)) = (input(placed, 0), output(placed)) else { return Ok(false) };
        let before = self.quant(input(placed, 1), input(placed, 2), self.value(x).datatype);
        let after = self.quant(input(placed, 3), input(placed, 4), self.value(out).datatype);
        let (Some(before), Some(after)) = (before, after) else { return Ok(false) };
        let sink = Sink { q: out, quant: after, min: 0, max: 255, nodes: Vec::new() };
        self.map_bytes(placed, (x, before), MapFunction::Unary(unary), &sink)
    }

    /// Add or Mul with bytes on every side.
    fn quantised_pair(&mut self, index: usize) -> Lowered<bool> {
        let placed = self.placed(index);
        let prepared = (|| {
            let (a, b) = (self.as_bytes(input(placed, 0)?)?, self.as_bytes(input(placed, 1)?)?);
            Some((a, b, self.sink(output(placed)?)?))
        })();
        let Some((a, b, sink)) = prepared else { return Ok(false) };
        self.emit_pair(placed, a, b, &sink, placed.node.op == "Add")
    }

    fn qlinear_pair(&mut self, placed: &Placed) -> Lowered<bool> {
        let prepared = (|| {
            let side = |place: usize| {
                let id = input(placed, place)?;
                let quant =
                    self.quant(input(placed, place + 1), input(placed, place + 2), self.value(id).datatype)?;
                Some((id, quant))
            };
            let out = output(placed)?;
            let quant = self.quant(input(placed, 6), input(placed, 7), self.value(out).datatype)?;
            Some((side(0)?, side(3)?, Sink { q: out, quant, min: 0, max: 255, nodes: Vec::new() }))
        })();
        let Some((a, b, sink)) = prepared else { return Ok(false) };
        self.emit_pair(placed, a, b, &sink, placed.node.op.ends_with("Add"))
    }

    fn emit_pair(
        &mut self,
        placed: &Placed,
        a: (ValueId, Quant),
        b: (ValueId, Quant),
        sink: &Sink,
        sum: bool,
    ) -> Lowered<bool> {
        let same = self.shape(a.0) == self.shape(b.0);
        if !same || self.shape(sink.q) != self.shape(a.0) {
            return self.broadcast_pair(placed, a, b, sink, sum);
        }
        let layout = self.common_layout(a.0, b.0);
        let from = vec![
            self.want(a.0, self.bytes_form(a.0, layout))?,
            self.want(b.0, self.bytes_form(b.0, layout))?,
        ];
        let to = self.make(sink.q, self.bytes_form(sink.q, layout));
        let signed = self.value(sink.q).datatype == Datatype::Int8;
        let pair = QPair { a: a.1, b: b.1, out: sink.quant, min: sink.min, max: sink.max, signed };
        let operation = if sum { Operation::QAdd(pair) } else { Operation::QMul(pair) };
        self.emit(operation, from, vec![to], &placed.node);
        self.claim(&sink.nodes);
        Ok(true)
    }

    fn broadcast_pair(
        &mut self,
        placed: &Placed,
        a: (ValueId, Quant),
        b: (ValueId, Quant),
        sink: &Sink,
        sum: bool,
    ) -> Lowered<bool> {
        let shape = self.shape(sink.q);
        let layout = [a.0, b.0]
            .iter()
            .find(|id| self.shape(**id) == shape)
            .map_or(Layout::Rows, |id| self.layout_of(*id));
        let mut inputs = Vec::new();
        let mut shapes = Vec::new();
        for (id, _) in [a, b] {
            // With as many axes, an operand lies as the result does.
            let aligned =
                [&vec![1; shape.len().saturating_sub(self.shape(id).len())], self.shape(id)].concat();
            let own = if self.shape(id).len() == shape.len() { layout } else { Layout::Rows };
            if own != layout && !is_same_order(&aligned) {
                return Ok(false);
            }
            inputs.push(self.want(id, self.bytes_form(id, own))?);
            shapes.push(physical(&aligned, layout));
        }
        let to = self.make(sink.q, self.bytes_form(sink.q, layout));
        let signed = self.value(sink.q).datatype == Datatype::Int8;
        let pair = QPair { a: a.1, b: b.1, out: sink.quant, min: sink.min, max: sink.max, signed };
        let [first, second] = [shapes.remove(0), shapes.remove(0)];
        let operation = Operation::QBroadcast(QBroadcast { pair, sum, shapes: [first, second] });
        self.emit(operation, inputs, vec![to], &placed.node);
        self.claim(&sink.nodes);
        Ok(true)
    }

    /// A buffer that is no value of the graph.
    pub(super) fn scratch(&mut self, datatype: Datatype, shape: Vec<usize>, layout: Layout) -> BufferId {
        self.plan.buffers.push(Buffer { datatype, shape, layout, place: Place::Arena(0) });
        BufferId(self.plan.buffers.len() - 1)
    }

    pub(super) fn literal(&mut self, values: &[f32]) -> Option<BufferId> {
        let tensor = Arc::new(Tensor::from_values(vec![values.len()], values).ok()?);
        let shape = vec![values.len()];
        let place = Place::Constant(tensor);
        self.plan.buffers.push(Buffer { datatype: Datatype::Fp32, shape, layout: Layout::Rows, place });
        Some(BufferId(self.plan.buffers.len() - 1))
    }

    fn common_layout(&self, a: ValueId, b: ValueId) -> Layout {
        match (self.layout_of(a), self.layout_of(b)) {
            (Layout::Rows, Layout::Rows) => Layout::Rows,
            _ => Layout::ChannelsLast,
        }
    }

    fn binary(&mut self, index: usize) -> Lowered<bool> {
        let placed = self.placed(index);
        let kind = match placed.node.op.as_str() {
            "Add" => BinaryKind::Add,
            "Sub" => BinaryKind::Sub,
            "Mul" => BinaryKind::Mul,
            "Div" => BinaryKind::Div,
            "Pow" => BinaryKind::Pow,
            "PRelu" => BinaryKind::PRelu,
            "Min" => BinaryKind::Min,
            "Max" => BinaryKind::Max,
            _ => return Ok(false),
        };
        let (Some(a), Some(b), Some(out)) = (input(placed, 0), input(placed, 1), output(placed)) else {
            return Ok(false);
        };
        if let Some((bytes, function, sink)) = self.with_number(kind, [a, b], out) {
            return self.map_bytes(placed, bytes, function, &sink);
        }
        let floats = [a, b, out].iter().all(|id| self.value(*id).datatype == Datatype::Fp32);
        let shape = self.shape(out);
        let broadcasts = rules::broadcast([self.shape(a), self.shape(b)]).is_ok_and(|s| s == shape);
        if !floats || placed.inputs.len() != 2 || !broadcasts || shape.contains(&0) || shape.len() > 8 {
            return Ok(false);
        }
        let whole = |id: &ValueId| self.shape(*id) == shape && !is_same_order(shape);
        let last = [a, b].iter().filter(|id| whole(id)).any(|id| self.layout_of(*id) == Layout::ChannelsLast);
        let layout = if last { Layout::ChannelsLast } else { Layout::Rows };
        let mut inputs = Vec::new();
        for id in [a, b] {
            let own = if self.shape(id) == shape { layout } else { Layout::Rows };
            inputs.push(self.want(id, Form { layout: own, shifted: false })?);
        }
        let (activation, nodes, last) = self.activation(out).unwrap_or((Activation::None, Vec::new(), out));
        let shapes = [self.shape(a).to_vec(), self.shape(b).to_vec()];
        let binary = broadcasting(kind, &shapes, shape, layout, activation);
        let to = self.make(last, Form { layout, shifted: false });
        self.emit(Operation::Binary(binary), inputs, vec![to], &placed.node);
        self.claim(&nodes);
        Ok(true)
    }

    /// Bytes and a number that a binary operator makes bytes of.
    fn with_number(
        &self,
        kind: BinaryKind,
        operands: [ValueId; 2],
        out: ValueId,
    ) -> Option<((ValueId, Quant), MapFunction, Sink)> {
        let bytes = operands.map(|id| self.as_bytes(id).filter(|(q, _)| self.constant(*q).is_none()));
        let number_first = bytes[0].is_none();
        let number = operands[usize::from(!number_first)];
        let bytes = bytes[usize::from(number_first)]?;
        let number = match self.floats(number)?.as_slice() {
            [one] if self.shape(number).len() <= self.shape(out).len() => *one,
            _ => return None,
        };
        let sink = self.sink(out).filter(|_| self.shape(bytes.0) == self.shape(out))?;
        Some((bytes, MapFunction::Scalar { kind, number, number_first }, sink))
    }

    /// BatchNormalization that no convolution takes in: a product and a sum per channel.
    fn normalise(&mut self, placed: &Placed) -> Lowered<bool> {
        let (Some(x), Some(out)) = (input(placed, 0), output(placed)) else { return Ok(false) };
        let shape = self.shape(x);
        let is_float =
            self.value(x).datatype == Datatype::Fp32 && placed.outputs.iter().flatten().count() == 1;
        let Some((scale, shift)) = self.scale_and_shift(placed).filter(|_| is_float) else {
            return Ok(false);
        };
        if shape.get(1) != Some(&scale.len()) || placed.node.attributes.flag("training_mode") {
            return Ok(false);
        }
        let layout = self.layout_of(x);
        let form = Form { layout, shifted: false };
        let from = self.want(x, form)?;
        let (Some(scale_buffer), Some(shift_buffer)) = (self.literal(&scale), self.literal(&shift)) else {
            return Ok(false);
        };
        let mut channel = vec![1; shape.len() - 1];
        channel[0] = scale.len();
        let shapes = [shape.to_vec(), channel];
        let middle = self.scratch(Datatype::Fp32, shape.to_vec(), layout);
        let product = broadcasting(BinaryKind::Mul, &shapes, shape, layout, Activation::None);
        self.emit(Operation::Binary(product), vec![from, scale_buffer], vec![middle], &placed.node);
        let (activation, nodes, last) = self.activation(out).unwrap_or((Activation::None, Vec::new(), out));
        let to = self.make(last, form);
        let sum = broadcasting(BinaryKind::Add, &shapes, shape, layout, activation);
        self.emit(Operation::Binary(sum), vec![middle, shift_buffer], vec![to], &placed.node);
        self.claim(&nodes);
        Ok(true)
    }

    fn softmax(&mut self, index: usize) -> Lowered<bool> {
        let placed = self.placed(index);
        let (Some(x), Some(out)) = (input(placed, 0), output(placed)) else { return Ok(false) };
        let shape = self.shape(x);
        let default = if placed.node.version >= 13 { -1 } else { 1 };
        let axis = placed.node.attributes.int("axis").unwrap_or(default);
        let Ok(axis) = rules::axis_index(axis, shape.len()) else { return Ok(false) };
        // Before version 13, everything from the axis on is one axis.
        let last = shape[axis + 1..].iter().product::<usize>() == 1;
        if !last || self.value(x).datatype != Datatype::Fp32 || shape.contains(&0) {
            return Ok(false);
        }
        let log = placed.node.op == "LogSoftmax";
        if let (Some((q, before)), Some(sink), false) = (self.as_bytes(x), self.sink(out), log)
            && (sink.min, sink.max) == (0, 255)
        {
            let from = self.want(q, self.bytes_form(q, Layout::Rows))?;
            let to = self.make(sink.q, self.bytes_form(sink.q, Layout::Rows));
            let signed = self.value(sink.q).datatype == Datatype::Int8;
            let operation = Operation::QSoftmax { input_scale: before.scale, output: sink.quant, signed };
            self.emit(operation, vec![from], vec![to], &placed.node);
            self.claim(&sink.nodes);
            return Ok(true);
        }
        let from = self.want(x, Form::plain())?;
        let to = self.make(out, Form::plain());
        self.emit(Operation::Softmax { log }, vec![from], vec![to], &placed.node);
        Ok(true)
    }
}

pub(super) fn broadcasting(
    kind: BinaryKind,
    shapes: &[Vec<usize>; 2],
    out: &[usize],
    layout: Layout,
    activation: Activation,
) -> Binary {
    let strides = |shape: &[usize]| {
        if shape == out {
            let sizes = physical(out, layout);
            return strides_over(&sizes, &sizes, 1);
        }
        physical(&strides_over(shape, out, 1), layout)
    };
    Binary {
        kind,
        a_strides: strides(&shapes[0]),
        b_strides: strides(&shapes[1]),
        sizes: physical(out, layout),
        activation,
    }
}

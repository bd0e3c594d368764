//! Operators that move elements: most only change what a buffer is called.

use super::{Form, Lower, Lowered, Placed, ValueId, forms::physical, input, output, quant::requantising};
use crate::{
    datatype::Datatype,
    plan::{Layout, Operation, Quant},
    rules,
};

impl Lower<'_> {
    pub(super) fn movement(&mut self, index: usize) -> Lowered<bool> {
        let placed = self.placed(index);
        let (Some(x), Some(out)) = (input(placed, 0), output(placed)) else { return Ok(false) };
        match placed.node.op.as_str() {
            "Concat" => self.concat(index),
            "com.microsoft.QLinearConcat" => self.qlinear_concat(placed),
            _ if self.value(x).datatype == Datatype::Bytes => Ok(false),
            "Transpose" => self.transpose(placed, x, out),
            _ if self.placed(index).outputs.iter().flatten().count() != 1 => Ok(false),
            _ => {
                let form = self.natural(x, Layout::Rows);
                let buffer = self.want(x, form)?;
                // Another shape, the same elements: where the plan is given offsets, both are one piece of memory.
                let made = self.reshaped(buffer, out, form);
                self.alias(out, form, made);
                Ok(true)
            }
        }
    }

    /// The form in which a value lies already, as to its shift, in a layout.
    pub(super) fn natural(&self, id: ValueId, layout: Layout) -> Form {
        let shifted = [Layout::Rows, Layout::ChannelsLast]
            .iter()
            .any(|layout| self.forms.contains_key(&(id, Form { layout: *layout, shifted: true })));
        Form { layout, shifted }
    }

    fn transpose(&mut self, placed: &Placed, x: ValueId, out: ValueId) -> Lowered<bool> {
        let shape = self.shape(x);
        let rank = shape.len();
        let Ok(order) = rules::permutation(&placed.node, rank) else { return Ok(false) };
        let to_last: Vec<usize> = std::iter::once(0).chain(2..rank).chain([1]).collect();
        let to_first: Vec<usize> = std::iter::once(0).chain([rank - 1]).chain(1..rank - 1).collect();
        if rank >= 3 && order == to_last && self.layout_of(x) == Layout::ChannelsLast {
            let form = self.natural(x, Layout::ChannelsLast);
            let buffer = self.want(x, form)?;
            let form = Form { layout: Layout::Rows, ..form };
            let made = self.reshaped(buffer, out, form);
            self.alias(out, form, made);
            return Ok(true);
        }
        if rank >= 3 && order == to_first {
            let form = self.natural(x, Layout::Rows);
            let buffer = self.want(x, form)?;
            let form = Form { layout: Layout::ChannelsLast, ..form };
            let made = self.reshaped(buffer, out, form);
            self.alias(out, form, made);
            return Ok(true);
        }
        if shape.contains(&0) || rank > 8 {
            return Ok(false);
        }
        let form = self.natural(x, Layout::Rows);
        let from = self.want(x, form)?;
        let to = self.make(out, form);
        let operation = Operation::Transpose { sizes: shape.to_vec(), order };
        self.emit(operation, vec![from], vec![to], &placed.node);
        Ok(true)
    }

    fn concat(&mut self, index: usize) -> Lowered<bool> {
        let placed = self.placed(index);
        let Some(out) = output(placed) else { return Ok(false) };
        let parts: Vec<ValueId> = placed.inputs.iter().flatten().copied().collect();
        let bytes: Option<Vec<(ValueId, Quant)>> = parts.iter().map(|id| self.as_bytes(*id)).collect();
        if let (Some(bytes), Some(sink)) = (bytes, self.sink(out))
            && (sink.min, sink.max) == (0, 255)
        {
            self.concat_bytes(placed, &bytes, sink.q, sink.quant)?;
            self.claim(&sink.nodes);
            return Ok(true);
        }
        if self.value(out).datatype == Datatype::Bytes {
            return Ok(false);
        }
        self.join(placed, &parts, out)
    }

    fn qlinear_concat(&mut self, placed: &Placed) -> Lowered<bool> {
        let Some(out) = output(placed) else { return Ok(false) };
        let Some(quant) = self.quant(input(placed, 0), input(placed, 1), self.value(out).datatype) else {
            return Ok(false);
        };
        let part = |place: usize| {
            let id = input(placed, place)?;
            let quant =
                self.quant(input(placed, place + 1), input(placed, place + 2), self.value(id).datatype)?;
            Some((id, quant))
        };
        let parts: Option<Vec<_>> = (2..placed.inputs.len()).step_by(3).map(part).collect();
        let Some(parts) = parts else { return Ok(false) };
        self.concat_bytes(placed, &parts, out, quant)
    }

    /// Joins bytes, each part first brought to the meaning of the whole.
    fn concat_bytes(
        &mut self,
        placed: &Placed,
        parts: &[(ValueId, Quant)],
        out: ValueId,
        quant: Quant,
    ) -> Lowered<bool> {
        let last = parts.iter().any(|(id, _)| self.layout_of(*id) == Layout::ChannelsLast);
        let layout = if last { Layout::ChannelsLast } else { Layout::Rows };
        let mut inputs = Vec::new();
        let mut shapes = Vec::new();
        for (id, before) in parts {
            let mut buffer = self.want(*id, self.bytes_form(*id, layout))?;
            if *before != quant {
                let to = self.scratch(Datatype::Uint8, self.shape(*id).to_vec(), layout);
                self.emit(requantising(*before, quant), vec![buffer], vec![to], &placed.node);
                buffer = to;
            }
            inputs.push(buffer);
            shapes.push(self.shape(*id).to_vec());
        }
        let Some(operation) = joining(placed, &shapes, layout) else { return Ok(false) };
        let to = self.make(out, self.bytes_form(out, layout));
        self.emit(operation, inputs, vec![to], &placed.node);
        Ok(true)
    }

    fn join(&mut self, placed: &Placed, parts: &[ValueId], out: ValueId) -> Lowered<bool> {
        let last = parts.iter().any(|id| self.layout_of(*id) == Layout::ChannelsLast);
        let layout = if last { Layout::ChannelsLast } else { Layout::Rows };
        let shapes: Vec<Vec<usize>> = parts.iter().map(|id| self.shape(*id).to_vec()).collect();
        let Some(operation) = joining(placed, &shapes, layout) else { return Ok(false) };
        let form = Form { layout, shifted: false };
        let inputs = parts.iter().map(|id| self.want(*id, form)).collect::<Lowered<_>>()?;
        let to = self.make(out, form);
        self.emit(operation, inputs, vec![to], &placed.node);
        Ok(true)
    }
}

fn joining(placed: &Placed, shapes: &[Vec<usize>], layout: Layout) -> Option<Operation> {
    let rank = shapes.first()?.len();
    let axis = rules::axis_index(placed.node.attributes.int("axis").unwrap_or(1), rank).ok()?;
    let at = match (layout, axis) {
        (Layout::Rows, axis) => axis,
        (Layout::ChannelsLast, 0) => 0,
        (Layout::ChannelsLast, 1) => rank - 1,
        (Layout::ChannelsLast, axis) => axis - 1,
    };
    let sizes: Vec<Vec<usize>> = shapes.iter().map(|shape| physical(shape, layout)).collect();
    let outer = sizes.first()?[..at].iter().product();
    let inner = sizes.iter().map(|sizes| sizes[at..].iter().product()).collect();
    Some(Operation::Concat { outer, inner })
}

//! Values to buffers, in the form that a step asks for.

use super::{CompileError, Lower, Lowered, ValueId, quant::Lazy};
use crate::{
    datatype::Datatype,
    plan::{Buffer, BufferId, Layout, Operation, Place, Step},
    rules,
    tensor::Tensor,
};
use std::sync::Arc;

/// How a value lies in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    pub(super) layout: Layout,
    /// Whether int8 is shifted by 128 to bytes; true only for int8 values.
    pub(super) shifted: bool,
}

impl Form {
    /// As ONNX has it.
    pub(super) const fn plain() -> Self {
        Self { layout: Layout::Rows, shifted: false }
    }
}

/// Sizes of a shape's batch, spatial axes together, and channels.
pub(super) fn split_channels(shape: &[usize]) -> Option<(usize, usize, usize)> {
    match shape {
        [n, c, spatial @ ..] if !spatial.is_empty() => Some((*n, spatial.iter().product(), *c)),
        _ => None,
    }
}

/// Whether both layouts are the same order of elements.
pub(super) fn is_same_order(shape: &[usize]) -> bool {
    split_channels(shape).is_none_or(|(_, spatial, channels)| spatial == 1 || channels == 1)
}

/// Physical sizes, slowest axis first.
pub(super) fn physical(shape: &[usize], layout: Layout) -> Vec<usize> {
    match (layout, shape) {
        (Layout::ChannelsLast, [n, c, spatial @ ..]) if !spatial.is_empty() => {
            [&[*n], spatial, &[*c]].concat()
        }
        _ => shape.to_vec(),
    }
}

impl Lower<'_> {
    /// The form of a quantised value's bytes.
    pub(super) fn bytes_form(&self, id: ValueId, layout: Layout) -> Form {
        Form { layout, shifted: self.value(id).datatype == Datatype::Int8 }
    }

    fn normal(&self, id: ValueId, form: Form) -> Form {
        if is_same_order(self.shape(id)) { Form { layout: Layout::Rows, ..form } } else { form }
    }

    /// A new buffer for a value, which the step about to be emitted writes.
    pub(super) fn make(&mut self, id: ValueId, form: Form) -> BufferId {
        let form = self.normal(id, form);
        let place = if self.value(id).datatype == Datatype::Bytes {
            self.plan.outside += 1;
            Place::Outside(self.plan.outside - 1)
        } else {
            Place::Arena(0)
        };
        let buffer = self.buffer(id, form, place);
        self.forms.insert((id, form), buffer);
        buffer
    }

    fn buffer(&mut self, id: ValueId, form: Form, place: Place) -> BufferId {
        let value = self.value(id);
        let datatype = if form.shifted { Datatype::Uint8 } else { value.datatype };
        self.plan.buffers.push(Buffer { datatype, shape: value.shape.clone(), layout: form.layout, place });
        BufferId(self.plan.buffers.len() - 1)
    }

    /// Says that a value in this form is what lies in a buffer already.
    pub(super) fn alias(&mut self, id: ValueId, form: Form, buffer: BufferId) {
        let form = self.normal(id, form);
        self.forms.insert((id, form), buffer);
    }

    /// The elements of a buffer under a value's shape, in a form of the value's: the same memory.
    pub(super) fn reshaped(&mut self, of: BufferId, id: ValueId, form: Form) -> BufferId {
        let form = self.normal(id, form);
        let place = match &self.plan.buffers[of.0].place {
            Place::Arena(_) => Place::View(of),
            other => other.clone(),
        };
        self.buffer(id, form, place)
    }

    /// A value in the form asked for; steps that convert it are emitted where it does not lie so yet.
    pub(super) fn want(&mut self, id: ValueId, form: Form) -> Lowered<BufferId> {
        let form = self.normal(id, form);
        if let Some(buffer) = self.forms.get(&(id, form)) {
            return Ok(*buffer);
        }
        if let Some(tensor) = self.constant(id) {
            let tensor = Arc::clone(tensor);
            return self.constant_buffer(id, form, tensor);
        }
        match self.lazy.get(&id).cloned() {
            Some(Lazy::Bytes { q, quant }) => {
                let from = self.want(q, self.bytes_form(q, self.layout_of(q)))?;
                let to = self.make(id, form);
                self.convert(Operation::Dequantise(quant), from, to, id);
                return Ok(to);
            }
            Some(Lazy::Weights(weights)) => {
                let tensor = weights.to_floats(self).map_err(CompileError::failed)?;
                return self.constant_buffer(id, form, Arc::new(tensor));
            }
            None => {}
        }
        let other = if form.layout == Layout::Rows { Layout::ChannelsLast } else { Layout::Rows };
        let relaid = Form { layout: other, ..form };
        if let Some(from) = self.forms.get(&(id, relaid)).copied() {
            return Ok(self.relay(id, from, other, form));
        }
        let flipped = Form { shifted: !form.shifted, ..form };
        let both = Form { layout: other, ..flipped };
        if self.value(id).datatype == Datatype::Int8 {
            if let Some(from) = self.forms.get(&(id, flipped)).copied() {
                let to = self.make(id, form);
                self.convert(Operation::Flip, from, to, id);
                return Ok(to);
            }
            if let Some(from) = self.forms.get(&(id, both)).copied() {
                let middle = self.make(id, relaid);
                self.convert(Operation::Flip, from, middle, id);
                return Ok(self.relay(id, middle, other, form));
            }
        }
        if let Some(index) = self.makers[id.0].filter(|index| self.deferred.contains(index)) {
            self.deferred.remove(&index);
            if !self.pointwise(index)? {
                self.fall_back(index)?;
            }
            return self.want(id, form);
        }
        Err(CompileError::failed(format!("{:?} is read before it is made", self.value(id).name)))
    }

    fn constant_buffer(&mut self, id: ValueId, form: Form, mut tensor: Arc<Tensor>) -> Lowered<BufferId> {
        let fail = || CompileError::failed(format!("constant {:?} cannot be laid out", self.value(id).name));
        if form.layout == Layout::ChannelsLast {
            let rank = tensor.shape().len();
            let order: Vec<usize> = std::iter::once(0).chain(2..rank).chain([1]).collect();
            let moved = rules::transposed(&tensor, &order).ok_or_else(fail)?;
            tensor = Arc::new(moved);
        }
        if form.shifted {
            let bytes = tensor.as_le_bytes().ok_or_else(fail)?.iter().map(|b| b ^ 0x80).collect();
            let shifted = Tensor::from_le_bytes(Datatype::Uint8, tensor.shape().to_vec(), bytes);
            tensor = Arc::new(shifted.map_err(|_| fail())?);
        }
        let buffer = self.buffer(id, form, Place::Constant(tensor));
        self.forms.insert((id, form), buffer);
        Ok(buffer)
    }

    fn relay(&mut self, id: ValueId, from: BufferId, layout: Layout, form: Form) -> BufferId {
        let (n, spatial, c) = split_channels(self.shape(id)).unwrap_or((1, 1, 1));
        let sizes = if layout == Layout::Rows { vec![n, c, spatial] } else { vec![n, spatial, c] };
        let to = self.make(id, form);
        self.convert(Operation::Transpose { sizes, order: vec![0, 2, 1] }, from, to, id);
        to
    }

    fn convert(&mut self, operation: Operation, from: BufferId, to: BufferId, id: ValueId) {
        let name = self.value(id).name.clone();
        let operators = Vec::new();
        self.plan.steps.push(Step { operation, inputs: vec![from], outputs: vec![to], name, operators });
    }
}

//! Tensors that are quantised by the range they turn out to have, and products of them.

use super::{
    Form, Lower, Lowered, Placed, ValueId,
    conv::weights_by_channel,
    forms::{is_same_order, split_channels},
    input, output,
    quant::{Weights, integers},
};
use crate::{
    datatype::Datatype,
    plan::{
        self, Buffer, BufferId, Conv2d, DYNAMIC_HEAD_BYTES, Layout, Operation, Place, QConv, QConvOutput,
    },
};
use std::sync::Arc;

/// Where the zero point lies in what a dynamic quantisation makes.
const ZERO_AT: usize = size_of::<f32>();

/// Floats that exact sums are scaled to.
struct Scaled {
    /// The input's scale.
    scale: ValueId,
    /// Scales of the weights.
    multiplier: Vec<f32>,
    bias: Option<Vec<f32>>,
    /// Nodes that the step takes in.
    nodes: Vec<usize>,
    last: ValueId,
}

impl Lower<'_> {
    /// `DynamicQuantizeLinear`.
    pub(super) fn dynamic_quantise(&mut self, index: usize) -> Lowered<bool> {
        let placed = self.placed(index);
        let [Some(bytes), scale, zero] = [0, 1, 2].map(|at| placed.outputs.get(at).copied().flatten()) else {
            return Ok(false);
        };
        let Some(x) = input(placed, 0) else { return Ok(false) };
        let shape = self.shape(x).to_vec();
        if shape.contains(&0) || self.value(x).datatype != Datatype::Fp32 {
            return Ok(false);
        }
        let for_images = |reader: &usize| self.placed(*reader).node.op == "ConvInteger";
        let images = self.readers[bytes.0].iter().any(for_images) && !is_same_order(&shape);
        let lies = self.layout_of(x);
        let to_last = match split_channels(&shape) {
            Some((images, pixels, channels)) if lies == Layout::Rows => Some([images, pixels, channels]),
            _ => None,
        };
        let layout = if images { lies } else { Layout::Rows };
        let from = self.want(x, Form { layout, shifted: false })?;
        let to_last = to_last.filter(|_| images);
        let made = self.quantise_by_range(placed, from, shape, to_last);
        let layout = if images { Layout::ChannelsLast } else { Layout::Rows };
        for (id, (buffer, layout)) in [scale, zero, Some(bytes)].into_iter().zip(made.into_iter().zip([
            Layout::Rows,
            Layout::Rows,
            layout,
        ])) {
            if let Some(id) = id {
                self.alias(id, Form { layout, shifted: false }, buffer);
            }
        }
        Ok(true)
    }

    /// A product of bytes whose zero point only a run tells.
    pub(super) fn dynamic_product(&mut self, index: usize) -> Lowered<bool> {
        let placed = self.placed(index);
        let (Some(x), Some(zero), Some(out)) = (input(placed, 0), input(placed, 2), output(placed)) else {
            return Ok(false);
        };
        let bytes = [x, zero].iter().all(|id| self.value(*id).datatype == Datatype::Uint8);
        let live = self.constant(zero).is_none() && self.shape(zero).iter().product::<usize>() == 1;
        if !bytes || !live {
            return Ok(false);
        }
        let Some((geometry, weights, layout)) = self.integer_weights(placed, x) else { return Ok(false) };
        let scaled = self.scaled(out, geometry.out_c, layout);
        let mut inputs =
            vec![self.want(x, Form { layout, shifted: false })?, self.want(zero, Form::plain())?];
        let (last, output) = match &scaled {
            Some(Scaled { scale, multiplier, bias, last, .. }) => {
                inputs.push(self.want(*scale, Form::plain())?);
                let multiplier = Arc::new(multiplier.clone());
                (*last, QConvOutput::Floats { multiplier, bias: bias.clone().map(Arc::new) })
            }
            None => (out, QConvOutput::Sums),
        };
        let to = self.make(last, Form { layout, shifted: false });
        let conv = QConv { geometry, weights, bias: None, input_zero: 0, output };
        self.emit(Operation::DynamicConv(conv), inputs, vec![to], &placed.node);
        self.claim(&scaled.map(|scaled| scaled.nodes).unwrap_or_default());
        Ok(true)
    }

    /// Sizes, constant weights and the layout of an integer product.
    fn integer_weights(&self, placed: &Placed, x: ValueId) -> Option<(Conv2d, plan::Weights<i16>, Layout)> {
        let w = input(placed, 1)?;
        let zeros = match input(placed, 3) {
            Some(id) => integers(self.constant(id)?).ok()?,
            None => vec![0],
        };
        if placed.node.op == "ConvInteger" {
            let geometry = self.geometry(placed, x, w)?;
            let weights = Weights { q: w, scales: vec![1.0], zeros, axis: 0 };
            return Some((geometry, weights_by_channel(self, &weights)?, Layout::ChannelsLast));
        }
        let factors = self.factors(placed, 1)?;
        let weights = Weights { q: w, scales: vec![1.0], zeros, axis: 1 };
        let (weights, _) = self.columns_first(&factors, &weights)?;
        Some((Conv2d::matmul(factors.rows, factors.k, factors.n), weights, Layout::Rows))
    }

    /// The floats that sums become, where they are scaled at once: `Mul(Cast(sums), Mul(scale, constant))`, and a constant for each
    /// column added.
    fn scaled(&self, sums: ValueId, columns: usize, layout: Layout) -> Option<Scaled> {
        let cast = self.only_reader(sums)?;
        let floats = output(self.placed(cast))?;
        let product = self.only_reader(floats)?;
        let (cast_node, product_node) = (self.placed(cast), self.placed(product));
        let is_float = self.value(floats).datatype == Datatype::Fp32;
        if cast_node.node.op != "Cast" || product_node.node.op != "Mul" || !is_float {
            return None;
        }
        let (a, b) = (input(product_node, 0)?, input(product_node, 1)?);
        let (scale, multiplier) = self.dynamic_scale(if a == floats { b } else { a })?;
        let last = output(product_node)?;
        let whole = self.shape(last) == self.shape(sums);
        if !whole || (multiplier.len() != 1 && (multiplier.len() != columns || layout != Layout::Rows)) {
            return None;
        }
        let plain = Scaled { scale, multiplier, bias: None, nodes: vec![cast, product], last };
        if layout == Layout::Rows
            && let Some((add, bias)) = self.constant_sum(last, columns)
        {
            let last = output(self.placed(add))?;
            return Some(Scaled { bias: Some(bias), nodes: vec![cast, product, add], last, ..plain });
        }
        Some(plain)
    }

    /// A dynamic scale and the constants that it is multiplied by.
    fn dynamic_scale(&self, id: ValueId) -> Option<(ValueId, Vec<f32>)> {
        let placed = self.placed(self.makers[id.0]?);
        let (a, b) = (input(placed, 0)?, input(placed, 1)?);
        let (scale, constant) = if self.constant(b).is_some() { (a, b) } else { (b, a) };
        let maker = self.placed(self.makers[scale.0]?);
        let dynamic = maker.node.op == "DynamicQuantizeLinear" && maker.outputs.get(1) == Some(&Some(scale));
        let values = self.floats(constant)?;
        (placed.node.op == "Mul" && dynamic && self.shape(id).iter().product::<usize>() == values.len())
            .then_some((scale, values))
    }

    /// Leaves the product of a dynamic scale and constants unmade until something asks for it: most often, the step that scales by it
    /// does both.
    pub(super) fn defer_scale(&mut self, index: usize) -> bool {
        let deferred = output(self.placed(index)).is_some_and(|id| self.dynamic_scale(id).is_some());
        if deferred {
            self.deferred.insert(index);
        }
        deferred
    }

    /// Quantises floats by their range: buffers of the scale, the zero point and the bytes.
    pub(super) fn quantise_by_range(
        &mut self,
        placed: &Placed,
        from: BufferId,
        shape: Vec<usize>,
        to_last: Option<[usize; 3]>,
    ) -> [BufferId; 3] {
        let count: usize = shape.iter().product();
        let layout = if to_last.is_some() { Layout::ChannelsLast } else { self.plan.buffers[from.0].layout };
        let whole = self.scratch(Datatype::Uint8, vec![DYNAMIC_HEAD_BYTES + count], Layout::Rows);
        self.emit(Operation::DynamicQuantise { to_last }, vec![from], vec![whole], &placed.node);
        [
            self.slice(whole, 0, Datatype::Fp32, Vec::new(), Layout::Rows),
            self.slice(whole, ZERO_AT, Datatype::Uint8, Vec::new(), Layout::Rows),
            self.slice(whole, DYNAMIC_HEAD_BYTES, Datatype::Uint8, shape, layout),
        ]
    }

    fn slice(
        &mut self,
        whole: BufferId,
        offset: usize,
        datatype: Datatype,
        shape: Vec<usize>,
        layout: Layout,
    ) -> BufferId {
        self.plan.buffers.push(Buffer { datatype, shape, layout, place: Place::Part(whole, offset) });
        BufferId(self.plan.buffers.len() - 1)
    }
}

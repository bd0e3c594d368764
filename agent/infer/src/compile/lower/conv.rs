//! Convolutions: f32, quantised on both sides, and the quantised operators of their own.

use super::{
    Form, Lower, Lowered, Placed, ValueId, input, output,
    quant::{Sink, Weights, integers},
};
use crate::{
    datatype::Datatype,
    plan::{self, Activation, Conv, Conv2d, Layout, Operation, QConv, QConvOutput, QPair, QResidual},
    rules::{Window, window},
    tensor::Tensor,
};
use std::sync::Arc;

const LAST: Layout = Layout::ChannelsLast;

/// How many times larger than the input its padded form may be, where it is more than so many pixels.
const PADDED_MAX: usize = 16;
const PADDED_PIXELS: usize = 1 << 16;

/// A product of bytes with constant weights, whose output is still to be decided.
pub(super) struct QProduct {
    pub(super) geometry: Conv2d,
    /// Out channels first, zero points subtracted.
    pub(super) weights: plan::Weights<i16>,
    pub(super) bias: Option<Arc<Vec<i32>>>,
    /// Scale of a sum: the input's times the weights', one for all or one per output channel.
    pub(super) scales: Vec<f32>,
    pub(super) x: ValueId,
    pub(super) input_zero: u8,
    pub(super) layout: Layout,
}

impl Lower<'_> {
    pub(super) fn convolution(&mut self, index: usize) -> Lowered<bool> {
        let placed = self.placed(index);
        let (x, w) = match placed.node.op.as_str() {
            "QLinearConv" => (input(placed, 0), input(placed, 3)),
            _ => (input(placed, 0), input(placed, 1)),
        };
        let (Some(x), Some(w), Some(out)) = (x, w, output(placed)) else { return Ok(false) };
        let Some(geometry) = self.geometry(placed, x, w) else { return Ok(false) };
        match placed.node.op.as_str() {
            "QLinearConv" => Ok(self.qlinear_conv(placed, geometry, out)?.is_some()),
            "ConvInteger" => Ok(self.conv_integer(placed, geometry, out)?.is_some()),
            _ if self.value(x).datatype != Datatype::Fp32 => Ok(false),
            _ => {
                if let Some(product) = self.quantised_conv(placed, geometry) {
                    self.finish_product(index, product, out)?;
                    return Ok(true);
                }
                self.float_conv(index, geometry)
            }
        }
    }

    /// Sizes of a one- or two-dimensional convolution.
    pub(super) fn geometry(&self, placed: &Placed, x: ValueId, w: ValueId) -> Option<Conv2d> {
        let (x, w) = (self.shape(x), self.shape(w));
        if x.len() != w.len() || !(3..=4).contains(&x.len()) || x.contains(&0) || w.contains(&0) {
            return None;
        }
        let Window { kernel, strides, dilations, pads, .. } = window(&placed.node, &w[2..], &x[2..]).ok()?;
        let two = |values: &[usize]| match values {
            [w] => [1, *w],
            _ => [values[0], values[1]],
        };
        let (before, after): (Vec<usize>, Vec<usize>) = pads.into_iter().unzip();
        let pad = |values: &[usize]| match values {
            [w] => [0, *w],
            _ => [values[0], values[1]],
        };
        let (before, after) = (pad(&before), pad(&after));
        let [in_h, in_w] = two(&x[2..]);
        let [kernel_h, kernel_w] = two(&kernel);
        let [stride_h, stride_w] = two(&strides);
        let [dilation_h, dilation_w] = two(&dilations);
        let groups = placed.node.attributes.int("group").unwrap_or(1);
        // Kernels may copy input rows with their padding.
        let padded = (in_h.checked_add(before[0])?.checked_add(after[0])?)
            .checked_mul(in_w.checked_add(before[1])?.checked_add(after[1])?)?;
        if padded > (in_h * in_w).saturating_mul(PADDED_MAX).max(PADDED_PIXELS) {
            return None;
        }
        Some(Conv2d {
            batch: x[0],
            in_h,
            in_w,
            in_c: x[1],
            out_c: w[0],
            kernel_h,
            kernel_w,
            stride_h,
            stride_w,
            dilation_h,
            dilation_w,
            pad: [before[0], before[1], after[0], after[1]],
            groups: usize::try_from(groups).ok()?,
        })
    }

    /// A convolution whose input and weights are dequantised integers.
    fn quantised_conv(&self, placed: &Placed, geometry: Conv2d) -> Option<QProduct> {
        let (x, quant) = self.as_bytes(input(placed, 0)?)?;
        let weights = self.as_weights(input(placed, 1)?)?;
        if weights.axis != 0 && weights.scales.len() != 1 {
            return None;
        }
        let values = weights_by_channel(self, &weights)?;
        let scales: Vec<f32> = weights.scales.iter().map(|s| quant.scale * s).collect();
        let bias = match input(placed, 2) {
            Some(id) => Some(self.bias(id, &scales)?),
            None => None,
        };
        Some(QProduct { geometry, weights: values, bias, scales, x, input_zero: quant.zero, layout: LAST })
    }

    /// A bias in units of the sums: int32 as it stands, f32 rounded to them.
    pub(super) fn bias(&self, id: ValueId, scales: &[f32]) -> Option<Arc<Vec<i32>>> {
        if let Some(weights) = self.as_weights(id) {
            let tensor = self.constant(weights.q)?;
            if tensor.datatype() == Datatype::Int32 && weights.zeros.iter().all(|z| *z == 0) {
                return Some(Arc::new(integers(tensor).ok()?));
            }
        }
        let floats: Vec<f32> = self.constant(id)?.values::<f32>().ok()?.collect();
        let scale = |at: usize| scales.get(at).or(scales.first()).copied().unwrap_or(1.0);
        #[allow(clippy::cast_possible_truncation, reason = "saturates")]
        let rounded =
            floats.iter().enumerate().map(|(at, b)| (f64::from(*b) / f64::from(scale(at))).round() as i32);
        Some(Arc::new(rounded.collect()))
    }

    fn qlinear_conv(&mut self, placed: &Placed, geometry: Conv2d, out: ValueId) -> Lowered<Option<()>> {
        let prepared = (|| {
            let x = input(placed, 0)?;
            let x_quant = self.quant(input(placed, 1), input(placed, 2), self.value(x).datatype)?;
            let w = input(placed, 3)?;
            let (scales, zeros) =
                self.scales(input(placed, 4)?, None, self.value(w).datatype).map(|(scales, _)| {
                    let zeros = input(placed, 5).and_then(|z| integers(self.constant(z)?).ok());
                    (scales, zeros.unwrap_or_else(|| vec![0]))
                })?;
            let quant = self.quant(input(placed, 6), input(placed, 7), self.value(out).datatype)?;
            let weights =
                weights_by_channel(self, &Weights { q: w, scales: scales.clone(), zeros, axis: 0 })?;
            let bias = match input(placed, 8) {
                Some(id) => Some(Arc::new(integers(self.constant(id)?).ok()?)),
                None => None,
            };
            let scales: Vec<f32> = scales.iter().map(|s| x_quant.scale * s).collect();
            let input_zero = x_quant.zero;
            Some((QProduct { geometry, weights, bias, scales, x, input_zero, layout: LAST }, quant))
        })();
        let Some((product, quant)) = prepared else { return Ok(None) };
        let sink = Sink { q: out, quant, min: 0, max: 255, nodes: Vec::new() };
        self.emit_bytes(product, &sink, None, placed)?;
        Ok(Some(()))
    }

    fn conv_integer(&mut self, placed: &Placed, geometry: Conv2d, out: ValueId) -> Lowered<Option<()>> {
        let prepared = (|| {
            let (x, w) = (input(placed, 0)?, input(placed, 1)?);
            let zero = match input(placed, 2) {
                Some(id) => *integers(self.constant(id)?).ok()?.first()?,
                None => 0,
            };
            let shift = if self.value(x).datatype == Datatype::Int8 { 128 } else { 0 };
            let zeros = match input(placed, 3) {
                Some(id) => integers(self.constant(id)?).ok()?,
                None => vec![0],
            };
            let weights = weights_by_channel(self, &Weights { q: w, scales: vec![1.0], zeros, axis: 0 })?;
            Some((x, u8::try_from(zero + shift).ok()?, weights))
        })();
        let Some((x, input_zero, weights)) = prepared else { return Ok(None) };
        let from = self.want(x, self.bytes_form(x, LAST))?;
        let to = self.make(out, Form { layout: LAST, shifted: false });
        let conv = QConv { geometry, weights, bias: None, input_zero, output: QConvOutput::Sums };
        self.emit(Operation::QConv(conv), vec![from], vec![to], &placed.node);
        Ok(Some(()))
    }

    /// Emits a product of dequantised integers: with bytes as output where it is quantised again, with f32 where not.
    pub(super) fn finish_product(&mut self, index: usize, product: QProduct, out: ValueId) -> Lowered<()> {
        let placed = self.placed(index);
        if let Some(sink) = self.sink(out) {
            let residual = self.residual(&sink);
            return self.emit_bytes(product, &sink, residual, placed);
        }
        let from = self.want(product.x, self.bytes_form(product.x, product.layout))?;
        let to = self.make(out, Form { layout: product.layout, shifted: false });
        let QProduct { geometry, weights, bias, scales, input_zero, .. } = product;
        let output = QConvOutput::Floats { multiplier: Arc::new(scales), bias: None };
        let conv = QConv { geometry, weights, bias, input_zero, output };
        self.emit(Operation::QConv(conv), vec![from], vec![to], &placed.node);
        Ok(())
    }

    /// Emits a product whose output is bytes, and after it the sum that they go into.
    pub(super) fn emit_bytes(
        &mut self,
        product: QProduct,
        sink: &Sink,
        residual: Option<Residual>,
        placed: &Placed,
    ) -> Lowered<()> {
        let QProduct { geometry, weights, bias, scales, x, input_zero, layout } = product;
        let mut inputs = vec![self.want(x, self.bytes_form(x, layout))?];
        let mut nodes = sink.nodes.clone();
        let (mut q, mut pair) = (sink.q, None);
        if let Some(residual) = residual {
            inputs.push(self.want(residual.other, self.bytes_form(residual.other, layout))?);
            nodes.extend(residual.nodes);
            q = residual.q;
            pair = Some(residual.sum);
        }
        let multiplier = Arc::new(scales.iter().map(|s| s / sink.quant.scale).collect());
        let output = QConvOutput::Bytes {
            multiplier,
            zero: sink.quant.zero,
            min: sink.min,
            max: sink.max,
            residual: pair,
        };
        let to = self.make(q, self.bytes_form(q, layout));
        let conv = QConv { geometry, weights, bias, input_zero, output };
        self.emit(Operation::QConv(conv), inputs, vec![to], &placed.node);
        self.claim(&nodes);
        Ok(())
    }

    /// A sum with another tensor of bytes that nothing but this result goes into.
    fn residual(&self, sink: &Sink) -> Option<Residual> {
        let dequantise = self.only_reader(sink.q)?;
        let (_, own) = self.bytes_of_node(dequantise)?;
        let own_float = output(self.placed(dequantise))?;
        let add = self.only_reader(own_float)?;
        let placed = self.placed(add);
        let (a, b) = (input(placed, 0)?, input(placed, 1)?);
        let own_first = a == own_float;
        let other_float = if own_first { b } else { a };
        if placed.node.op != "Add" || a == b || self.shape(other_float) != self.shape(own_float) {
            return None;
        }
        let (other, other_quant) =
            self.as_bytes(other_float).or_else(|| self.bytes_of_node(self.makers[other_float.0]?))?;
        let there = self.constant(other).is_some()
            || [LAST, Layout::Rows].iter().any(|layout| {
                let form = self.bytes_form(other, *layout);
                let plain = Form { shifted: false, ..form };
                self.forms.contains_key(&(other, form)) || self.forms.contains_key(&(other, plain))
            });
        if !there {
            return None;
        }
        let after = self.sink(output(placed)?)?;
        let signed = self.value(after.q).datatype == Datatype::Int8;
        let (a, b) = if own_first { (own, other_quant) } else { (other_quant, own) };
        let pair = QPair { a, b, out: after.quant, min: after.min, max: after.max, signed };
        let nodes = [dequantise, add].into_iter().chain(after.nodes).collect();
        Some(Residual { other, q: after.q, sum: QResidual { pair, own_first }, nodes })
    }

    fn float_conv(&mut self, index: usize, geometry: Conv2d) -> Lowered<bool> {
        let placed = self.placed(index);
        let (Some(x), Some(out)) = (input(placed, 0), output(placed)) else { return Ok(false) };
        let Some(weights) = input(placed, 1).and_then(|w| self.float_weights(w)) else { return Ok(false) };
        let bias = match input(placed, 2) {
            None => None,
            Some(id) => match self.floats(id) {
                Some(bias) => Some(bias),
                None => return Ok(false),
            },
        };
        let (weights, bias, mut nodes, last) = self.fold_normalisation(weights, bias, out);
        let tail = self.tail(last);
        nodes.extend(&tail.nodes);
        let mut inputs = vec![self.want(x, Form { layout: LAST, shifted: false })?];
        if let Some(other) = tail.residual {
            inputs.push(self.want(other, Form { layout: LAST, shifted: false })?);
        }
        let to = self.make(tail.last, Form { layout: LAST, shifted: false });
        let conv = Conv {
            geometry,
            weights,
            bias: bias.map(Arc::new),
            activation: tail.activation,
            residual: tail.residual.is_some(),
        };
        self.emit(Operation::Conv(conv), inputs, vec![to], &placed.node);
        self.claim(&nodes);
        Ok(true)
    }

    /// Constant floats that are made when they are packed.
    pub(super) fn float_weights(&self, id: ValueId) -> Option<plan::Weights<f32>> {
        if let Some(weights) = self.as_weights(id) {
            let tensor = Arc::clone(self.constant(weights.q)?);
            return Some(plan::Weights::made(tensor.len(), move || weights.floats_of(&tensor)));
        }
        let tensor = Arc::clone(self.constant(id)?);
        (tensor.datatype() == Datatype::Fp32)
            .then(|| plan::Weights::made(tensor.len(), move || tensor.f32s_once().map_err(|e| e.to_string())))
    }

    /// Constant floats, dequantised where they are integers.
    pub(super) fn floats(&self, id: ValueId) -> Option<Vec<f32>> {
        if let Some(weights) = self.as_weights(id) {
            return weights.to_floats(self).ok()?.to_f32s().ok();
        }
        self.constant(id)?.f32s_once().ok()
    }

    /// Scales weights and bias by a BatchNormalization that nothing else comes before.
    fn fold_normalisation(
        &self,
        weights: plan::Weights<f32>,
        bias: Option<Vec<f32>>,
        out: ValueId,
    ) -> (plan::Weights<f32>, Option<Vec<f32>>, Vec<usize>, ValueId) {
        let Some((reader, scales, shift)) = self.normalisation(out) else {
            return (weights, bias, Vec::new(), out);
        };
        let channels = scales.len();
        let mut bias = bias.unwrap_or_else(|| vec![0.0; channels]);
        for ((bias, scale), shift) in bias.iter_mut().zip(&scales).zip(&shift) {
            *bias = *bias * scale + shift;
        }
        let inner = (weights.len() / channels.max(1)).max(1);
        let weights = plan::Weights::made(weights.len(), move || {
            let mut values = weights.get()?;
            for (values, scale) in values.chunks_mut(inner).zip(&scales) {
                values.iter_mut().for_each(|value| *value *= scale);
            }
            Ok(values)
        });
        let last = output(self.placed(reader)).unwrap_or(out);
        (weights, Some(bias), vec![reader], last)
    }

    /// The BatchNormalization that alone reads a value, as scale and shift per channel.
    pub(super) fn normalisation(&self, id: ValueId) -> Option<(usize, Vec<f32>, Vec<f32>)> {
        let reader = self.only_reader(id)?;
        let placed = self.placed(reader);
        if placed.node.op != "BatchNormalization" || placed.node.attributes.flag("training_mode") {
            return None;
        }
        let (scale, shift) = self.scale_and_shift(placed)?;
        (self.shape(id).get(1) == Some(&scale.len())).then_some((reader, scale, shift))
    }

    /// `y = x * scale + shift` per channel of a BatchNormalization.
    pub(super) fn scale_and_shift(&self, placed: &Placed) -> Option<(Vec<f32>, Vec<f32>)> {
        let part = |place: usize| self.floats(input(placed, place)?);
        let (gamma, beta, mean, variance) = (part(1)?, part(2)?, part(3)?, part(4)?);
        let epsilon = placed.node.attributes.float("epsilon").unwrap_or(1e-5);
        let same = [&beta, &mean, &variance].iter().all(|v| v.len() == gamma.len());
        let scale: Vec<f32> = gamma.iter().zip(&variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
        let shift = beta.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        same.then_some((scale, shift))
    }

    /// What follows a float result and can be done with it: a sum with another tensor, an activation.
    pub(super) fn tail(&self, out: ValueId) -> Tail {
        let mut tail = Tail { activation: Activation::None, residual: None, nodes: Vec::new(), last: out };
        if let Some((add, other)) = self.sum_with(out)
            && let Some(sum) = output(self.placed(add))
        {
            tail.residual = Some(other);
            tail.nodes.push(add);
            tail.last = sum;
        }
        if let Some((activation, nodes, last)) = self.activation(tail.last) {
            tail.activation = activation;
            tail.nodes.extend(nodes);
            tail.last = last;
        }
        tail
    }

    /// The Add that alone reads a value, and its other operand where that is made already.
    fn sum_with(&self, id: ValueId) -> Option<(usize, ValueId)> {
        let add = self.only_reader(id)?;
        let placed = self.placed(add);
        let (a, b) = (input(placed, 0)?, input(placed, 1)?);
        let other = if a == id { b } else { a };
        let made = [LAST, Layout::Rows]
            .iter()
            .any(|layout| self.forms.contains_key(&(other, Form { layout: *layout, shifted: false })));
        let fits = placed.node.op == "Add" && a != b && self.shape(other) == self.shape(id);
        (fits && (made || self.as_bytes(other).is_some())).then_some((add, other))
    }

    /// The activation that alone reads a value, the nodes it is made of, and its result.
    pub(super) fn activation(&self, id: ValueId) -> Option<(Activation, Vec<usize>, ValueId)> {
        if let Some(reader) = self.only_reader(id) {
            let placed = self.placed(reader);
            let last = output(placed)?;
            if let Some((min, max)) = self.clip_bounds(placed) {
                return Some((Activation::Clip { min, max }, vec![reader], last));
            }
            let unary = self.unary(placed)?;
            return Some((Activation::Function(unary), vec![reader], last));
        }
        let (unary, nodes, last) = self.gated(id)?;
        Some((Activation::Function(unary), nodes, last))
    }
}

/// Weights as 16-bit integers, out channels first, less their zero points.
pub(super) fn weights_by_channel(lower: &Lower<'_>, weights: &Weights) -> Option<plan::Weights<i16>> {
    let tensor = lower.constant(weights.q)?;
    let channels = *tensor.shape().first()?;
    let fits = |len: usize| len == 1 || len == channels;
    if !fits(weights.scales.len()) || !fits(weights.zeros.len()) {
        return None;
    }
    let zeros = byte_zeros(tensor, &weights.zeros)?;
    let inner = (tensor.len() / channels.max(1)).max(1);
    let tensor = Arc::clone(tensor);
    Some(plan::Weights::made(tensor.len(), move || {
        let zero = |row: usize| zeros[if zeros.len() == 1 { 0 } else { row }];
        let bytes = tensor.le_bytes_once().map_err(|e| e.to_string())?;
        let mut values = Vec::with_capacity(bytes.len());
        for (row, bytes) in bytes.chunks(inner).enumerate() {
            let zero = zero(row);
            if tensor.datatype() == Datatype::Int8 {
                values.extend(bytes.iter().map(|byte| i16::from(byte.cast_signed()) - zero));
            } else {
                values.extend(bytes.iter().map(|byte| i16::from(*byte) - zero));
            }
        }
        Ok(values)
    }))
}

/// Zero points of weights of bytes; `None` where the weights are no bytes, or a zero point is none of their values.
pub(super) fn byte_zeros(tensor: &Tensor, zeros: &[i32]) -> Option<Vec<i16>> {
    let range = match tensor.datatype() {
        Datatype::Uint8 => 0..=255,
        Datatype::Int8 => -128..=127,
        _ => return None,
    };
    zeros.iter().map(|zero| i16::try_from(*zero).ok().filter(|zero| range.contains(zero))).collect()
}

/// A sum of bytes that a product goes into.
pub(super) struct Residual {
    other: ValueId,
    q: ValueId,
    sum: QResidual,
    nodes: Vec<usize>,
}

/// What is done with a float result in the step that makes it.
pub(super) struct Tail {
    pub(super) activation: Activation,
    pub(super) residual: Option<ValueId>,
    pub(super) nodes: Vec<usize>,
    /// The result.
    pub(super) last: ValueId,
}

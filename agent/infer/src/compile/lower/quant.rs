//! Quantised values: what their bytes mean, and which operators have them on both sides.

use super::{Form, Lower, Lowered, Placed, ValueId, input, output};
use crate::{
    datatype::{Datatype, Element},
    plan::{Layout, Operation, QMap, Quant},
    tensor::Tensor,
};

/// A dequantised value that was not made.
#[derive(Debug, Clone)]
pub(super) enum Lazy {
    /// Bytes of one scale, constant or not.
    Bytes { q: ValueId, quant: Quant },
    /// Constant weights or biases.
    Weights(Weights),
}

/// Constant integers with scales along an axis.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    pub(super) q: ValueId,
    /// One for all, or one for each index of the axis.
    pub(super) scales: Vec<f32>,
    /// As many as scales.
    pub(super) zeros: Vec<i32>,
    pub(super) axis: usize,
}

impl Weights {
    /// `(q - zero) * scale`.
    pub(super) fn to_floats(&self, lower: &Lower<'_>) -> Result<Tensor, String> {
        let tensor = lower.constant(self.q).ok_or("weights are not constant")?;
        let floats = self.floats_of(tensor)?;
        Tensor::from_values(tensor.shape().to_vec(), &floats).map_err(|e| e.to_string())
    }

    /// The same of a tensor that is the constant.
    pub(super) fn floats_of(&self, tensor: &Tensor) -> Result<Vec<f32>, String> {
        let shape = tensor.shape();
        let inner: usize = shape.get(self.axis + 1..).unwrap_or_default().iter().product();
        let count = shape.get(self.axis).copied().unwrap_or(1).max(1);
        let pick = |at: usize| if self.scales.len() == 1 { 0 } else { at / inner.max(1) % count };
        if self.scales.is_empty() || self.zeros.len() != self.scales.len() {
            return Err("weights without scales".to_owned());
        }
        let ints = integers(tensor)?;
        #[allow(clippy::cast_precision_loss, reason = "as ONNX defines dequantisation")]
        let floats: Vec<f32> = ints
            .iter()
            .enumerate()
            .map(|(at, q)| q.wrapping_sub(self.zeros[pick(at)]) as f32 * self.scales[pick(at)])
            .collect();
        Ok(floats)
    }
}

/// Elements of an 8- or 32-bit integer tensor.
pub(super) fn integers(tensor: &Tensor) -> Result<Vec<i32>, String> {
    let bytes = || tensor.le_bytes_once().map_err(|e| e.to_string());
    match tensor.datatype() {
        Datatype::Uint8 => Ok(bytes()?.iter().map(|byte| i32::from(*byte)).collect()),
        Datatype::Int8 => Ok(bytes()?.iter().map(|byte| i32::from(byte.cast_signed())).collect()),
        Datatype::Int32 => Ok(bytes()?.chunks_exact(i32::SIZE_BYTES).map(i32::read_le).collect()),
        other => Err(format!("{other} is no quantised type")),
    }
}

/// A value's bytes and what they mean.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quantised {
    pub(super) q: ValueId,
    pub(super) quant: Quant,
}

/// Where a result is quantised.
#[derive(Debug, Clone)]
pub(super) struct Sink {
    /// The bytes.
    pub(super) q: ValueId,
    pub(super) quant: Quant,
    /// Least byte, as a Relu or Clip in between has it.
    pub(super) min: u8,
    /// Greatest byte.
    pub(super) max: u8,
    /// Nodes that the step takes in.
    pub(super) nodes: Vec<usize>,
}

impl Lower<'_> {
    /// What bytes mean by a constant scale and zero point; `None` where these differ by axis or are not constant.
    pub(super) fn quant(
        &self,
        scale: Option<ValueId>,
        zero: Option<ValueId>,
        datatype: Datatype,
    ) -> Option<Quant> {
        let (scales, zeros) = self.scales(scale?, zero, datatype)?;
        match (scales.as_slice(), zeros.as_slice()) {
            ([scale], [zero]) => {
                let shifted = if datatype == Datatype::Int8 { zero + 128 } else { *zero };
                Some(Quant { scale: *scale, zero: u8::try_from(shifted).ok()? })
            }
            _ => None,
        }
    }

    /// Constant scales and as many zero points.
    pub(super) fn scales(
        &self,
        scale: ValueId,
        zero: Option<ValueId>,
        datatype: Datatype,
    ) -> Option<(Vec<f32>, Vec<i32>)> {
        if !matches!(datatype, Datatype::Uint8 | Datatype::Int8 | Datatype::Int32) {
            return None;
        }
        let scales = self.constant(scale)?;
        let scales: Vec<f32> = scales.values::<f32>().ok()?.collect();
        let sound = !scales.is_empty() && scales.iter().all(|s| s.is_finite() && *s > 0.0);
        let zeros = match zero {
            Some(zero) => integers(self.constant(zero)?).ok()?,
            None => vec![0; scales.len()],
        };
        (sound && zeros.len() == scales.len()).then_some((scales, zeros))
    }

    /// The bytes behind a dequantised value.
    pub(super) fn as_bytes(&self, id: ValueId) -> Option<(ValueId, Quant)> {
        match self.lazy.get(&id)? {
            Lazy::Bytes { q, quant } => Some((*q, *quant)),
            Lazy::Weights(_) => None,
        }
    }

    /// The constant integers behind a dequantised value.
    pub(super) fn as_weights(&self, id: ValueId) -> Option<Weights> {
        match self.lazy.get(&id)? {
            Lazy::Weights(weights) => Some(weights.clone()),
            Lazy::Bytes { q, quant } => {
                let tensor = self.constant(*q)?;
                let shift = if tensor.datatype() == Datatype::Int8 { 128 } else { 0 };
                let zeros = vec![i32::from(quant.zero) - shift];
                Some(Weights { q: *q, scales: vec![quant.scale], zeros, axis: 0 })
            }
        }
    }

    /// What a DequantizeLinear node reads, where its result can be left unmade.
    fn parse_dequantise(&self, placed: &Placed) -> Option<Lazy> {
        let q = input(placed, 0)?;
        let datatype = self.value(q).datatype;
        let is_bytes = matches!(datatype, Datatype::Uint8 | Datatype::Int8);
        let floats = self.value(output(placed)?).datatype == Datatype::Fp32;
        if !floats || placed.node.attributes.int("block_size").is_some_and(|b| b != 0) {
            return None;
        }
        if let Some(quant) = self.quant(input(placed, 1), input(placed, 2), datatype).filter(|_| is_bytes) {
            return Some(Lazy::Bytes { q, quant });
        }
        let (scales, zeros) = self.scales(input(placed, 1)?, input(placed, 2), datatype)?;
        let tensor = self.constant(q)?;
        // One scale has no axis: the default of 1 need not exist.
        let axis = match scales.len() {
            1 => 0,
            _ => {
                let axis = placed.node.attributes.int("axis").unwrap_or(1);
                crate::rules::axis_index(axis, tensor.shape().len().max(1)).ok()?
            }
        };
        let fits = scales.len() == 1 || tensor.shape().get(axis) == Some(&scales.len());
        fits.then_some(Lazy::Weights(Weights { q, scales, zeros, axis }))
    }

    pub(super) fn dequantise(&mut self, index: usize) -> Lowered<bool> {
        let placed = self.placed(index);
        let (Some(lazy), Some(out)) = (self.parse_dequantise(placed), output(placed)) else {
            return Ok(false);
        };
        self.lazy.insert(out, lazy);
        Ok(true)
    }

    /// What a QuantizeLinear node makes, where it has one scale.
    fn parse_quantise(&self, index: usize) -> Option<(ValueId, Quant)> {
        let placed = self.placed(index);
        let out = output(placed)?;
        let datatype = self.value(out).datatype;
        let is_ours = placed.node.op.ends_with("QuantizeLinear")
            && placed.node.op != "DynamicQuantizeLinear"
            && !placed.node.op.ends_with("DequantizeLinear")
            && matches!(datatype, Datatype::Uint8 | Datatype::Int8)
            && self.value(input(placed, 0)?).datatype == Datatype::Fp32;
        let quant = self.quant(input(placed, 1), input(placed, 2), datatype)?;
        is_ours.then_some((out, quant))
    }

    /// Where a value's only way leads through a quantisation, with or without a Relu or Clip before it.
    pub(super) fn sink(&self, id: ValueId) -> Option<Sink> {
        let first = self.only_reader(id)?;
        if let Some((q, quant)) = self.parse_quantise(first) {
            return Some(Sink { q, quant, min: 0, max: 255, nodes: vec![first] });
        }
        let clip = self.placed(first);
        let (low, high) = self.clip_bounds(clip)?;
        let second = self.only_reader(output(clip)?)?;
        let (q, quant) = self.parse_quantise(second)?;
        let byte = |bound: f32| round_to_byte(bound / quant.scale, quant.zero);
        Some(Sink { q, quant, min: byte(low), max: byte(high), nodes: vec![first, second] })
    }

    /// The bounds of a Relu or Clip.
    pub(super) fn clip_bounds(&self, placed: &Placed) -> Option<(f32, f32)> {
        if self.value(input(placed, 0)?).datatype != Datatype::Fp32 {
            return None;
        }
        match placed.node.op.as_str() {
            "Relu" => Some((0.0, f32::INFINITY)),
            "Clip" => {
                let bound = |place: usize, name: &str, default: f32| match input(placed, place) {
                    Some(id) => self.constant(id)?.values::<f32>().ok()?.next(),
                    None => Some(placed.node.attributes.float(name).unwrap_or(default)),
                };
                Some((bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?))
            }
            _ => None,
        }
    }

    /// The bytes and meaning behind a DequantizeLinear node that may not have been reached yet.
    pub(super) fn bytes_of_node(&self, index: usize) -> Option<(ValueId, Quant)> {
        let placed = self.placed(index);
        if !placed.node.op.ends_with("DequantizeLinear") {
            return None;
        }
        match self.parse_dequantise(placed)? {
            Lazy::Bytes { q, quant } => Some((q, quant)),
            Lazy::Weights(_) => None,
        }
    }

    pub(super) fn quantise(&mut self, index: usize) -> Lowered<bool> {
        let placed = self.placed(index);
        let Some((out, quant)) = self.parse_quantise(index) else { return Ok(false) };
        let Some(from) = input(placed, 0) else { return Ok(false) };
        if let Some((q, before)) = self.as_bytes(from) {
            return self.requantise(index, q, before, out, quant);
        }
        let images = self.shape(from).len() == 4;
        let layout = if images { Layout::ChannelsLast } else { self.layout_of(from) };
        let floats = self.want(from, Form { layout: self.layout_of(from), shifted: false })?;
        let form = self.bytes_form(out, layout);
        let bytes = self.make(out, form);
        self.emit(Operation::Quantise(quant), vec![floats], vec![bytes], &placed.node);
        Ok(true)
    }

    /// Bytes of one meaning as bytes of another.
    fn requantise(
        &mut self,
        index: usize,
        q: ValueId,
        before: Quant,
        out: ValueId,
        after: Quant,
    ) -> Lowered<bool> {
        let layout = self.layout_of(q);
        let from = self.want(q, self.bytes_form(q, layout))?;
        if before == after {
            let form = self.bytes_form(out, layout);
            self.alias(out, form, from);
            return Ok(true);
        }
        let form = self.bytes_form(out, layout);
        let to = self.make(out, form);
        let placed = self.placed(index);
        self.emit(requantising(before, after), vec![from], vec![to], &placed.node);
        Ok(true)
    }
}

/// `clamp(round_half_even(x) + zero)`.
pub(super) fn round_to_byte(x: f32, zero: u8) -> u8 {
    let rounded = x.round_ties_even() + f32::from(zero);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a byte")]
    let byte = rounded.clamp(0.0, 255.0) as u8;
    byte
}

/// A change of meaning alone.
pub(super) const fn requantising(from: Quant, to: Quant) -> Operation {
    Operation::Map(QMap { from, to, function: None, min: 0, max: 255 })
}

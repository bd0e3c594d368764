//! Matrix products: by constants they are convolutions of one pixel, in rows.

use super::{
    Form, Lower, Lowered, Placed, ValueId,
    conv::{QProduct, byte_zeros},
    input, output,
    quant::{Sink, Weights, integers},
};
use crate::{
    datatype::Datatype,
    plan::{self, Conv, Conv2d, Layout, MatMul, Operation, QConv, QConvOutput},
    rules,
};
use std::sync::Arc;

const ROWS: Layout = Layout::Rows;

/// What a product multiplies, whichever operator says it.
pub(super) struct Factors {
    pub(super) a: ValueId,
    pub(super) b: ValueId,
    /// Rows of `a`, all stacks together.
    pub(super) rows: usize,
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) b_transposed: bool,
}

impl Lower<'_> {
    pub(super) fn product(&mut self, index: usize) -> Lowered<bool> {
        let placed = self.placed(index);
        let b_place = match placed.node.op.as_str() {
            "QLinearMatMul" | "com.microsoft.QGemm" => 3,
            _ => 1,
        };
        let Some(out) = output(placed) else { return Ok(false) };
        let Some(factors) = self.factors(placed, b_place) else {
            return self.stacked_product(placed, out);
        };
        match placed.node.op.as_str() {
            "QLinearMatMul" => self.qlinear_product(placed, &factors, out, (7, None)),
            "com.microsoft.QGemm" => self.qlinear_product(placed, &factors, out, (8, Some(6))),
            "MatMulInteger" => self.integer_product(placed, &factors, out),
            _ if self.value(factors.a).datatype != Datatype::Fp32 => Ok(false),
            _ => {
                if let Some(product) = self.quantised_product(placed, &factors) {
                    self.finish_product(index, product, out)?;
                    return Ok(true);
                }
                self.float_product(placed, &factors, out)
            }
        }
    }

    /// Factors whose second is one constant matrix.
    pub(super) fn factors(&self, placed: &Placed, b_place: usize) -> Option<Factors> {
        let (a, b) = (input(placed, 0)?, input(placed, b_place)?);
        let (a_shape, b_shape) = (self.shape(a), self.shape(b));
        let constant = self.constant(b).is_some() || self.as_weights(b).is_some();
        let attributes = &placed.node.attributes;
        if !constant || b_shape.len() != 2 || attributes.flag("transA") || a_shape.contains(&0) {
            return None;
        }
        let b_transposed = attributes.flag("transB");
        let (k, n) = if b_transposed { (b_shape[1], b_shape[0]) } else { (b_shape[0], b_shape[1]) };
        let rows = a_shape.iter().rev().skip(1).product();
        (k > 0 && n > 0).then_some(Factors { a, b, rows, k, n, b_transposed })
    }

    /// Integer weights with the output's columns first.
    pub(super) fn columns_first(
        &self,
        factors: &Factors,
        weights: &Weights,
    ) -> Option<(plan::Weights<i16>, Vec<f32>)> {
        let column_axis = usize::from(!factors.b_transposed);
        let n = factors.n;
        let fits = |len: usize| len == 1 || (len == n && weights.axis == column_axis);
        if !fits(weights.scales.len()) || !fits(weights.zeros.len()) {
            return None;
        }
        let tensor = Arc::clone(self.constant(weights.q)?);
        let zeros = byte_zeros(&tensor, &weights.zeros)?;
        let (k, transposed) = (factors.k, factors.b_transposed);
        let values = plan::Weights::made(tensor.len(), move || {
            let values = integers(&tensor)?;
            let mut out = Vec::with_capacity(values.len());
            for column in 0..n {
                let zero = zeros[if zeros.len() == 1 { 0 } else { column }];
                for row in 0..k {
                    let at = if transposed { column * k + row } else { row * n + column };
                    let value = values.get(at).and_then(|value| i16::try_from(*value).ok());
                    out.push(value.ok_or("its weights are no matrix")? - zero);
                }
            }
            Ok(out)
        });
        Some((values, weights.scales.clone()))
    }

    fn quantised_product(&self, placed: &Placed, factors: &Factors) -> Option<QProduct> {
        let (x, quant) = self.as_bytes(factors.a)?;
        let (weights, scales) = self.columns_first(factors, &self.as_weights(factors.b)?)?;
        let scales: Vec<f32> = scales.iter().map(|s| quant.scale * s).collect();
        let gemm = placed.node.op == "Gemm";
        let one = |name: &str| placed.node.attributes.float(name).unwrap_or(1.0) == 1.0;
        let bias = match input(placed, 2).filter(|_| gemm) {
            Some(id) if self.value(id).shape.iter().product::<usize>() == factors.n => {
                Some(self.bias(id, &scales)?)
            }
            Some(_) => return None,
            None => None,
        };
        if gemm && !(one("alpha") && one("beta")) {
            return None;
        }
        let geometry = Conv2d::matmul(factors.rows, factors.k, factors.n);
        Some(QProduct { geometry, weights, bias, scales, x, input_zero: quant.zero, layout: ROWS })
    }

    /// QLinearMatMul and QGemm; `places` are those of the output's zero point, after its scale, and of the bias.
    fn qlinear_product(
        &mut self,
        placed: &Placed,
        factors: &Factors,
        out: ValueId,
        places: (usize, Option<usize>),
    ) -> Lowered<bool> {
        let (zero_place, bias_place) = places;
        let prepared = (|| {
            let x_quant = self.quant(input(placed, 1), input(placed, 2), self.value(factors.a).datatype)?;
            let (scales, zeros) =
                self.scales(input(placed, 4)?, input(placed, 5), self.value(factors.b).datatype)?;
            let axis = usize::from(!factors.b_transposed);
            let weights = Weights { q: factors.b, scales, zeros, axis };
            let (weights, scales) = self.columns_first(factors, &weights)?;
            let alpha = placed.node.attributes.float("alpha").unwrap_or(1.0);
            let bias = match bias_place.and_then(|place| input(placed, place)) {
                Some(id) if self.shape(id).iter().product::<usize>() == factors.n => {
                    Some(Arc::new(integers(self.constant(id)?).ok()?))
                }
                Some(_) => return None,
                None => None,
            };
            let scales: Vec<f32> = scales.iter().map(|s| alpha * x_quant.scale * s).collect();
            let geometry = Conv2d::matmul(factors.rows, factors.k, factors.n);
            let (x, input_zero) = (factors.a, x_quant.zero);
            Some(QProduct { geometry, weights, bias, scales, x, input_zero, layout: ROWS })
        })();
        let Some(product) = prepared else { return Ok(false) };
        if self.value(out).datatype == Datatype::Fp32 {
            let from = self.want(product.x, self.bytes_form(product.x, ROWS))?;
            let to = self.make(out, Form::plain());
            let QProduct { geometry, weights, bias, scales, input_zero, .. } = product;
            let output = QConvOutput::Floats { multiplier: Arc::new(scales), bias: None };
            let conv = QConv { geometry, weights, bias, input_zero, output };
            self.emit(Operation::QConv(conv), vec![from], vec![to], &placed.node);
            return Ok(true);
        }
        let (scale, zero) = (input(placed, zero_place - 1), input(placed, zero_place));
        let Some(quant) = self.quant(scale, zero, self.value(out).datatype) else { return Ok(false) };
        let sink = Sink { q: out, quant, min: 0, max: 255, nodes: Vec::new() };
        self.emit_bytes(product, &sink, None, placed)?;
        Ok(true)
    }

    fn integer_product(&mut self, placed: &Placed, factors: &Factors, out: ValueId) -> Lowered<bool> {
        let prepared = (|| {
            let zero = match input(placed, 2) {
                Some(id) => {
                    let zeros = integers(self.constant(id)?).ok()?;
                    if zeros.len() != 1 {
                        return None;
                    }
                    zeros[0]
                }
                None => 0,
            };
            let shift = if self.value(factors.a).datatype == Datatype::Int8 { 128 } else { 0 };
            let zeros = match input(placed, 3) {
                Some(id) => integers(self.constant(id)?).ok()?,
                None => vec![0],
            };
            let weights = Weights { q: factors.b, scales: vec![1.0], zeros, axis: 1 };
            Some((u8::try_from(zero + shift).ok()?, self.columns_first(factors, &weights)?.0))
        })();
        let Some((input_zero, weights)) = prepared else { return Ok(false) };
        let from = self.want(factors.a, self.bytes_form(factors.a, ROWS))?;
        let to = self.make(out, Form::plain());
        let geometry = Conv2d::matmul(factors.rows, factors.k, factors.n);
        let conv = QConv { geometry, weights, bias: None, input_zero, output: QConvOutput::Sums };
        self.emit(Operation::QConv(conv), vec![from], vec![to], &placed.node);
        Ok(true)
    }

    fn float_product(&mut self, placed: &Placed, factors: &Factors, out: ValueId) -> Lowered<bool> {
        let Some(b) = self.float_weights(factors.b) else { return Ok(false) };
        let gemm = placed.node.op == "Gemm";
        let scale = |name: &str| if gemm { placed.node.attributes.float(name).unwrap_or(1.0) } else { 1.0 };
        let (alpha, beta) = (scale("alpha"), scale("beta"));
        let mut bias = None;
        if let Some(id) = input(placed, 2).filter(|_| gemm) {
            let Some(values) = self.floats(id) else { return Ok(false) };
            let along_columns = self.shape(id).last() == Some(&values.len());
            bias = Some(match values.as_slice() {
                [one] => vec![one * beta; factors.n],
                _ if along_columns && values.len() == factors.n => values.iter().map(|v| v * beta).collect(),
                _ => return Ok(false),
            });
        }
        let (k, n, transposed) = (factors.k, factors.n, factors.b_transposed);
        let weights = plan::Weights::made(b.len(), move || {
            let mut b = b.get()?;
            if !transposed {
                b = columns_of(&b, k, n);
            }
            b.iter_mut().for_each(|value| *value *= alpha);
            Ok(b)
        });
        let (mut nodes, mut last) = (Vec::new(), out);
        if bias.is_none()
            && let Some((add, values)) = self.constant_sum(out, factors.n)
        {
            bias = Some(values);
            nodes.push(add);
            last = output(self.placed(add)).unwrap_or(out);
        }
        let tail = self.tail(last);
        nodes.extend(&tail.nodes);
        let mut inputs = vec![self.want(factors.a, Form::plain())?];
        if let Some(other) = tail.residual {
            inputs.push(self.want(other, Form::plain())?);
        }
        let to = self.make(tail.last, Form::plain());
        let conv = Conv {
            geometry: Conv2d::matmul(factors.rows, factors.k, factors.n),
            weights,
            bias: bias.map(Arc::new),
            activation: tail.activation,
            residual: tail.residual.is_some(),
        };
        self.emit(Operation::Conv(conv), inputs, vec![to], &placed.node);
        self.claim(&nodes);
        Ok(true)
    }

    /// The Add of a constant per column that alone reads a value.
    pub(super) fn constant_sum(&self, id: ValueId, columns: usize) -> Option<(usize, Vec<f32>)> {
        let add = self.only_reader(id)?;
        let placed = self.placed(add);
        if placed.node.op != "Add" {
            return None;
        }
        let (a, b) = (input(placed, 0)?, input(placed, 1)?);
        let other = if a == id { b } else { a };
        let values = self.floats(other)?;
        let shape = self.shape(other);
        let along_columns = shape.last() == Some(&columns) && values.len() == columns;
        (along_columns && shape.len() <= self.shape(id).len()).then_some((add, values))
    }

    /// A product of stacks that are both known only at run time, or whose second is a stack of constants.
    fn stacked_product(&mut self, placed: &Placed, out: ValueId) -> Lowered<bool> {
        let (Some(a), Some(b)) = (input(placed, 0), input(placed, 1)) else { return Ok(false) };
        let (a_shape, b_shape) = (self.shape(a), self.shape(b));
        let floats = [a, b, out].iter().all(|id| self.value(*id).datatype == Datatype::Fp32);
        let shapes_fit = a_shape.len() >= 2 && b_shape.len() >= 2 && !self.shape(out).contains(&0);
        if placed.node.op != "MatMul" || !floats || !shapes_fit || a_shape.contains(&0) {
            return Ok(false);
        }
        let (a_stack, a_matrix) = a_shape.split_at(a_shape.len() - 2);
        let (b_stack, b_matrix) = b_shape.split_at(b_shape.len() - 2);
        let Ok(batch) = rules::broadcast([a_stack, b_stack]) else { return Ok(false) };
        let (m, k, n) = (a_matrix[0], a_matrix[1], b_matrix[1]);
        let step = |stack: &[usize], item: usize| match stack.iter().product::<usize>() {
            1 => Some(0),
            count if count == batch.iter().product::<usize>() => Some(item),
            _ => None,
        };
        let (Some(a_step), Some(b_step)) = (step(a_stack, m * k), step(b_stack, k * n)) else {
            return Ok(false);
        };
        let product = MatMul { batch: batch.iter().product(), a_step, b_step, m, k, n };
        let inputs = vec![self.want(a, Form::plain())?, self.want(b, Form::plain())?];
        let to = self.make(out, Form::plain());
        self.emit(Operation::MatMul(product), inputs, vec![to], &placed.node);
        Ok(true)
    }
}

/// Elements between neighbours along each axis of `out` in a row-major tensor of `shape` whose items have `item` elements; 0
/// where the tensor is repeated.
pub(super) fn strides_over(shape: &[usize], out: &[usize], item: usize) -> Vec<usize> {
    let mut strides = vec![0; out.len()];
    let mut step = item;
    let offset = out.len() - shape.len();
    for (axis, size) in shape.iter().enumerate().rev() {
        if *size != 1 {
            strides[axis + offset] = step;
        }
        step *= size;
    }
    strides
}

/// A matrix of `k` rows, column by column.
fn columns_of(b: &[f32], k: usize, n: usize) -> Vec<f32> {
    let mut columns = vec![0.0; b.len()];
    // A few columns at a time, so that what is written stays in the cache.
    for first in (0..n).step_by(16) {
        for (row, values) in b.chunks_exact(n.max(1)).take(k).enumerate() {
            for column in first..(first + 16).min(n) {
                columns[column * k + row] = values[column];
            }
        }
    }
    columns
}

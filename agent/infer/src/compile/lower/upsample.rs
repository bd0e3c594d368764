//! Transposed convolutions whose windows do not overlap: a convolution of one pixel to all of its window's pixels, which are then put
//! in their places.

use super::{Form, Lower, Lowered, Placed, conv::QProduct, input, output, quant::Weights};
use crate::{
    datatype::Datatype,
    plan::{self, Activation, BufferId, Conv, Conv2d, Layout, Operation, QConv, QConvOutput},
};
use std::sync::Arc;

const LAST: Layout = Layout::ChannelsLast;

/// Sizes of a transposed convolution of a two-dimensional input.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Images, rows, columns.
    input: [usize; 3],
    in_c: usize,
    out_c: usize,
    /// Rows and columns of the window, and pixels from one to the next.
    window: [usize; 2],
}

impl Sizes {
    /// Pixels of a window.
    const fn taps(&self) -> usize {
        self.window[0] * self.window[1]
    }

    fn geometry(&self) -> Conv2d {
        let [images, rows, columns] = self.input;
        let one = Conv2d::matmul(1, self.in_c, self.taps() * self.out_c);
        Conv2d { batch: images, in_h: rows, in_w: columns, ..one }
    }

    /// Where the weight of an output channel of the convolution and an input channel stands in ONNX's order: input channels,
    /// output channels, window.
    fn weight(&self, out: usize, input: usize) -> usize {
        let (tap, channel) = (out / self.out_c, out % self.out_c);
        (input * self.out_c + channel) * self.taps() + tap
    }

    /// Values in ONNX's order, output channels first.
    fn turned<T: Copy>(&self, values: &[T]) -> Vec<T> {
        let columns = 0..self.taps() * self.out_c;
        columns
            .flat_map(|out| (0..self.in_c).map(move |c| (out, c)))
            .map(|(out, c)| values[self.weight(out, c)])
            .collect()
    }

    /// A value for each output channel, one for each of the convolution's.
    fn repeated<T: Copy>(&self, values: &[T]) -> Vec<T> {
        if values.len() == 1 { values.to_vec() } else { values.repeat(self.taps()) }
    }
}

impl Lower<'_> {
    pub(super) fn transposed_convolution(&mut self, index: usize) -> Lowered<bool> {
        let placed = self.placed(index);
        let Some(sizes) = self.sizes(placed) else { return Ok(false) };
        if let Some(product) = self.quantised_upsample(placed, sizes) {
            return self.emit_quantised(placed, product, sizes);
        }
        self.float_upsample(placed, sizes)
    }

    fn sizes(&self, placed: &Placed) -> Option<Sizes> {
        let (x, w) = (self.shape(input(placed, 0)?), self.shape(input(placed, 1)?));
        let ([images, in_c, rows, columns], [weights_in_c, out_c, kernel_h, kernel_w]) = (x, w) else {
            return None;
        };
        let attributes = &placed.node.attributes;
        let all =
            |name: &str, value: i64| attributes.ints(name).is_none_or(|v| v.iter().all(|v| *v == value));
        let strides = attributes.ints("strides")?;
        let apart =
            |at: usize, kernel: usize| strides.get(at).and_then(|s| usize::try_from(*s).ok()) == Some(kernel);
        let simple = all("pads", 0)
            && all("output_padding", 0)
            && all("dilations", 1)
            && attributes.ints("output_shape").is_none();
        let groups = attributes.int("group").unwrap_or(1);
        let padded = !matches!(attributes.text("auto_pad"), None | Some("NOTSET" | "VALID"));
        let fits = in_c == weights_in_c && groups == 1 && !padded && !x.contains(&0) && !w.contains(&0);
        let out = [*images, *out_c, rows.checked_mul(*kernel_h)?, columns.checked_mul(*kernel_w)?];
        let whole = self.shape(output(placed)?) == out;
        let floats = self.value(input(placed, 0)?).datatype == Datatype::Fp32;
        (floats && simple && fits && whole && apart(0, *kernel_h) && apart(1, *kernel_w)).then_some(Sizes {
            input: [*images, *rows, *columns],
            in_c: *in_c,
            out_c: *out_c,
            window: [*kernel_h, *kernel_w],
        })
    }

    fn quantised_upsample(&self, placed: &Placed, sizes: Sizes) -> Option<QProduct> {
        let (x, quant) = self.as_bytes(input(placed, 0)?)?;
        let Weights { q, scales, zeros, axis } = self.as_weights(input(placed, 1)?)?;
        let per_channel = |len: usize| len == 1 || (len == sizes.out_c && axis == 1);
        if !per_channel(scales.len()) || !per_channel(zeros.len()) {
            return None;
        }
        let tensor = self.constant(q)?;
        if !matches!(tensor.datatype(), Datatype::Uint8 | Datatype::Int8) {
            return None;
        }
        let turned = sizes.turned(&super::quant::integers(tensor).ok()?);
        let zeros = sizes.repeated(&zeros);
        let zero = |at: usize| zeros[if zeros.len() == 1 { 0 } else { at / sizes.in_c }];
        let less = turned.iter().enumerate().map(|(at, w)| i16::try_from(w - zero(at)).ok());
        let weights = plan::Weights::of(less.collect::<Option<Vec<i16>>>()?);
        let scales: Vec<f32> = scales.iter().map(|s| quant.scale * s).collect();
        let bias = match input(placed, 2) {
            Some(id) => Some(Arc::new(sizes.repeated(&self.bias(id, &scales)?))),
            None => None,
        };
        if bias.as_ref().is_some_and(|bias| bias.len() != sizes.taps() * sizes.out_c) {
            return None;
        }
        let (geometry, scales, input_zero) = (sizes.geometry(), sizes.repeated(&scales), quant.zero);
        Some(QProduct { geometry, weights, bias, scales, x, input_zero, layout: LAST })
    }

    fn emit_quantised(&mut self, placed: &Placed, product: QProduct, sizes: Sizes) -> Lowered<bool> {
        let Some(out) = output(placed) else { return Ok(false) };
        let QProduct { geometry, weights, bias, scales, x, input_zero, .. } = product;
        let from = self.want(x, self.bytes_form(x, LAST))?;
        let sink = self.sink(out);
        let output = match &sink {
            Some(sink) => QConvOutput::Bytes {
                multiplier: Arc::new(scales.iter().map(|s| s / sink.quant.scale).collect()),
                zero: sink.quant.zero,
                min: sink.min,
                max: sink.max,
                residual: None,
            },
            None => QConvOutput::Floats { multiplier: Arc::new(scales), bias: None },
        };
        let datatype = if sink.is_some() { Datatype::Uint8 } else { Datatype::Fp32 };
        let windows = self.windows(sizes, datatype);
        let conv = QConv { geometry, weights, bias, input_zero, output };
        self.emit(Operation::QConv(conv), vec![from], vec![windows], &placed.node);
        let to = match &sink {
            Some(sink) => self.make(sink.q, self.bytes_form(sink.q, LAST)),
            None => self.make(out, Form { layout: LAST, shifted: false }),
        };
        self.spread(placed, sizes, windows, to);
        self.claim(&sink.map(|sink| sink.nodes).unwrap_or_default());
        Ok(true)
    }

    fn float_upsample(&mut self, placed: &Placed, sizes: Sizes) -> Lowered<bool> {
        let (Some(x), Some(out)) = (input(placed, 0), output(placed)) else { return Ok(false) };
        let Some(weights) = input(placed, 1).and_then(|w| self.floats(w)) else { return Ok(false) };
        let bias = match input(placed, 2).map(|id| self.floats(id)) {
            None => None,
            Some(Some(bias)) if bias.len() == sizes.out_c => Some(Arc::new(bias.repeat(sizes.taps()))),
            Some(_) => return Ok(false),
        };
        let weights = sizes.turned(&weights);
        let normalised = self.normalisation(out);
        let (weights, bias, mut nodes, last) = match normalised {
            Some((node, scale, shift)) => {
                let (scale, shift) = (scale.repeat(sizes.taps()), shift.repeat(sizes.taps()));
                let scaled = weights.iter().enumerate().map(|(at, w)| w * scale[at / sizes.in_c]).collect();
                let bias = bias.map_or_else(|| vec![0.0; scale.len()], |bias| bias.to_vec());
                let bias = bias
                    .iter()
                    .zip(&scale)
                    .zip(&shift)
                    .map(|((b, scale), shift)| b * scale + shift)
                    .collect();
                (scaled, Some(Arc::new(bias)), vec![node], output(self.placed(node)).unwrap_or(out))
            }
            None => (weights, bias, Vec::new(), out),
        };
        let (activation, more, last) = self.activation(last).unwrap_or((Activation::None, Vec::new(), last));
        nodes.extend(more);
        let from = self.want(x, Form { layout: LAST, shifted: false })?;
        let windows = self.windows(sizes, Datatype::Fp32);
        let conv = Conv {
            geometry: sizes.geometry(),
            weights: plan::Weights::of(weights),
            bias,
            activation,
            residual: false,
        };
        self.emit(Operation::Conv(conv), vec![from], vec![windows], &placed.node);
        let to = self.make(last, Form { layout: LAST, shifted: false });
        self.spread(placed, sizes, windows, to);
        self.claim(&nodes);
        Ok(true)
    }

    /// The windows of all pixels, before they are put in their places.
    fn windows(&mut self, sizes: Sizes, datatype: Datatype) -> BufferId {
        let [images, rows, columns] = sizes.input;
        self.scratch(datatype, vec![images, sizes.taps() * sizes.out_c, rows, columns], LAST)
    }

    fn spread(&mut self, placed: &Placed, sizes: Sizes, windows: BufferId, to: BufferId) {
        let [images, rows, columns] = sizes.input;
        let [kernel_h, kernel_w] = sizes.window;
        let sizes = vec![images * rows, columns, kernel_h, kernel_w * sizes.out_c];
        let operation = Operation::Transpose { sizes, order: vec![0, 2, 1, 3] };
        self.emit(operation, vec![windows], vec![to], &placed.node);
    }
}

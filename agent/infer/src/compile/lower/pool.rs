//! Pooling and resizing.

use super::{
    Form, Lower, Lowered, Placed, ValueId, input, output,
    quant::{Quantised, Sink},
};
use crate::{
    datatype::Datatype,
    plan::{Layout, Operation, Pool, Resize},
    rules::window,
};

const LAST: Layout = Layout::ChannelsLast;

impl Lower<'_> {
    pub(super) fn pooling(&mut self, index: usize) -> Lowered<bool> {
        let placed = self.placed(index);
        let (Some(x), Some(out)) = (input(placed, 0), output(placed)) else { return Ok(false) };
        if placed.outputs.iter().flatten().count() != 1 || self.shape(out).contains(&0) {
            return Ok(false);
        }
        match placed.node.op.as_str() {
            "Resize" | "Upsample" => self.resize(placed, x, out),
            "com.microsoft.QLinearGlobalAveragePool" | "com.microsoft.QLinearAveragePool" => {
                self.qlinear_pool(placed, x, out)
            }
            op => {
                let Some(pool) = self.pool(placed, x) else { return Ok(false) };
                if op == "MaxPool" {
                    self.max_pool(placed, pool, x, out)
                } else {
                    self.mean(index, pool, x, out)
                }
            }
        }
    }

    fn max_pool(&mut self, placed: &Placed, pool: Pool, x: ValueId, out: ValueId) -> Lowered<bool> {
        let form = match self.value(x).datatype {
            Datatype::Fp32 => Form { layout: LAST, shifted: false },
            Datatype::Uint8 | Datatype::Int8 => self.bytes_form(x, LAST),
            _ => return Ok(false),
        };
        let from = self.want(x, form)?;
        let to = self.make(out, form);
        self.emit(Operation::MaxPool(pool), vec![from], vec![to], &placed.node);
        Ok(true)
    }

    fn mean(&mut self, index: usize, pool: Pool, x: ValueId, out: ValueId) -> Lowered<bool> {
        let placed = self.placed(index);
        if self.value(x).datatype != Datatype::Fp32 {
            return Ok(false);
        }
        if let (Some((q, before)), Some(sink)) = (self.as_bytes(x), self.sink(out))
            && (sink.min, sink.max) == (0, 255)
        {
            self.emit_mean(placed, pool, Quantised { q, quant: before }, &sink)?;
            return Ok(true);
        }
        let form = Form { layout: LAST, shifted: false };
        let from = self.want(x, form)?;
        let to = self.make(out, form);
        self.emit(Operation::AveragePool(pool), vec![from], vec![to], &placed.node);
        Ok(true)
    }

    fn emit_mean(&mut self, placed: &Placed, pool: Pool, from: Quantised, sink: &Sink) -> Lowered<()> {
        let bytes = self.want(from.q, self.bytes_form(from.q, LAST))?;
        let to = self.make(sink.q, self.bytes_form(sink.q, LAST));
        let global = placed.node.op.contains("Global");
        let signed = self.value(sink.q).datatype == Datatype::Int8;
        let (input, output) = (from.quant, sink.quant);
        let operation = Operation::QAveragePool { pool, input, output, global, signed };
        self.emit(operation, vec![bytes], vec![to], &placed.node);
        self.claim(&sink.nodes);
        Ok(())
    }

    fn qlinear_pool(&mut self, placed: &Placed, x: ValueId, out: ValueId) -> Lowered<bool> {
        if placed.node.attributes.flag("channels_last") {
            return Ok(false);
        }
        let before = self.quant(input(placed, 1), input(placed, 2), self.value(x).datatype);
        let after = self.quant(input(placed, 3), input(placed, 4), self.value(out).datatype);
        let (Some(quant), Some(after), Some(pool)) = (before, after, self.pool(placed, x)) else {
            return Ok(false);
        };
        let sink = Sink { q: out, quant: after, min: 0, max: 255, nodes: Vec::new() };
        self.emit_mean(placed, pool, Quantised { q: x, quant }, &sink)?;
        Ok(true)
    }

    /// The windows of a node over an image, or over a line as an image of height 1.
    fn pool(&self, placed: &Placed, x: ValueId) -> Option<Pool> {
        let shape = self.shape(x);
        if !(3..=4).contains(&shape.len()) || shape.contains(&0) {
            return None;
        }
        let spatial = &shape[2..];
        let global = placed.node.op.contains("Global");
        if placed.node.op == "GlobalMaxPool" {
            return None;
        }
        let kernel: Vec<usize> = if global {
            spatial.to_vec()
        } else {
            placed
                .node
                .attributes
                .ints("kernel_shape")?
                .iter()
                .map(|k| usize::try_from(*k).unwrap_or(0))
                .collect()
        };
        let window = window(&placed.node, &kernel, spatial).ok()?;
        let two = |values: &[usize], one: usize| match values {
            [w] => Some([one, *w]),
            [h, w] => Some([*h, *w]),
            _ => None,
        };
        let (before, after): (Vec<usize>, Vec<usize>) = window.pads.iter().copied().unzip();
        let ([top, left], [bottom, right]) = (two(&before, 0)?, two(&after, 0)?);
        let [in_h, in_w] = two(spatial, 1)?;
        Some(Pool {
            input: [shape[0], in_h, in_w, shape[1]],
            output: two(&window.out, 1)?,
            kernel: two(&window.kernel, 1)?,
            strides: two(&window.strides, 1)?,
            dilations: two(&window.dilations, 1)?,
            pads: [top, left, bottom, right],
            count_padding: placed.node.attributes.flag("count_include_pad"),
        })
    }

    fn resize(&mut self, placed: &Placed, x: ValueId, out: ValueId) -> Lowered<bool> {
        let (from_shape, to_shape) = (self.shape(x), self.shape(out));
        let attributes = &placed.node.attributes;
        let ([n, c, in_h, in_w], [n2, c2, out_h, out_w]) = (from_shape, to_shape) else { return Ok(false) };
        let linear = match attributes.text("mode").unwrap_or("nearest") {
            "nearest" => false,
            "linear" => true,
            _ => return Ok(false),
        };
        let coordinates = match (placed.node.op.as_str(), attributes.text("coordinate_transformation_mode")) {
            ("Upsample", _) => "asymmetric",
            (_, None) => "half_pixel",
            (_, Some(mode @ ("half_pixel" | "asymmetric" | "align_corners" | "pytorch_half_pixel"))) => mode,
            _ => return Ok(false),
        };
        let plain = !attributes.flag("antialias") && !attributes.flag("exclude_outside");
        if n != n2 || c != c2 || !plain || (linear && self.value(x).datatype != Datatype::Fp32) {
            return Ok(false);
        }
        let form = match self.value(x).datatype {
            Datatype::Fp32 => Form { layout: LAST, shifted: false },
            Datatype::Uint8 | Datatype::Int8 => self.bytes_form(x, LAST),
            _ => return Ok(false),
        };
        let place = if placed.node.op == "Upsample" { 1 } else { 2 };
        let given = input(placed, place).and_then(|id| self.floats(id)).filter(|s| s.len() == 4);
        #[allow(clippy::cast_precision_loss, reason = "a ratio of sizes")]
        let scales = given.map_or_else(
            || [*out_h as f32 / *in_h as f32, *out_w as f32 / *in_w as f32],
            |scales| [scales[2], scales[3]],
        );
        let nearest = match placed.node.op.as_str() {
            "Upsample" => "floor",
            _ => attributes.text("nearest_mode").unwrap_or("round_prefer_floor"),
        };
        let resize = Resize {
            input: [*n, *in_h, *in_w, *c],
            output: [*out_h, *out_w],
            scales,
            linear,
            coordinates: coordinates.to_owned(),
            nearest: nearest.to_owned(),
        };
        let from = self.want(x, form)?;
        let to = self.make(out, form);
        self.emit(Operation::Resize(resize), vec![from], vec![to], &placed.node);
        Ok(true)
    }
}

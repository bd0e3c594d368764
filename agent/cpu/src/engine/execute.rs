//! Steps over slices, in parts where that pays.

use super::{
    Ready,
    arena::{Rest, Source, State, failed},
    copy,
    layer::{Layer, Meeting, Relay},
};
use crate::{
    isa::Isa,
    packed::Aligned,
    pointwise::{Quantisation, binary, lut, normalise, pool, qbinary, qpool, quantise, resize, unary},
    qconv::{Dynamic, QConv, QSlice},
    threads::{Claimed, THREADS_MAX, share},
};
use bytemuck::{cast_slice, cast_slice_mut};
use std::ops::Range;
use whimbrel_infer::{Datatype, RunError, Single, Tensor, plan::DYNAMIC_HEAD_BYTES};

/// Least work of a part, in multiplications or in bytes moved: below it, waking a thread costs more than it saves.
const PART_WORK_MIN: u64 = 60_000;

/// Runs a step.
pub(super) fn step(isa: Isa, ready: &Ready, state: &mut State, team: &Claimed<'_>) -> Result<(), RunError> {
    let Ready { layer, inputs, outputs } = ready;
    if let Layer::Single { single, types } = layer {
        return by_tract(single, types, inputs, outputs, state);
    }
    let Some(target) = outputs.first() else { return Ok(()) };
    let (output, rest, scratch) = state.split(target);
    let memory = Memory { isa, inputs, rest, team };
    memory.run(layer, output, scratch)
}

/// A node that tract runs, on tensors.
fn by_tract(
    single: &Single,
    types: &[(Datatype, Vec<usize>)],
    inputs: &[Source],
    outputs: &[Source],
    state: &mut State,
) -> Result<(), RunError> {
    let tensors: Vec<Tensor> = inputs
        .iter()
        .zip(single.live_types())
        .map(|(source, (datatype, shape))| state.tensor(source, *datatype, shape))
        .collect::<Result<_, _>>()?;
    let results = single.run(&tensors.iter().collect::<Vec<_>>()).map_err(|why| failed(&why))?;
    for ((tensor, source), (datatype, shape)) in results.iter().zip(outputs).zip(types) {
        if tensor.datatype() != *datatype || tensor.shape() != shape {
            let found = format!("{} {:?}", tensor.datatype(), tensor.shape());
            return Err(failed(&format!("a node made {found}, expected {datatype} {shape:?}")));
        }
        state.store(source, tensor)?;
    }
    Ok(())
}

/// What a step works on.
struct Memory<'a> {
    isa: Isa,
    inputs: &'a [Source],
    rest: Rest<'a>,
    team: &'a Claimed<'a>,
}

/// A part of a step: its range of units, its own piece of the output, and scratch.
struct Part<'a> {
    units: Range<usize>,
    output: &'a mut [u8],
    scratch: &'a mut Aligned,
}

impl<'a> Memory<'a> {
    fn bytes(&'a self, index: usize) -> &'a [u8] {
        self.inputs.get(index).map_or(&[], |source| self.rest.bytes(source, false))
    }

    fn floats(&'a self, index: usize) -> &'a [f32] {
        cast_slice(self.bytes(index))
    }

    /// Parts that so much work is worth.
    fn parts(&self, work: u64) -> usize {
        let most = usize::try_from(work / PART_WORK_MIN).unwrap_or(usize::MAX);
        self.team.threads().min(most.max(1)).min(THREADS_MAX)
    }

    /// Runs `work` over units, each part with exactly the bytes of the output that `range` says its units fill.
    fn split(
        &self,
        (units, parts): (usize, usize),
        range: impl Fn(Range<usize>) -> Range<usize>,
        output: &mut [u8],
        scratch: &mut [Aligned],
        work: impl Fn(&mut Part<'_>) + Sync,
    ) {
        let parts = parts.min(units).max(1);
        let mut list: [Option<Part<'_>>; THREADS_MAX] = [const { None }; THREADS_MAX];
        let mut rest = output;
        let mut scratch = scratch.iter_mut();
        for (index, slot) in list.iter_mut().enumerate().take(parts) {
            let units = share(units, parts, index);
            let bytes = range(units.clone()).len();
            let (output, after) = rest.split_at_mut(bytes.min(rest.len()));
            rest = after;
            let Some(scratch) = scratch.next() else { return };
            *slot = Some(Part { units, output, scratch });
        }
        self.team.each(&mut list[..parts], |_, part| {
            if let Some(part) = part {
                work(part);
            }
        });
    }

    /// Runs `work` over elements of so many bytes each, any piece of the output by itself.
    fn elements(
        &self,
        element_bytes: usize,
        output: &mut [u8],
        scratch: &mut [Aligned],
        work: impl Fn(Range<usize>, &mut [u8]) + Sync,
    ) {
        let count = output.len() / element_bytes;
        let parts = self.parts(output.len() as u64);
        let range = |units: Range<usize>| units.start * element_bytes..units.end * element_bytes;
        self.split((count, parts), range, output, scratch, |part| work(part.units.clone(), part.output));
    }

    fn run(&self, layer: &Layer, output: &mut [u8], scratch: &mut [Aligned]) -> Result<(), RunError> {
        let isa = self.isa;
        match layer {
            Layer::QConv { .. } | Layer::Conv { .. } | Layer::MatMul { .. } => {
                self.product(layer, output, scratch)
            }
            Layer::Recurrent(layer) => {
                let inputs: Vec<&[u8]> = (0..self.inputs.len()).map(|index| self.bytes(index)).collect();
                if let Some(scratch) = scratch.first_mut() {
                    layer.run(&inputs, cast_slice_mut(output), scratch.as_bytes_mut());
                }
            }
            Layer::DynamicQuantise { relay } => self.quantise_by_range(*relay, output, scratch),
            Layer::DynamicConv { conv, into } => self.dynamic_conv(conv, *into, output, scratch),
            Layer::Quantise { q, relay } => self.quantise(*q, *relay, output, scratch),
            Layer::Dequantise { q, relay } => self.dequantise(*q, *relay, output, scratch),
            Layer::QBinary(q, [min, max]) => {
                let (a, b) = (self.bytes(0), self.bytes(1));
                self.elements(1, output, scratch, |at, out| {
                    qbinary::qbinary(isa, q, &a[at.clone()], &b[at], out);
                    if (*min, *max) != (0, 255) {
                        out.iter_mut().for_each(|byte| *byte = (*byte).clamp(*min, *max));
                    }
                });
            }
            Layer::QBroadcast(q, [min, max], broadcast) => {
                let operands = [self.bytes(0), self.bytes(1)];
                self.elements(broadcast.row_len(), output, scratch, |at, out| {
                    qbinary::qbinary_broadcast(isa, q, broadcast, operands, at, out);
                    if (*min, *max) != (0, 255) {
                        out.iter_mut().for_each(|byte| *byte = (*byte).clamp(*min, *max));
                    }
                });
            }
            Layer::Lut(table, place) => {
                let input = self.bytes(*place);
                self.elements(1, output, scratch, |at, out| lut::lut(isa, table, &input[at], out));
            }
            Layer::Flip => {
                let input = self.bytes(0);
                self.elements(1, output, scratch, |at, out| {
                    out.iter_mut().zip(&input[at]).for_each(|(to, from)| *to = from ^ 0x80);
                });
            }
            Layer::Unary(function) => {
                let input = self.floats(0);
                self.elements(4, output, scratch, |at, out| {
                    unary::unary(isa, *function, &input[at], cast_slice_mut(out));
                });
            }
            Layer::Binary { kind, shape, after } => self.binary(*kind, shape, *after, output, scratch),
            Layer::QSoftmax { softmax, row_len } => {
                let input = self.bytes(0);
                self.elements(*row_len, output, scratch, |at, out| {
                    softmax.run(&input[at.start * row_len..at.end * row_len], out);
                });
            }
            Layer::Softmax { row_len, log } => {
                let (input, run) =
                    (self.floats(0), if *log { normalise::log_softmax } else { normalise::softmax });
                self.elements(row_len * 4, output, scratch, |at, out| {
                    run(isa, *row_len, &input[at.start * row_len..at.end * row_len], cast_slice_mut(out));
                });
            }
            Layer::MaxPool { .. }
            | Layer::AveragePool(_)
            | Layer::QAveragePool { .. }
            | Layer::QGlobalAverage(_) => {
                self.pool(layer, output, scratch);
                return Ok(());
            }
            Layer::Nearest { .. } | Layer::Linear(_) => self.resize(layer, output, scratch),
            Layer::Concat { outer, inner_bytes } => {
                for index in 0..inner_bytes.len() {
                    copy::concatenate(*outer, inner_bytes, index, self.bytes(index), output);
                }
            }
            Layer::Transpose { kind, element_bytes } => {
                copy::transposed(kind, *element_bytes, self.bytes(0), output);
            }
            Layer::Single { .. } => return Err(failed("a node of tract's among kernels")),
        }
        Ok(())
    }

    fn product(&self, layer: &Layer, output: &mut [u8], scratch: &mut [Aligned]) {
        match layer {
            Layer::QConv { conv, into } => {
                let input = self.inputs.first().map_or(&[][..], |source| self.rest.bytes(source, true));
                let residual = (self.inputs.len() > 1).then(|| self.bytes(1));
                let size = output.len() / conv.geometry().out_len().max(1);
                let range = |units: Range<usize>| {
                    let elements = conv.output_range(units);
                    elements.start * size..elements.end * size
                };
                let parts = self.parts(conv.geometry().macs() / 4);
                self.split((conv.units(), parts), range, output, scratch, |part| {
                    let slice = match into {
                        Datatype::Int32 => QSlice::I32(cast_slice_mut(part.output)),
                        Datatype::Fp32 => QSlice::F32(cast_slice_mut(part.output)),
                        _ => QSlice::U8(part.output),
                    };
                    conv.run(part.units.clone(), input, residual, slice, part.scratch.as_bytes_mut());
                });
            }
            Layer::Conv { conv, after } => {
                let (isa, input) = (self.isa, self.floats(0));
                let residual = (self.inputs.len() > 1).then(|| self.floats(1));
                let range = |units: Range<usize>| {
                    let elements = conv.output_range(units);
                    elements.start * 4..elements.end * 4
                };
                let parts = self.parts(conv.geometry().macs() / 2);
                self.split((conv.units(), parts), range, output, scratch, |part| {
                    let out: &mut [f32] = cast_slice_mut(part.output);
                    conv.run(part.units.clone(), input, residual, out, part.scratch.as_bytes_mut());
                    if let Some(function) = after {
                        unary::unary_in_place(isa, *function, out);
                    }
                });
            }
            Layer::MatMul { product, macs } => {
                let operands = (self.floats(0), self.floats(1));
                let range = |units: Range<usize>| {
                    let elements = product.output_range(units);
                    elements.start * 4..elements.end * 4
                };
                let parts = self.parts(macs / 2);
                self.split((product.units(), parts), range, output, scratch, |part| {
                    let out = cast_slice_mut(part.output);
                    product.run(part.units.clone(), operands, None, out, part.scratch.as_bytes_mut());
                });
            }
            _ => {}
        }
    }

    fn dynamic_conv(&self, conv: &QConv, into: Datatype, output: &mut [u8], scratch: &mut [Aligned]) {
        let input = self.inputs.first().map_or(&[][..], |source| self.rest.bytes(source, true));
        let scaled = self.inputs.len() > 2;
        let scale = if scaled { self.floats(2).first().copied().unwrap_or(1.0) } else { 1.0 };
        let dynamic = Dynamic { input_zero: self.bytes(1).first().copied().unwrap_or(0), scale };
        let range = |units: Range<usize>| {
            let elements = conv.output_range(units);
            elements.start * size_of::<f32>()..elements.end * size_of::<f32>()
        };
        let parts = self.parts(conv.geometry().macs() / 4);
        self.split((conv.units(), parts), range, output, scratch, |part| {
            let slice = match into {
                Datatype::Int32 => QSlice::I32(cast_slice_mut(part.output)),
                _ => QSlice::F32(cast_slice_mut(part.output)),
            };
            conv.run_dynamic(part.units.clone(), input, dynamic, slice, part.scratch.as_bytes_mut());
        });
    }

    fn quantise_by_range(&self, relay: Option<Relay>, output: &mut [u8], scratch: &mut [Aligned]) {
        let (least, greatest) = quantise::range(self.isa, self.floats(0));
        let q = quantise::dynamic(least, greatest);
        let (head, bytes) = output.split_at_mut(DYNAMIC_HEAD_BYTES.min(output.len()));
        if let Some(head) = head.first_chunk_mut::<5>() {
            let [a, b, c, d] = q.scale.to_ne_bytes();
            *head = [a, b, c, d, q.zero];
        }
        self.quantise(q, relay, bytes, scratch);
    }

    fn quantise(&self, q: Quantisation, relay: Option<Relay>, output: &mut [u8], scratch: &mut [Aligned]) {
        let (isa, input) = (self.isa, self.floats(0));
        match relay {
            Some(Relay { images, channels, to_last: true, .. }) => {
                let len = input.len() / images.max(1);
                for (input, output) in input.chunks_exact(len.max(1)).zip(output.chunks_exact_mut(len.max(1)))
                {
                    self.elements(channels, output, scratch, |at, out| {
                        quantise::quantise_to_nhwc(isa, q, channels, input, at.start, out);
                    });
                }
            }
            // Channels-last floats to rows of bytes: no operator asks for it, so that it need not be fast.
            Some(Relay { images, pixels, channels, .. }) => {
                for image in 0..images {
                    for (at, out) in
                        output[image * pixels * channels..][..pixels * channels].iter_mut().enumerate()
                    {
                        let (channel, pixel) = (at / pixels, at % pixels);
                        *out = q.quantise(input[(image * pixels + pixel) * channels + channel]);
                    }
                }
            }
            None => {
                self.elements(1, output, scratch, |at, out| quantise::quantise(isa, q, &input[at], out));
            }
        }
    }

    fn dequantise(&self, q: Quantisation, relay: Option<Relay>, output: &mut [u8], scratch: &mut [Aligned]) {
        let (isa, input) = (self.isa, self.bytes(0));
        match relay {
            Some(Relay { images, pixels, channels, to_last: false }) => {
                let len = pixels * channels;
                let images = input.chunks_exact(len).zip(output.chunks_exact_mut(len * 4)).take(images);
                for (input, output) in images {
                    self.elements(pixels * 4, output, scratch, |at, out| {
                        quantise::dequantise_to_nchw(isa, q, channels, input, at.start, cast_slice_mut(out));
                    });
                }
            }
            Some(Relay { images, pixels, channels, .. }) => {
                let out: &mut [f32] = cast_slice_mut(output);
                for image in 0..images {
                    for (at, out) in
                        out[image * pixels * channels..][..pixels * channels].iter_mut().enumerate()
                    {
                        let (pixel, channel) = (at / channels, at % channels);
                        *out = q.dequantise(input[(image * channels + channel) * pixels + pixel]);
                    }
                }
            }
            None => self.elements(4, output, scratch, |at, out| {
                quantise::dequantise(isa, q, &input[at], cast_slice_mut(out));
            }),
        }
    }

    fn binary(
        &self,
        kind: binary::Binary,
        shape: &Meeting,
        after: Option<unary::Unary>,
        output: &mut [u8],
        scratch: &mut [Aligned],
    ) {
        let (isa, a, b) = (self.isa, self.floats(0), self.floats(1));
        let finish = |out: &mut [f32]| {
            if let Some(function) = after {
                unary::unary_in_place(isa, function, out);
            }
        };
        fn part(operand: &[f32], at: Range<usize>) -> &[f32] {
            if operand.len() == 1 { operand } else { &operand[at] }
        }
        match shape {
            Meeting::Same => self.elements(4, output, scratch, |at, out| {
                let out = cast_slice_mut(out);
                binary::binary(isa, kind, part(a, at.clone()), part(b, at), out);
                finish(out);
            }),
            Meeting::Rows => self.elements(b.len() * 4, output, scratch, |at, out| {
                let out = cast_slice_mut(out);
                binary::binary_channels(isa, kind, &a[at.start * b.len()..at.end * b.len()], b, out);
                finish(out);
            }),
            Meeting::Any(broadcast) => self.elements(broadcast.row_len() * 4, output, scratch, |at, out| {
                let out = cast_slice_mut(out);
                binary::binary_broadcast(isa, kind, broadcast, [a, b], at, out);
                finish(out);
            }),
        }
    }

    fn pool(&self, layer: &Layer, output: &mut [u8], scratch: &mut [Aligned]) {
        let isa = self.isa;
        match layer {
            Layer::MaxPool { pool, floats: true } => {
                let input = self.floats(0);
                self.elements(pool.row_len() * 4, output, scratch, |rows, out| {
                    pool::max(isa, pool, input, rows, cast_slice_mut(out));
                });
            }
            Layer::MaxPool { pool, floats: false } => {
                let input = self.bytes(0);
                self.elements(pool.row_len(), output, scratch, |rows, out| {
                    qpool::max(isa, pool, input, rows, out);
                });
            }
            Layer::AveragePool(pool) => {
                let input = self.floats(0);
                self.elements(pool.row_len() * 4, output, scratch, |rows, out| {
                    pool::average(isa, pool, input, rows, cast_slice_mut(out));
                });
            }
            Layer::QAveragePool { pool, from, to } => {
                let input = self.bytes(0);
                self.elements(pool.row_len(), output, scratch, |rows, out| {
                    qpool::average(isa, pool, [*from, *to], input, rows, out);
                });
            }
            Layer::QGlobalAverage(spec) => {
                let len = (spec.pixels * spec.channels).max(1);
                let images =
                    self.bytes(0).chunks_exact(len).zip(output.chunks_exact_mut(spec.channels.max(1)));
                for (input, out) in images {
                    qpool::global_average(isa, spec, input, 0, out);
                }
            }
            _ => {}
        }
    }

    fn resize(&self, layer: &Layer, output: &mut [u8], scratch: &mut [Aligned]) {
        let isa = self.isa;
        match layer {
            Layer::Linear(spec) => {
                let input = self.floats(0);
                self.elements(spec.row_len() * 4, output, scratch, |rows, out| {
                    resize::linear(isa, spec, input, rows, cast_slice_mut(out));
                });
            }
            Layer::Nearest { maps: [down, across], shape, element_bytes } => {
                let input = self.bytes(0);
                let row = across.len() * shape[2] * element_bytes;
                self.elements(row, output, scratch, |rows, out| {
                    if *element_bytes == 4 {
                        let input: &[u32] = cast_slice(input);
                        resize::nearest([down, across], *shape, input, rows, cast_slice_mut(out));
                    } else {
                        resize::nearest([down, across], *shape, input, rows, out);
                    }
                });
            }
            _ => {}
        }
    }
}

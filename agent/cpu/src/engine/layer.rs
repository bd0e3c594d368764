//! Operations made ready.

use crate::{
    fconv,
    isa::Isa,
    packed::Packed,
    pointwise::{
        Quantisation,
        binary::{self, Binary},
        broadcast::Broadcast,
        layout::Strided,
        lut,
        pool::Pool2d,
        qbinary::{self, QBinary, QOperation},
        qpool::GlobalAverage,
        qsoftmax::QSoftmax,
        resize::{Axis, Coordinates, Linear, Nearest},
        unary::Unary,
    },
    qconv,
};
use std::sync::Arc;
use whimbrel_infer::{
    CompileError, Datatype, Single,
    plan::{
        self, Activation, Layout, MapFunction, Operation, Place, Plan, Pool, QConvOutput, QPair, QResidual,
        Quant, Resize, Step,
    },
};

/// A step's work, with everything in it that does not depend on a run.
pub(super) enum Layer {
    QConv {
        conv: Box<qconv::QConv>,
        into: Datatype,
    },
    Conv {
        conv: Box<fconv::Conv>,
        after: Option<Unary>,
    },
    MatMul {
        product: Box<fconv::MatMul>,
        macs: u64,
    },
    Quantise {
        q: Quantisation,
        relay: Option<Relay>,
    },
    Dequantise {
        q: Quantisation,
        relay: Option<Relay>,
    },
    QBinary(QBinary, [u8; 2]),
    QBroadcast(QBinary, [u8; 2], Box<Broadcast>),
    /// Of this input.
    Lut(Box<lut::Table>, usize),
    QSoftmax {
        softmax: QSoftmax,
        row_len: usize,
    },
    MaxPool {
        pool: Pool2d,
        floats: bool,
    },
    AveragePool(Pool2d),
    QAveragePool {
        pool: Pool2d,
        from: Quantisation,
        to: Quantisation,
    },
    QGlobalAverage(GlobalAverage),
    Binary {
        kind: Binary,
        shape: Meeting,
        after: Option<Unary>,
    },
    Unary(Unary),
    Softmax {
        row_len: usize,
        log: bool,
    },
    Concat {
        outer: usize,
        inner_bytes: Vec<usize>,
    },
    Transpose {
        kind: Transpose,
        element_bytes: usize,
    },
    Flip,
    Nearest {
        maps: [Vec<u32>; 2],
        shape: [usize; 3],
        element_bytes: usize,
    },
    Linear(Linear),
    Recurrent(Box<super::recurrent::Layer>),
    DynamicQuantise {
        relay: Option<Relay>,
    },
    DynamicConv {
        conv: Box<qconv::QConv>,
        into: Datatype,
    },
    Single {
        single: Arc<Single>,
        types: Vec<(Datatype, Vec<usize>)>,
    },
}

/// A change between channels-first and channels-last on the way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Relay {
    pub(super) images: usize,
    pub(super) pixels: usize,
    pub(super) channels: usize,
    /// Whether the result is channels-last.
    pub(super) to_last: bool,
}

/// How the elements of two operands meet.
pub(super) enum Meeting {
    /// One to one, or with a single element.
    Same,
    /// The second is one row, repeated.
    Rows,
    /// By strides.
    Any(Box<Broadcast>),
}

/// A transposition.
pub(super) enum Transpose {
    /// Of `count` matrices of so many columns.
    Matrices { count: usize, columns: usize },
    /// By strides.
    Any(Strided),
}

impl Layer {
    pub(super) fn new(isa: Isa, plan: &Plan, step: &Step) -> Result<Self, CompileError> {
        let refuse = |why: &str| CompileError::Failed { why: format!("{}: {why}", step.name) };
        let size = |index: usize| {
            let buffer = step.outputs.get(index).map(|id| plan.buffer(*id));
            buffer.and_then(|b| b.datatype.size_bytes()).unwrap_or(1)
        };
        Ok(match &step.operation {
            Operation::QConv(conv) => {
                let into = step.outputs.first().map_or(Datatype::Uint8, |id| plan.buffer(*id).datatype);
                let weights = conv.weights.get().map_err(|why| refuse(&why))?;
                Self::QConv { conv: Box::new(qconv(isa, conv, &weights)), into }
            }
            Operation::Conv(conv) => {
                let (activation, after) = fused(conv.activation);
                let weights = conv.weights.get().map_err(|why| refuse(&why))?;
                let spec = fconv::ConvSpec {
                    geometry: conv.geometry,
                    weights: &weights,
                    bias: conv.bias.as_ref().map(|b| b.as_slice()),
                    activation,
                    residual: conv.residual,
                };
                Self::Conv { conv: Box::new(fconv::Conv::new(isa, &spec)), after }
            }
            Operation::MatMul(product) => {
                Self::MatMul { product: Box::new(matmul(isa, product)), macs: step.operation.macs() }
            }
            Operation::Quantise(quant) => {
                Self::Quantise { q: quantisation(*quant, false), relay: relay(plan, step) }
            }
            Operation::Dequantise(quant) => {
                Self::Dequantise { q: quantisation(*quant, false), relay: relay(plan, step) }
            }
            Operation::QAdd(pair) => Self::QBinary(qbinary(QOperation::Add, pair), [pair.min, pair.max]),
            Operation::QMul(pair) => Self::QBinary(qbinary(QOperation::Mul, pair), [pair.min, pair.max]),
            Operation::QBroadcast(broadcast) => qbroadcast(isa, plan, step, broadcast)
                .ok_or_else(|| refuse("its operands broadcast over too many axes"))?,
            Operation::Map(map) => Self::Lut(Box::new(table(isa, map)), 0),
            Operation::QSoftmax { input_scale, output, signed } => {
                let row_len = row_len(plan, step);
                let from = Quantisation { scale: *input_scale, zero: 0, signed: *signed };
                Self::QSoftmax {
                    softmax: QSoftmax::new(from, quantisation(*output, *signed), row_len),
                    row_len,
                }
            }
            Operation::MaxPool(pool) => Self::MaxPool { pool: pool2d(pool), floats: size(0) == 4 },
            Operation::AveragePool(pool) => Self::AveragePool(pool2d(pool)),
            Operation::QAveragePool { pool, input, output, signed, global } => {
                let (from, to) = (quantisation(*input, *signed), quantisation(*output, *signed));
                if *global {
                    let [_, h, w, channels] = pool.input;
                    let spec = GlobalAverage { channels, pixels: h * w, input: from, output: to };
                    Self::QGlobalAverage(spec)
                } else {
                    Self::QAveragePool { pool: pool2d(pool), from, to }
                }
            }
            Operation::Binary(binary) => {
                let meeting =
                    meeting(binary).ok_or_else(|| refuse("its operands broadcast over too many axes"))?;
                Self::Binary {
                    kind: binary_kind(binary.kind),
                    shape: meeting,
                    after: after(binary.activation),
                }
            }
            Operation::Unary(function) => Self::Unary(unary(*function)),
            Operation::Softmax { log } => Self::Softmax { row_len: row_len(plan, step), log: *log },
            Operation::Concat { outer, inner } => {
                Self::Concat { outer: *outer, inner_bytes: inner.iter().map(|n| n * size(0)).collect() }
            }
            Operation::Transpose { sizes, order } => {
                let kind = transpose(sizes, order).ok_or_else(|| refuse("it permutes too many axes"))?;
                Self::Transpose { kind, element_bytes: size(0) }
            }
            Operation::Flip => Self::Flip,
            Operation::Resize(spec) => resize(spec, size(0)),
            Operation::Recurrent(layer) => {
                Self::Recurrent(Box::new(super::recurrent::Layer::new(isa, layer, unary)))
            }
            Operation::DynamicQuantise { to_last } => {
                let relay = |[images, pixels, channels]: [usize; 3]| Relay {
                    images,
                    pixels,
                    channels,
                    to_last: true,
                };
                Self::DynamicQuantise { relay: to_last.map(relay) }
            }
            Operation::DynamicConv(conv) => {
                let into = step.outputs.first().map_or(Datatype::Fp32, |id| plan.buffer(*id).datatype);
                let weights = conv.weights.get().map_err(|why| refuse(&why))?;
                Self::DynamicConv { conv: Box::new(qconv(isa, conv, &weights)), into }
            }
            Operation::Single(single) => {
                let types =
                    step.outputs.iter().map(|id| plan.buffer(*id)).map(|b| (b.datatype, b.shape.clone()));
                Self::Single { single: Arc::clone(single), types: types.collect() }
            }
        })
    }

    /// Bytes of its weights, with what belongs to them.
    pub(super) fn packed_bytes(&self) -> usize {
        let of = |parts: Vec<Packed>| parts.iter().map(|part| part.as_bytes().len()).sum();
        match self {
            Self::QConv { conv, .. } | Self::DynamicConv { conv, .. } => of(conv.parts().1),
            Self::Conv { conv, .. } => of(conv.parts().1),
            Self::Recurrent(layer) => layer.packed_bytes(),
            _ => 0,
        }
    }

    /// Scratch memory that each thread needs.
    pub(super) fn scratch_bytes(&self) -> usize {
        match self {
            Self::QConv { conv, .. } | Self::DynamicConv { conv, .. } => conv.scratch_bytes(),
            Self::Recurrent(layer) => layer.scratch_bytes(),
            Self::Conv { conv, .. } => conv.scratch_bytes(),
            Self::MatMul { product, .. } => product.scratch_bytes(),
            _ => 0,
        }
    }
}

fn quantisation(quant: Quant, signed: bool) -> Quantisation {
    Quantisation { scale: quant.scale, zero: quant.zero, signed }
}

fn qconv(isa: Isa, conv: &plan::QConv, weights: &[i16]) -> qconv::QConv {
    let output = match &conv.output {
        QConvOutput::Bytes { multiplier, zero, min, max, residual } => qconv::QOutput::Quantised {
            multiplier,
            zero: *zero,
            min: *min,
            max: *max,
            residual: residual.as_ref().map(residual_of),
        },
        QConvOutput::Sums => qconv::QOutput::Int32,
        QConvOutput::Floats { multiplier, bias } => {
            qconv::QOutput::Float { multiplier, bias: bias.as_ref().map(|b| b.as_slice()) }
        }
    };
    qconv::QConv::new(
        isa,
        &qconv::QConvSpec {
            geometry: conv.geometry,
            weights,
            bias: conv.bias.as_ref().map(|b| b.as_slice()),
            input_zero: conv.input_zero,
            output,
        },
    )
}

fn table(isa: Isa, map: &plan::QMap) -> lut::Table {
    let (from, to) = (quantisation(map.from, false), quantisation(map.to, false));
    let table = match map.function {
        Some(MapFunction::Unary(function)) => lut::of(from, to, unary(function)),
        Some(MapFunction::Scalar { kind, number, number_first }) => lut::table(from, to, |value| {
            let (a, b) = if number_first { (number, value) } else { (value, number) };
            let mut out = [0.0];
            binary::binary(isa, binary_kind(kind), &[a], &[b], &mut out);
            out[0]
        }),
        None => lut::requantise(from, to),
    };
    table.map(|byte| byte.clamp(map.min, map.max))
}

fn residual_of(residual: &QResidual) -> qconv::Residual {
    let QResidual { pair, own_first } = residual;
    let (own, other) = if *own_first { (pair.a, pair.b) } else { (pair.b, pair.a) };
    qconv::Residual {
        own_scale: own.scale,
        own_zero: own.zero,
        other_scale: other.scale,
        other_zero: other.zero,
        scale: pair.out.scale,
        zero: pair.out.zero,
        min: pair.min,
        max: pair.max,
        own_first: *own_first,
        signed: pair.signed,
    }
}

fn qbinary(operation: QOperation, pair: &QPair) -> QBinary {
    QBinary {
        operation,
        a: quantisation(pair.a, pair.signed),
        b: quantisation(pair.b, pair.signed),
        out: quantisation(pair.out, pair.signed),
    }
}

/// A pair that broadcasts: a table where one operand is a single constant byte.
fn qbroadcast(isa: Isa, plan: &Plan, step: &Step, broadcast: &plan::QBroadcast) -> Option<Layer> {
    let plan::QBroadcast { pair, sum, shapes: [a, b] } = broadcast;
    let q = qbinary(if *sum { QOperation::Add } else { QOperation::Mul }, pair);
    let one = |place: usize| match &plan.buffer(*step.inputs.get(place)?).place {
        Place::Constant(tensor) if tensor.len() == 1 => tensor.as_le_bytes()?.first().copied(),
        _ => None,
    };
    let every: [u8; 256] = std::array::from_fn(|byte| byte as u8);
    let mut table = [0; 256];
    let input = match (one(0), one(1)) {
        (_, Some(b)) => {
            qbinary::qbinary(isa, &q, &every, &[b], &mut table);
            0
        }
        (Some(a), None) => {
            qbinary::qbinary(isa, &q, &[a], &every, &mut table);
            1
        }
        (None, None) => {
            let broadcast = Box::new(Broadcast::new(a, b)?);
            return Some(Layer::QBroadcast(q, [pair.min, pair.max], broadcast));
        }
    };
    Some(Layer::Lut(Box::new(table.map(|byte| byte.clamp(pair.min, pair.max))), input))
}

fn matmul(isa: Isa, product: &plan::MatMul) -> fconv::MatMul {
    let plan::MatMul { batch, a_step, b_step, m, k, n } = *product;
    let plain = fconv::MatMulSpec::plain(batch, m, k, n);
    let spec = fconv::MatMulSpec { a_batch_step: a_step, b_batch_step: b_step, ..plain };
    fconv::MatMul::new(isa, &spec)
}

/// What a convolution does in registers, and what is left to a pass over its result.
pub(super) fn fused(activation: Activation) -> (fconv::Activation, Option<Unary>) {
    match activation {
        Activation::None => (fconv::Activation::None, None),
        Activation::Clip { min, max } => (fconv::Activation::Clip { min, max }, None),
        Activation::Function(plan::Unary::Clip { min, max }) => (fconv::Activation::Clip { min, max }, None),
        Activation::Function(plan::Unary::LeakyRelu { alpha }) => (fconv::Activation::LeakyRelu(alpha), None),
        Activation::Function(plan::Unary::HardSwish) => (fconv::Activation::HardSwish, None),
        Activation::Function(plan::Unary::Sigmoid) => (fconv::Activation::Sigmoid, None),
        Activation::Function(plan::Unary::Silu) => (fconv::Activation::Silu, None),
        Activation::Function(other) => (fconv::Activation::None, Some(unary(other))),
    }
}

fn after(activation: Activation) -> Option<Unary> {
    match activation {
        Activation::None => None,
        Activation::Clip { min, max } => Some(Unary::Clip { min, max }),
        Activation::Function(function) => Some(unary(function)),
    }
}

pub(super) fn unary(function: plan::Unary) -> Unary {
    match function {
        plan::Unary::Clip { min, max } => Unary::Clip { min, max },
        plan::Unary::LeakyRelu { alpha } => Unary::LeakyRelu(alpha),
        plan::Unary::Sigmoid => Unary::Sigmoid,
        plan::Unary::Tanh => Unary::Tanh,
        plan::Unary::HardSigmoid { alpha, beta } => Unary::HardSigmoid { alpha, beta },
        plan::Unary::HardSwish => Unary::HardSwish,
        plan::Unary::Silu => Unary::Silu,
        plan::Unary::Gelu => Unary::Gelu,
        plan::Unary::GeluTanh => Unary::GeluTanh,
        plan::Unary::Erf => Unary::Erf,
        plan::Unary::Exp => Unary::Exp,
        plan::Unary::Log => Unary::Log,
        plan::Unary::Sqrt => Unary::Sqrt,
        plan::Unary::Reciprocal => Unary::Reciprocal,
        plan::Unary::Neg => Unary::Neg,
        plan::Unary::Abs => Unary::Abs,
        plan::Unary::Floor => Unary::Floor,
        plan::Unary::Ceil => Unary::Ceil,
        plan::Unary::Round => Unary::Round,
        plan::Unary::Elu { alpha } => Unary::Elu(alpha),
        plan::Unary::Softplus => Unary::Softplus,
    }
}

fn binary_kind(kind: plan::BinaryKind) -> Binary {
    match kind {
        plan::BinaryKind::Add => Binary::Add,
        plan::BinaryKind::Sub => Binary::Sub,
        plan::BinaryKind::Mul => Binary::Mul,
        plan::BinaryKind::Div => Binary::Div,
        plan::BinaryKind::Min => Binary::Min,
        plan::BinaryKind::Max => Binary::Max,
        plan::BinaryKind::Pow => Binary::Pow,
        plan::BinaryKind::PRelu => Binary::PRelu,
    }
}

fn meeting(binary: &plan::Binary) -> Option<Meeting> {
    let shape = |strides: &[usize]| -> Vec<usize> {
        strides.iter().zip(&binary.sizes).map(|(stride, size)| if *stride == 0 { 1 } else { *size }).collect()
    };
    let (a, b) = (shape(&binary.a_strides), shape(&binary.b_strides));
    let whole = |shape: &[usize]| shape == binary.sizes || shape.iter().all(|size| *size == 1);
    if whole(&a) && whole(&b) {
        return Some(Meeting::Same);
    }
    let channels = binary.sizes.last().copied().unwrap_or(1);
    let row = b.iter().rev().skip(1).all(|size| *size == 1) && b.last() == Some(&channels);
    if a == binary.sizes && row {
        return Some(Meeting::Rows);
    }
    Broadcast::new(&a, &b).map(|broadcast| Meeting::Any(Box::new(broadcast)))
}

fn row_len(plan: &Plan, step: &Step) -> usize {
    step.outputs.first().and_then(|id| plan.buffer(*id).shape.last().copied()).unwrap_or(1).max(1)
}

/// The relaying between a step's input and output, where their layouts differ.
fn relay(plan: &Plan, step: &Step) -> Option<Relay> {
    let (from, to) = (plan.buffer(*step.inputs.first()?), plan.buffer(*step.outputs.first()?));
    match to.shape.as_slice() {
        [images, channels, spatial @ ..] if from.layout != to.layout && !spatial.is_empty() => {
            let pixels: usize = spatial.iter().product();
            let real = pixels != 1 && *channels != 1;
            real.then_some(Relay {
                images: *images,
                pixels,
                channels: *channels,
                to_last: to.layout == Layout::ChannelsLast,
            })
        }
        _ => None,
    }
}

fn pool2d(pool: &Pool) -> Pool2d {
    let [top, left, bottom, right] = pool.pads;
    Pool2d {
        channels: pool.input[3],
        input: [pool.input[1], pool.input[2]],
        output: pool.output,
        kernel: pool.kernel,
        stride: pool.strides,
        dilation: pool.dilations,
        pad: [top, left],
        pad_end: [bottom, right],
        count_padding: pool.count_padding,
    }
}

fn transpose(sizes: &[usize], order: &[usize]) -> Option<Transpose> {
    // The last axes of a stack, swapped as two blocks.
    if let [count, rows, columns] = sizes
        && order == [0, 2, 1]
    {
        let _ = rows;
        return Some(Transpose::Matrices { count: *count, columns: *columns });
    }
    if let ([_, columns], [1, 0]) = (sizes, order) {
        return Some(Transpose::Matrices { count: 1, columns: *columns });
    }
    Strided::permutation(sizes, order).map(Transpose::Any)
}

fn resize(spec: &Resize, element_bytes: usize) -> Layer {
    let coordinates = match spec.coordinates.as_str() {
        "asymmetric" => Coordinates::Asymmetric,
        "align_corners" => Coordinates::AlignCorners,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        _ => Coordinates::HalfPixel,
    };
    let axis = |at: usize| Axis {
        input: spec.input[at + 1],
        output: spec.output[at],
        scale: spec.scales[at],
        coordinates,
    };
    let [_, height, width, channels] = spec.input;
    if spec.linear {
        return Layer::Linear(Linear::new(channels, [axis(0), axis(1)], false, false));
    }
    let mode = match spec.nearest.as_str() {
        "round_prefer_ceil" => Nearest::RoundPreferCeil,
        "floor" => Nearest::Floor,
        "ceil" => Nearest::Ceil,
        _ => Nearest::RoundPreferFloor,
    };
    let maps = [axis(0).nearest(mode), axis(1).nearest(mode)];
    Layer::Nearest { maps, shape: [height, width, channels], element_bytes }
}

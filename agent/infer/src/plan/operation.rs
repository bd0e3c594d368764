//! What a step does. Inputs and outputs are named in the order of the step's buffers.

use super::{Conv2d, Recurrent, Weights};
use crate::single::Single;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Bytes before the elements of a dynamically quantised tensor.
pub const DYNAMIC_HEAD_BYTES: usize = crate::compile::memory::ALIGNMENT_BYTES;

/// What a step does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Operation {
    /// Convolution or matrix product of f32 by constant weights. Inputs: x, and the residual where there is one.
    Conv(Conv),
    /// The same of bytes, with exact sums. Inputs: x, and the residual where there is one.
    QConv(QConv),
    /// Product of two stacks of f32 matrices. Inputs: a, b.
    MatMul(MatMul),
    /// f32 to bytes: `clamp(round_half_even(x / scale) + zero)`. The layouts of input and output may differ.
    Quantise(Quant),
    /// Bytes to f32: `(q - zero) * scale`. The layouts of input and output may differ.
    Dequantise(Quant),
    /// Sum of two byte tensors. Inputs: a, b.
    QAdd(QPair),
    /// Product of two byte tensors. Inputs: a, b.
    QMul(QPair),
    /// The same of two byte tensors that broadcast. Inputs: a, b.
    QBroadcast(QBroadcast),
    /// Each byte dequantised, mapped, quantised again.
    Map(QMap),
    /// Softmax of bytes along the last axis.
    QSoftmax {
        /// Scale of the input.
        input_scale: f32,
        /// Type and scale of the output.
        output: Quant,
        /// Whether the model's own type is int8.
        signed: bool,
    },
    /// Maximum within windows, f32 or bytes, channels last.
    MaxPool(Pool),
    /// Mean within windows, f32, channels last.
    AveragePool(Pool),
    /// Mean within windows, bytes, channels last.
    QAveragePool {
        /// The window.
        pool: Pool,
        /// What the input's bytes mean.
        input: Quant,
        /// What the output's bytes mean.
        output: Quant,
        /// Whether the window is the whole image, by the model's own words: the mean is then rounded in another way.
        global: bool,
        /// Whether the model's own type is int8.
        signed: bool,
    },
    /// An element-wise operator of two f32 tensors that broadcast. Inputs: a, b.
    Binary(Binary),
    /// A function of each f32.
    Unary(Unary),
    /// Softmax of f32 along the last axis of rows.
    Softmax {
        /// Whether its logarithm is asked for.
        log: bool,
    },
    /// Tensors one after another along a physical axis: `outer` blocks, of each input `inner[i]` elements.
    Concat {
        /// Blocks.
        outer: usize,
        /// Elements of each input in a block.
        inner: Vec<usize>,
    },
    /// Axes in another order: those of the input, slowest first, and which of them each axis of the output is.
    Transpose {
        /// Physical sizes of the input.
        sizes: Vec<usize>,
        /// For each axis of the output, the axis of the input.
        order: Vec<usize>,
    },
    /// Bytes with their highest bit flipped: int8 to shifted bytes and back.
    Flip,
    /// An image at another size, channels last.
    Resize(Resize),
    /// A recurrent layer.
    Recurrent(Box<Recurrent>),
    /// f32 to bytes by their range, as `DynamicQuantizeLinear`. Output: one buffer with the scale (f32), the zero point (a byte) and,
    /// from [`DYNAMIC_HEAD_BYTES`] on, the bytes. Channels are brought last where images, pixels and channels are given.
    DynamicQuantise {
        /// Images, pixels and channels of an input whose channels come first.
        to_last: Option<[usize; 3]>,
    },
    /// [`QConv`] of bytes whose zero point, and for floats their scale, only a run tells. Inputs: x, the zero point (a byte) and,
    /// where floats are made, the scale (f32).
    DynamicConv(QConv),
    /// A node run on its own. Inputs: those that are live.
    #[serde(skip)]
    Single(Arc<Single>),
}

impl Operation {
    /// Multiplications with accumulation.
    #[must_use]
    pub fn macs(&self) -> u64 {
        match self {
            Self::Conv(conv) => conv.geometry.macs(),
            Self::QConv(conv) | Self::DynamicConv(conv) => conv.geometry.macs(),
            Self::Recurrent(layer) => layer.macs(),
            Self::MatMul(product) => (product.batch * product.m * product.k * product.n) as u64,
            Self::Single(single) => single.macs(),
            _ => 0,
        }
    }
}

/// What bytes mean: `(q - zero) * scale`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quant {
    /// Units of one step.
    pub scale: f32,
    /// The byte that means 0, shifted by 128 for int8.
    pub zero: u8,
}

/// A function of each result, fused into the step that makes it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Activation {
    /// Nothing.
    None,
    /// `min(max(x, min), max)`.
    Clip {
        /// Least value.
        min: f32,
        /// Greatest value.
        max: f32,
    },
    /// Any other function.
    Function(Unary),
}

/// A function of one f32.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is the ONNX operator of that name")]
pub enum Unary {
    Clip {
        min: f32,
        max: f32,
    },
    LeakyRelu {
        alpha: f32,
    },
    Sigmoid,
    Tanh,
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    HardSwish,
    /// `x * sigmoid(x)`.
    Silu,
    /// By the error function.
    Gelu,
    /// By the hyperbolic tangent.
    GeluTanh,
    Erf,
    Exp,
    Log,
    Sqrt,
    Reciprocal,
    Neg,
    Abs,
    Floor,
    Ceil,
    Round,
    Elu {
        alpha: f32,
    },
    Softplus,
}

/// Convolution of f32.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Conv {
    /// Sizes.
    pub geometry: Conv2d,
    /// Out channels, in channels per group, kernel rows, kernel columns.
    #[serde(skip)]
    pub weights: Weights<f32>,
    /// One per output channel.
    #[serde(skip)]
    pub bias: Option<Arc<Vec<f32>>>,
    /// Applied last.
    pub activation: Activation,
    /// Whether another tensor of the output's shape is added before the activation.
    pub residual: bool,
}

/// Convolution of bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QConv {
    /// Sizes.
    pub geometry: Conv2d,
    /// Out channels, in channels per group, kernel rows, kernel columns; the zero point subtracted, so -255 to 255.
    #[serde(skip)]
    pub weights: Weights<i16>,
    /// One per output channel, in units of input scale times weight scale.
    #[serde(skip)]
    pub bias: Option<Arc<Vec<i32>>>,
    /// The byte that means 0 in the input.
    pub input_zero: u8,
    /// What becomes of the sums.
    pub output: QConvOutput,
}

/// What becomes of exact sums.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum QConvOutput {
    /// `clamp(round_half_even(sum * multiplier) + zero, min, max)`.
    Bytes {
        /// One per output channel, or one for all.
        #[serde(skip)]
        multiplier: Arc<Vec<f32>>,
        /// The byte that means 0.
        zero: u8,
        /// Least byte.
        min: u8,
        /// Greatest byte.
        max: u8,
        /// A sum with another byte tensor afterwards.
        residual: Option<QResidual>,
    },
    /// The sums, as int32.
    Sums,
    /// `sum * multiplier + bias`, as f32.
    Floats {
        /// One per output channel, or one for all.
        #[serde(skip)]
        multiplier: Arc<Vec<f32>>,
        /// One per output channel.
        #[serde(skip)]
        bias: Option<Arc<Vec<f32>>>,
    },
}

/// A function from bytes of one meaning to bytes of another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QMap {
    /// What the input's bytes mean.
    pub from: Quant,
    /// What the output's bytes mean.
    pub to: Quant,
    /// What is done in between; nothing where only the meaning changes.
    pub function: Option<MapFunction>,
    /// Least byte of the result.
    pub min: u8,
    /// Greatest byte of the result.
    pub max: u8,
}

/// What is done with a dequantised byte.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum MapFunction {
    /// A function of it.
    Unary(Unary),
    /// An operator of it and a number, which may be the first operand.
    Scalar {
        /// Which operator.
        kind: BinaryKind,
        /// The number.
        number: f32,
        /// Whether the number is the first operand.
        number_first: bool,
    },
}

/// A sum or product of two byte tensors that broadcast, over physical axes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QBroadcast {
    /// What the bytes mean.
    pub pair: QPair,
    /// A sum, or else a product.
    pub sum: bool,
    /// Physical sizes of both operands, slowest axis first: the result's, or 1 where the operand is repeated.
    pub shapes: [Vec<usize>; 2],
}

/// A sum of a step's own bytes and another tensor's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QResidual {
    /// What the bytes of both, and of the sum, mean.
    pub pair: QPair,
    /// Whether the step's own bytes are the first operand: the order decides how a sum is rounded.
    pub own_first: bool,
}

/// Two byte tensors and the byte tensor that comes of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QPair {
    /// What the first one's bytes mean.
    pub a: Quant,
    /// What the second one's bytes mean.
    pub b: Quant,
    /// What the result's bytes mean.
    pub out: Quant,
    /// Least byte of the result.
    pub min: u8,
    /// Greatest byte of the result.
    pub max: u8,
    /// Whether the model's own type is int8.
    pub signed: bool,
}

/// A stack of matrix products, `a` of m x k by `b` of k x n.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatMul {
    /// Products.
    pub batch: usize,
    /// Elements between matrices of `a`; 0 where there is one.
    pub a_step: usize,
    /// Elements between matrices of `b`; 0 where there is one.
    pub b_step: usize,
    /// Rows of `a`.
    pub m: usize,
    /// Columns of `a`.
    pub k: usize,
    /// Columns of `b`.
    pub n: usize,
}

/// Windows over channels-last data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Images, rows, columns, channels of the input.
    pub input: [usize; 4],
    /// Rows and columns of the output.
    pub output: [usize; 2],
    /// Rows and columns of the window.
    pub kernel: [usize; 2],
    /// Pixels between windows.
    pub strides: [usize; 2],
    /// Pixels between a window's taps.
    pub dilations: [usize; 2],
    /// Padding above, left, below and right.
    pub pads: [usize; 4],
    /// Whether a mean counts the padding.
    pub count_padding: bool,
}

/// An operator of two f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is the ONNX operator of that name")]
pub enum BinaryKind {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    Pow,
    PRelu,
}

/// An element-wise operator over physical axes, with the elements to move on in each operand per axis, 0 where it is repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Binary {
    /// Which.
    pub kind: BinaryKind,
    /// Sizes of the result, slowest axis first.
    pub sizes: Vec<usize>,
    /// Strides of the first operand.
    pub a_strides: Vec<usize>,
    /// Strides of the second operand.
    pub b_strides: Vec<usize>,
    /// Applied last.
    pub activation: Activation,
}

/// Resizing of channels-last images, f32 or bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resize {
    /// Images, rows, columns, channels of the input.
    pub input: [usize; 4],
    /// Rows and columns of the output.
    pub output: [usize; 2],
    /// Scale of rows and columns, as the model gives it.
    pub scales: [f32; 2],
    /// Whether neighbours are mixed rather than the nearest one taken.
    pub linear: bool,
    /// ONNX's `coordinate_transformation_mode`.
    pub coordinates: String,
    /// ONNX's `nearest_mode`.
    pub nearest: String,
}

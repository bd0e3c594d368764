//! Plain implementations of operators that neither a kernel nor tract runs, or that tract runs only in part.
//!
//! They compute in f64 or move elements of any type; none is fast. Where no rule tells the shapes of their outputs, they run between
//! plans.
//!
//! | module | holds |
//! |---|---|
//! | `attention` | `Attention` |
//! | `boxes` | suppression of boxes that overlap |
//! | `call` | what an implementation is given, and tensors to numbers and back |
//! | `loss` | losses of classification |
//! | `movement` | operators that move elements |
//! | `numeric` | sums along an axis, normalisation, products, reductions |
//! | `pooling` | windows over images, and back |
//! | `quant` | quantisation by parameters that only a run gives |
//! | `regions` | images sampled between their pixels |
//! | `resize` | `Resize` |
//! | `signal` | spectra of signals |
//! | `testing` | calls of implementations, for their tests |
//! | `training` | steps of optimisers |
//! | `unique` | `Unique` |
//! | `window` | windows of signal processing |
//! | `words` | strings, and counts of sequences of words |

mod attention;
mod boxes;
mod call;
mod loss;
mod movement;
mod numeric;
mod pooling;
mod quant;
mod regions;
mod resize;
mod signal;
#[cfg(test)]
mod testing;
mod training;
mod unique;
mod window;
mod words;

use crate::{datatype::Datatype, graph::Node, limits::ImportLimits, rules::Views, tensor::Tensor};
use call::{Answer, Call};
use std::sync::Arc;

/// An implementation.
pub(crate) type Run = fn(&Call) -> Answer;

/// Operators that are always run here: tract lacks them, or has them wrong.
const PREFERRED: &[(&str, Run)] = &[
    ("AffineGrid", regions::affine_grid),
    ("Attention", attention::attention),
    ("CenterCropPad", movement::centre),
    ("Col2Im", pooling::columns_to_image),
    ("DeformConv", regions::deformed_convolution),
    ("Det", numeric::determinant),
    ("LpPool", pooling::lp_pool),
    ("MaxUnpool", pooling::max_unpool),
    ("NegativeLogLikelihoodLoss", loss::negative_log_likelihood),
    ("NonMaxSuppression", boxes::non_max_suppression),
    ("ReverseSequence", movement::reverse_sequence),
    ("RoiAlign", regions::roi_align),
    ("SoftmaxCrossEntropyLoss", loss::softmax_cross_entropy),
    ("StringConcat", words::concat),
    ("TensorScatter", movement::tensor_scatter),
    ("TfIdfVectorizer", words::vectorise),
    ("Unique", unique::unique),
    ("ai.onnx.preview.training.Adagrad", training::adagrad),
    ("ai.onnx.preview.training.Adam", training::adam),
    ("ai.onnx.preview.training.Momentum", training::momentum),
];

/// Operators that are run here where tract refuses the node.
const OTHERWISE: &[(&str, Run)] = &[
    ("BatchNormalization", numeric::batch_normalisation),
    ("BlackmanWindow", window::blackman),
    ("HammingWindow", window::hamming),
    ("HannWindow", window::hann),
    ("CumSum", numeric::cumulative_sum),
    ("DFT", signal::fourier),
    ("DequantizeLinear", quant::dequantise),
    ("MatMul", numeric::matrix_product),
    ("MelWeightMatrix", signal::mel_weights),
    ("OneHot", movement::one_hot),
    ("Pad", movement::pad),
    ("QLinearMatMul", quant::product_of_bytes),
    ("QuantizeLinear", quant::quantise),
    ("Range", movement::range),
    ("Resize", resize::resize),
    ("STFT", signal::fourier_of_frames),
];

fn find(table: &[(&str, Run)], op: &str) -> Option<Run> {
    table.iter().find(|(name, _)| *name == op).map(|(_, run)| *run)
}

/// Whether an operator is among those that are always run here.
pub(crate) fn knows(domain: &str, op: &str) -> bool {
    match domain {
        "" | "ai.onnx" => find(PREFERRED, op).is_some(),
        domain => find(PREFERRED, &format!("{domain}.{op}")).is_some(),
    }
}

/// The implementation that comes before tract's.
pub(crate) fn preferred(node: &Node, inputs: &Views) -> Option<Run> {
    let first = inputs.first().and_then(Option::as_ref);
    let unlike_tract = first.is_some_and(|x| x.datatype == Datatype::Bool || x.shape.contains(&0));
    match node.op.as_str() {
        "ReduceMax" | "ReduceMin" if unlike_tract => Some(numeric::extreme),
        op => find(PREFERRED, op),
    }
}

/// The implementation for a node that tract refuses.
pub(crate) fn otherwise(node: &Node) -> Option<Run> {
    find(OTHERWISE, &node.op)
}

/// A node with its implementation and its constant inputs.
pub(crate) struct Bound {
    node: Arc<Node>,
    run: Run,
    constants: Vec<Option<Arc<Tensor>>>,
    limits: ImportLimits,
}

impl Bound {
    pub(crate) fn new(node: &Arc<Node>, run: Run, inputs: &Views, limits: &ImportLimits) -> Self {
        let constants =
            inputs.iter().map(|view| view.as_ref().and_then(|view| view.constant.clone())).collect();
        Self { node: Arc::clone(node), run, constants, limits: limits.clone() }
    }

    /// Runs it; `live` are the places of `inputs`. The outputs are those that the node names.
    ///
    /// # Errors
    /// What is wrong with the node or its inputs.
    pub(crate) fn run(&self, live: &[usize], inputs: &[&Tensor]) -> Answer {
        let mut all: Vec<Option<&Tensor>> = self.constants.iter().map(Option::as_deref).collect();
        for (place, tensor) in live.iter().zip(inputs) {
            if let Some(slot) = all.get_mut(*place) {
                *slot = Some(*tensor);
            }
        }
        let outputs = (self.run)(&Call { node: &self.node, inputs: all, limits: &self.limits })?;
        let named = self.node.outputs.iter().zip(outputs).filter(|(name, _)| !name.is_empty());
        Ok(named.map(|(_, tensor)| tensor).collect())
    }
}

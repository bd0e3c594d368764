//! Nodes to operations.
//!
//! One pass over the straight list. A value may lie in several forms (rows or channels last, int8 shifted or not); a form is made when
//! a step asks for it. Dequantised values are not made at all unless a float operator asks: where every side of an
//! operator is quantised, the bytes are worked on directly, as ONNX Runtime does it, and the result is the same.
//!
//! | module | lowers |
//! |---|---|
//! | `forms` | values to buffers, conversions between forms |
//! | `quant` | QuantizeLinear and DequantizeLinear, and finds what is quantised on both sides |
//! | `conv` | convolutions |
//! | `fused` | products of matrices that lie transposed, scaled |
//! | `gates` | activations written as several nodes |
//! | `dynamic` | tensors quantised by the range they turn out to have, and products of them |
//! | `matmul` | matrix products |
//! | `pointwise` | element-wise operators and softmax |
//! | `movement` | operators that move elements |
//! | `pool` | pooling and resizing |
//! | `recurrent` | recurrent layers |
//! | `upsample` | transposed convolutions |

mod conv;
mod dynamic;
mod forms;
mod fused;
mod gates;
mod matmul;
mod movement;
mod pointwise;
mod pool;
mod quant;
mod recurrent;
mod upsample;

use super::{
    CompileError,
    straight::{Placed, Straight, Value, ValueId},
};
use crate::{
    datatype::Datatype,
    graph::Node,
    limits::ImportLimits,
    plan::{BufferId, Layout, Operation, Plan, Step},
    rules::View,
    single::Single,
    tensor::Tensor,
};
use forms::Form;
use quant::Lazy;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tract_onnx::pb::OperatorSetIdProto;

type Lowered<T> = Result<T, CompileError>;

/// Makes a plan of a straight list; buffers have no offsets yet.
///
/// # Errors
/// An operator is not supported, or cannot do what is asked of it.
pub(crate) fn lower(list: &Straight, opsets: &[OperatorSetIdProto], limits: &ImportLimits) -> Lowered<Plan> {
    let mut lower = Lower::new(list, opsets, limits);
    for id in &list.inputs {
        let form = Form::plain();
        let buffer = lower.make(*id, form);
        lower.plan.inputs.push(buffer);
    }
    for index in 0..list.nodes.len() {
        if !lower.claimed[index] {
            lower.node(index)?;
        }
    }
    for id in &list.outputs {
        let buffer = lower.want(*id, Form::plain())?;
        lower.plan.outputs.push(buffer);
    }
    Ok(lower.plan)
}

struct Lower<'a> {
    list: &'a Straight,
    opsets: &'a [OperatorSetIdProto],
    limits: &'a ImportLimits,
    /// For each value, the nodes that read it, once per place.
    readers: Vec<Vec<usize>>,
    /// For each value, the node that makes it.
    makers: Vec<Option<usize>>,
    /// Whether a value is answered.
    answered: Vec<bool>,
    /// Nodes that an earlier one has taken in.
    claimed: Vec<bool>,
    forms: HashMap<(ValueId, Form), BufferId>,
    lazy: HashMap<ValueId, Lazy>,
    /// Nodes that are lowered when something asks for what they make.
    deferred: HashSet<usize>,
    plan: Plan,
}

impl<'a> Lower<'a> {
    fn new(list: &'a Straight, opsets: &'a [OperatorSetIdProto], limits: &'a ImportLimits) -> Self {
        let mut readers = vec![Vec::new(); list.values.len()];
        let mut makers = vec![None; list.values.len()];
        for (index, placed) in list.nodes.iter().enumerate() {
            placed.inputs.iter().flatten().for_each(|id| readers[id.0].push(index));
            placed.outputs.iter().flatten().for_each(|id| makers[id.0] = Some(index));
        }
        let mut answered = vec![false; list.values.len()];
        list.outputs.iter().for_each(|id| answered[id.0] = true);
        let plan = Plan {
            buffers: Vec::new(),
            steps: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            arena_bytes: 0,
            outside: 0,
        };
        Self {
            list,
            opsets,
            limits,
            readers,
            makers,
            answered,
            claimed: vec![false; list.nodes.len()],
            forms: HashMap::new(),
            lazy: HashMap::new(),
            deferred: HashSet::new(),
            plan,
        }
    }

    fn value(&self, id: ValueId) -> &'a Value {
        &self.list.values[id.0]
    }

    fn shape(&self, id: ValueId) -> &'a [usize] {
        &self.list.values[id.0].shape
    }

    fn constant(&self, id: ValueId) -> Option<&'a Arc<Tensor>> {
        self.list.values[id.0].constant.as_ref()
    }

    fn placed(&self, index: usize) -> &'a Placed {
        &self.list.nodes[index]
    }

    /// The only node that reads a value, where the value is not answered.
    fn only_reader(&self, id: ValueId) -> Option<usize> {
        match self.readers[id.0].as_slice() {
            [one] if !self.answered[id.0] => Some(*one),
            _ => None,
        }
    }

    fn node(&mut self, index: usize) -> Lowered<()> {
        let placed = self.placed(index);
        let done = match placed.node.op.as_str() {
            "QuantizeLinear" | "com.microsoft.QuantizeLinear" => self.quantise(index)?,
            "DequantizeLinear" | "com.microsoft.DequantizeLinear" => self.dequantise(index)?,
            "DynamicQuantizeLinear" => self.dynamic_quantise(index)?,
            "ConvInteger" | "MatMulInteger" if self.dynamic_product(index)? => true,
            "com.microsoft.FusedMatMul" => self.fused_product(index)?,
            "Mul" if self.defer_scale(index) => true,
            "LSTM" | "GRU" | "RNN" | "com.microsoft.DynamicQuantizeLSTM" => self.recurrent(index)?,
            "Conv" | "QLinearConv" | "ConvInteger" => self.convolution(index)?,
            "ConvTranspose" => self.transposed_convolution(index)?,
            "Gemm" | "MatMul" | "QLinearMatMul" | "MatMulInteger" | "com.microsoft.QGemm" => {
                self.product(index)?
            }
            "Reshape"
            | "Flatten"
            | "Squeeze"
            | "Unsqueeze"
            | "Identity"
            | "Dropout"
            | "Transpose"
            | "Concat"
            | "com.microsoft.QLinearConcat" => self.movement(index)?,
            "MaxPool"
            | "AveragePool"
            | "GlobalAveragePool"
            | "com.microsoft.QLinearGlobalAveragePool"
            | "com.microsoft.QLinearAveragePool"
            | "Resize"
            | "Upsample" => self.pooling(index)?,
            _ => self.pointwise(index)?,
        };
        if done { Ok(()) } else { self.fall_back(index) }
    }

    /// Runs a node on its own, on rows.
    fn fall_back(&mut self, index: usize) -> Lowered<()> {
        let placed = self.placed(index);
        let views: Vec<Option<View>> = placed.inputs.iter().map(|id| id.map(|id| self.view(id))).collect();
        let single = match &placed.single {
            Some(single) => Arc::clone(single),
            None => Arc::new(Single::compile(&placed.node, self.opsets, &views, self.limits)?),
        };
        self.check_types(placed, &single)?;
        let mut inputs = Vec::new();
        for place in single.live() {
            if let Some(id) = placed.inputs[*place] {
                inputs.push(self.want(id, Form::plain())?);
            }
        }
        let outputs = placed.outputs.iter().flatten().map(|id| self.make(*id, Form::plain())).collect();
        self.emit(Operation::Single(single), inputs, outputs, &placed.node);
        Ok(())
    }

    /// It must make what the rules say: a step writes into buffers of those sizes.
    fn check_types(&self, placed: &Placed, single: &Single) -> Lowered<()> {
        let expected: Vec<(Datatype, Vec<usize>)> = placed
            .outputs
            .iter()
            .flatten()
            .map(|id| (self.value(*id).datatype, self.shape(*id).to_vec()))
            .collect();
        if single.makes(&expected) {
            return Ok(());
        }
        let found = single.types();
        let why = format!("{}: makes {found:?}, expected {expected:?}", placed.node.describe());
        Err(CompileError::failed(why))
    }

    fn view(&self, id: ValueId) -> View {
        let value = self.value(id);
        let dequantised = || self.as_weights(id)?.to_floats(self).ok().map(Arc::new);
        let constant = value.constant.clone().or_else(dequantised);
        View { datatype: value.datatype, shape: value.shape.clone(), constant }
    }

    fn emit(&mut self, operation: Operation, inputs: Vec<BufferId>, outputs: Vec<BufferId>, node: &Node) {
        let operators = vec![node.op.clone()];
        self.plan.steps.push(Step { operation, inputs, outputs, name: node.title().to_owned(), operators });
    }

    /// Adds the operators of nodes that the last step has taken in, and marks these.
    fn claim(&mut self, nodes: &[usize]) {
        for index in nodes {
            self.claimed[*index] = true;
            let op = self.placed(*index).node.op.clone();
            if let Some(step) = self.plan.steps.last_mut() {
                step.operators.push(op);
            }
        }
    }

    /// The layout in which a value lies already, channels last where it lies in both.
    fn layout_of(&self, id: ValueId) -> Layout {
        let id = match self.lazy.get(&id) {
            Some(Lazy::Bytes { q, .. }) => *q,
            _ => id,
        };
        let has = |shifted| self.forms.contains_key(&(id, Form { layout: Layout::ChannelsLast, shifted }));
        if has(true) || has(false) { Layout::ChannelsLast } else { Layout::Rows }
    }
}

/// The first input's id.
fn input(placed: &Placed, index: usize) -> Option<ValueId> {
    placed.inputs.get(index).copied().flatten()
}

/// The only output's id.
fn output(placed: &Placed) -> Option<ValueId> {
    placed.outputs.first().copied().flatten()
}

//! One operator on its own, for what the plan has no kernel for and for constants: by tract, or by a plain implementation here.

use crate::{
    compile::CompileError, datatype::Datatype, graph::Node, limits::ImportLimits, reference, rules::Views,
    tensor::Tensor, tract,
};
use std::{fmt, sync::Arc};
use tract_onnx::pb::OperatorSetIdProto;

/// How often constant inputs are in memory while a node is made ready: of these, two stay.
pub(crate) const CONSTANT_COPIES: u64 = 5;

/// A node made ready for inputs of fixed types and shapes.
pub struct Single {
    how: How,
    /// Places among the node's inputs of those that a run gives.
    live: Vec<usize>,
    /// Their types and shapes.
    live_types: Vec<(Datatype, Vec<usize>)>,
    /// Of its constant inputs.
    constant_bytes: u64,
}

enum How {
    Tract(tract::Compiled),
    Reference(reference::Bound),
}

impl fmt::Debug for Single {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a node of {} live inputs, run on its own", self.live.len())
    }
}

impl Single {
    /// Makes a node ready.
    ///
    /// # Errors
    /// Nothing knows the operator, or it cannot do what is asked of it.
    pub(crate) fn compile(
        node: &Arc<Node>,
        opsets: &[OperatorSetIdProto],
        inputs: &Views,
        limits: &ImportLimits,
    ) -> Result<Self, CompileError> {
        let constants = inputs.iter().flatten().filter_map(|view| view.constant.as_ref());
        let constant_bytes: u64 = constants.map(|tensor| tensor.memory_bytes() as u64).sum();
        limits.check_memory(constant_bytes.saturating_mul(CONSTANT_COPIES))?;
        let how = match reference::preferred(node, inputs) {
            Some(run) => How::Reference(reference::Bound::new(node, run, inputs, limits)),
            None => match tract::Compiled::compile(node, opsets, inputs, limits) {
                Ok(compiled) => How::Tract(compiled),
                Err(error) => {
                    let run = reference::otherwise(node).ok_or(error)?;
                    How::Reference(reference::Bound::new(node, run, inputs, limits))
                }
            },
        };
        let places = inputs.iter().enumerate();
        let live: Vec<usize> = places
            .filter_map(|(index, view)| view.as_ref().filter(|v| v.constant.is_none()).map(|_| index))
            .collect();
        let views = live.iter().filter_map(|index| inputs[*index].as_ref());
        let live_types = views.map(|view| (view.datatype, view.shape.clone())).collect();
        Ok(Self { how, live, live_types, constant_bytes })
    }

    /// Types and shapes of its outputs, where they are known before a run.
    pub(crate) fn types(&self) -> Option<Vec<(Datatype, Vec<usize>)>> {
        match &self.how {
            How::Tract(compiled) => compiled.types(),
            How::Reference(_) => None,
        }
    }

    /// Whether it makes what the rules say, as far as can be told before a run.
    pub(crate) fn makes(&self, types: &[(Datatype, Vec<usize>)]) -> bool {
        match &self.how {
            How::Tract(compiled) => compiled.types().as_deref() == Some(types),
            // The rules are of the same hand; a run compares.
            How::Reference(_) => true,
        }
    }

    /// Multiplications with accumulation, where that can be told.
    pub(crate) fn macs(&self) -> u64 {
        match &self.how {
            How::Tract(compiled) => compiled.macs(),
            How::Reference(_) => 0,
        }
    }

    /// Bytes of its constant inputs, which it holds.
    pub(crate) const fn constant_bytes(&self) -> u64 {
        self.constant_bytes
    }

    /// Who runs it: `tract`, or `reference` for a plain implementation here.
    #[must_use]
    pub const fn runner(&self) -> &'static str {
        match &self.how {
            How::Tract(_) => "tract",
            How::Reference(_) => "reference",
        }
    }

    /// Places among the node's inputs of those that [`Single::run`] is given.
    #[must_use]
    pub fn live(&self) -> &[usize] {
        &self.live
    }

    /// Types and shapes of what [`Single::run`] is given.
    #[must_use]
    pub fn live_types(&self) -> &[(Datatype, Vec<usize>)] {
        &self.live_types
    }

    /// Runs it on its live inputs, in order of their places. The outputs are those that the node names.
    ///
    /// # Errors
    /// What is wrong, in the words of whoever ran it.
    pub fn run(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, String> {
        match &self.how {
            How::Tract(compiled) => compiled.run(inputs),
            How::Reference(bound) => bound.run(&self.live, inputs),
        }
    }
}

//! Calls of implementations, for their tests.

use super::{
    Run,
    call::{Answer, Call},
};
use crate::{
    graph::{Attributes, Node, Value},
    limits::ImportLimits,
    tensor::Tensor,
};
use std::collections::HashMap;

/// What an implementation answers for a node of operator set 24 with these attributes and inputs.
pub(super) fn run(op: Run, attributes: &[(&str, Value)], inputs: &[&Tensor]) -> Answer {
    let mut own = Attributes::default();
    attributes.iter().for_each(|(name, value)| own.insert((*name).to_owned(), value.clone()));
    let node = Node {
        op: String::new(),
        version: 24,
        name: String::new(),
        inputs: vec![],
        outputs: vec![],
        attributes: own,
        graphs: HashMap::new(),
        proto: tract_onnx::pb::NodeProto::default(),
    };
    let inputs = inputs.iter().map(|tensor| Some(*tensor)).collect();
    op(&Call { node: &node, inputs, limits: &ImportLimits::default() })
}

pub(super) fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_values(shape.to_vec(), values).expect("valid")
}

pub(super) fn int64s(values: &[i64]) -> Tensor {
    Tensor::from_values(vec![values.len()], values).expect("valid")
}

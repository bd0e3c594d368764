//! Small ONNX files, written by hand.
#![allow(dead_code, reason = "each test binary uses its own part")]

use prost::Message;
use std::sync::Arc;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_shape_proto::{Dimension, dimension::Value},
    type_proto,
};
use whimbrel_infer::{LoadError, LoadOptions, Model, tract};

pub(crate) const FLOAT: i32 = 1;
pub(crate) const INT64: i32 = 7;

/// A size: fixed, or named.
pub(crate) enum Size {
    Fixed(i64),
    Named(&'static str),
}

pub(crate) fn value(name: &str, elem_type: i32, sizes: &[Size]) -> ValueInfoProto {
    let dim = |size: &Size| Dimension {
        denotation: String::new(),
        value: Some(match size {
            Size::Fixed(n) => Value::DimValue(*n),
            Size::Named(name) => Value::DimParam((*name).to_owned()),
        }),
    };
    let shape = TensorShapeProto { dim: sizes.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type, shape: Some(shape) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            denotation: String::new(),
            value: Some(type_proto::Value::TensorType(tensor)),
        }),
        doc_string: String::new(),
    }
}

pub(crate) fn fixed(name: &str, elem_type: i32, sizes: &[i64]) -> ValueInfoProto {
    value(name, elem_type, &sizes.iter().map(|n| Size::Fixed(*n)).collect::<Vec<_>>())
}

pub(crate) fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        name: format!("{op}_{}", outputs.first().unwrap_or(&"")),
        input: inputs.iter().map(|s| (*s).to_owned()).collect(),
        output: outputs.iter().map(|s| (*s).to_owned()).collect(),
        ..NodeProto::default()
    }
}

pub(crate) fn tensor_attribute(name: &str, tensor: TensorProto) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Tensor as i32,
        t: Some(tensor),
        ..AttributeProto::default()
    }
}

pub(crate) fn floats(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: FLOAT,
        float_data: data.to_vec(),
        ..TensorProto::default()
    }
}

pub(crate) fn int64s(name: &str, data: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: vec![data.len() as i64],
        data_type: INT64,
        int64_data: data.to_vec(),
        ..TensorProto::default()
    }
}

pub(crate) fn graph(
    inputs: Vec<ValueInfoProto>,
    initializer: Vec<TensorProto>,
    nodes: Vec<NodeProto>,
    outputs: Vec<ValueInfoProto>,
) -> GraphProto {
    GraphProto {
        name: "g".into(),
        input: inputs,
        initializer,
        node: nodes,
        output: outputs,
        ..GraphProto::default()
    }
}

pub(crate) fn onnx(graph: GraphProto) -> Vec<u8> {
    let opset = OperatorSetIdProto { domain: String::new(), version: 13 };
    ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..ModelProto::default() }
        .encode_to_vec()
}

pub(crate) fn load(onnx: &[u8]) -> Result<Arc<dyn Model>, LoadError> {
    tract().load(onnx, &LoadOptions::default())
}

/// Why a graph was not loaded.
pub(crate) fn refusal(graph: GraphProto) -> LoadError {
    load(&onnx(graph)).err().expect("must be refused")
}

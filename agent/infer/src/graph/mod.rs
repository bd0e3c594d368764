//! An ONNX file as a graph: nodes in the file's order, constants as tensors, nothing inferred yet.
//!
//! | module | holds |
//! |---|---|
//! | `attributes` | what a node is told besides its inputs |
//! | `decode` | protobuf messages to these types |
//! | `microsoft` | fused operators of Microsoft's domain, as what they stand for |

mod attributes;
mod decode;
mod microsoft;

pub(crate) use attributes::Attributes;
#[cfg(test)]
pub(crate) use attributes::Value;
pub(crate) use decode::{datatype_of_number, decode};

use crate::{backend::TensorInfo, datatype::Datatype, tensor::Tensor};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tract_onnx::pb::{NodeProto, OperatorSetIdProto};

/// A whole file.
#[derive(Debug)]
pub(crate) struct Model {
    /// The graph that a run evaluates.
    pub(crate) graph: Graph,
    /// Operator sets that the file names.
    pub(crate) opsets: Vec<OperatorSetIdProto>,
    /// What a caller gives, in the file's order.
    pub(crate) inputs: Vec<TensorInfo>,
    /// For each input, the name of each size that must be the same wherever the name stands.
    pub(crate) symbols: Vec<Vec<Option<String>>>,
    /// What the file says about its outputs: the shape may be wrong or absent.
    pub(crate) outputs: Vec<DeclaredOutput>,
}

/// What the file says about an output.
#[derive(Debug)]
pub(crate) struct DeclaredOutput {
    /// Its name.
    pub(crate) name: String,
    /// Its element type, where the file declares one that is known here.
    pub(crate) datatype: Option<Datatype>,
    /// Sizes that the file fixes, where it declares a shape.
    pub(crate) shape: Option<Vec<Option<usize>>>,
}

/// A graph, or one inside a node.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// In an order in which every value is made before it is read.
    pub(crate) nodes: Vec<Arc<Node>>,
    /// Constants by name.
    pub(crate) constants: HashMap<String, Arc<Tensor>>,
    /// Names of what is given to it.
    pub(crate) inputs: Vec<String>,
    /// Names of what it answers.
    pub(crate) outputs: Vec<String>,
}

impl Graph {
    /// Nodes, those of inner graphs included.
    pub(crate) fn node_count(&self) -> u64 {
        let inner = self.nodes.iter().flat_map(|node| node.graphs.values()).map(Self::node_count);
        inner.sum::<u64>() + self.nodes.len() as u64
    }

    /// Bytes of constants in memory and, large ones, in the file.
    pub(crate) fn constant_bytes(&self) -> [u64; 2] {
        let inner = self.nodes.iter().flat_map(|node| node.graphs.values()).map(Self::constant_bytes);
        inner
            .chain(self.constants.values().map(|tensor| {
                let bytes = tensor.memory_bytes() as u64;
                if tensor.is_away() { [0, bytes] } else { [bytes, 0] }
            }))
            .fold([0u64; 2], |sum, more| [sum[0].saturating_add(more[0]), sum[1].saturating_add(more[1])])
    }

    /// Names that it reads and nothing in it makes: those of the graph around it.
    pub(crate) fn free_names(&self) -> Vec<&str> {
        let mut own: HashSet<&str> = self.inputs.iter().map(String::as_str).collect();
        own.extend(self.constants.keys().map(String::as_str));
        own.extend(self.nodes.iter().flat_map(|node| node.outputs.iter().map(String::as_str)));
        let mut names: Vec<&str> = self.nodes.iter().flat_map(|node| node.reads()).collect();
        names.extend(self.outputs.iter().map(String::as_str));
        names.retain(|name| !own.contains(name));
        names
    }
}

/// One use of an operator.
#[derive(Debug)]
pub(crate) struct Node {
    /// The operator: `Conv`, or `com.microsoft.QLinearAdd` outside ONNX's own domain.
    pub(crate) op: String,
    /// The version of its operator set.
    pub(crate) version: i64,
    /// Its name in the file, for people.
    pub(crate) name: String,
    /// Names of the values it reads; empty where an optional one is absent.
    pub(crate) inputs: Vec<String>,
    /// Names of the values it makes; empty where nobody asks for one.
    pub(crate) outputs: Vec<String>,
    /// Its attributes but for graphs.
    pub(crate) attributes: Attributes,
    /// Its graphs, by attribute name.
    pub(crate) graphs: HashMap<String, Graph>,
    /// As the file has it, without its graphs: for operators that another library evaluates.
    pub(crate) proto: NodeProto,
}

impl Node {
    /// What it reads of the graph that it stands in: its inputs, and what its own graphs read from outside.
    pub(crate) fn reads(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.inputs.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        self.graphs.values().for_each(|graph| names.extend(graph.free_names()));
        names
    }

    /// Its name, or that of the first value it makes where the file gives it none.
    pub(crate) fn title(&self) -> &str {
        let made = || self.outputs.iter().find(|name| !name.is_empty()).map_or("", String::as_str);
        if self.name.is_empty() { made() } else { &self.name }
    }

    /// The operator and the node's name, for messages.
    pub(crate) fn describe(&self) -> String {
        format!("{} (node {:?})", self.op, crate::tract::one_line(&self.name))
    }
}

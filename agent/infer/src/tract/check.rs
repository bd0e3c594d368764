//! What the decoded file declares, against the limits and a backend's operators.

use super::{guard::one_line, skeleton::StoredData};
use crate::{error::LoadError, limits::ImportLimits};
use std::collections::HashSet;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto,
    tensor_proto::{DataLocation, DataType},
};

/// Checks everything that is declared, before tract makes anything of it. `stored` says where raw data lies that was not decoded.
///
/// # Errors
/// Something is beyond the limits, contradicts itself, lies in another file, or is not supported.
pub(crate) fn check(
    model: &ModelProto,
    stored: &StoredData,
    knows: &dyn Fn(&NodeProto) -> bool,
    backend: &'static str,
    limits: &ImportLimits,
) -> Result<(), LoadError> {
    let graph = model.graph.as_ref().ok_or_else(|| malformed("it holds no graph"))?;
    let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let inputs = graph.input.iter().filter(|input| !constants.contains(input.name.as_str())).count();
    at_most("the number of inputs", inputs, limits.tensors_max)?;
    at_most("the number of outputs", graph.output.len(), limits.tensors_max)?;
    if graph.output.is_empty() {
        return Err(malformed("its graph has no output"));
    }
    let mut walk = Walk { knows, backend, limits, nodes: 0 };
    walk.graph(graph, stored)
}

fn malformed(why: &str) -> LoadError {
    LoadError::Malformed { why: why.to_owned() }
}

fn at_most(what: &str, found: usize, max: usize) -> Result<(), LoadError> {
    if found > max {
        return Err(LoadError::TooLarge { what: what.to_owned(), found: found.to_string(), max });
    }
    Ok(())
}

struct Walk<'a> {
    knows: &'a dyn Fn(&NodeProto) -> bool,
    backend: &'static str,
    limits: &'a ImportLimits,
    nodes: usize,
}

impl Walk<'_> {
    fn graph(&mut self, graph: &GraphProto, stored: &StoredData) -> Result<(), LoadError> {
        self.nodes += graph.node.len();
        at_most("the number of nodes", self.nodes, self.limits.nodes_max)?;
        if let Some(sparse) = graph.sparse_initializer.first() {
            let name = sparse.values.as_ref().map_or("", |values| values.name.as_str());
            return Err(LoadError::UnsupportedDatatype { tensor: one_line(name), datatype: "sparse".into() });
        }
        for (index, tensor) in graph.initializer.iter().enumerate() {
            let elsewhere = stored.get(&index).map_or(0, |range| range.end - range.start);
            self.tensor(tensor, usize::try_from(elsewhere).unwrap_or(usize::MAX))?;
        }
        graph.node.iter().try_for_each(|node| self.node(node))
    }

    fn node(&mut self, node: &NodeProto) -> Result<(), LoadError> {
        if !(self.knows)(node) {
            let domain = if node.domain.is_empty() { String::new() } else { format!("{}.", node.domain) };
            return Err(LoadError::UnsupportedOperator {
                operator: one_line(&format!("{domain}{}", node.op_type)),
                node: one_line(&node.name),
                backend: self.backend,
            });
        }
        node.attribute.iter().try_for_each(|attribute| self.attribute(attribute))
    }

    fn attribute(&mut self, attribute: &AttributeProto) -> Result<(), LoadError> {
        attribute.t.iter().chain(&attribute.tensors).try_for_each(|tensor| self.tensor(tensor, 0))?;
        attribute
            .g
            .iter()
            .chain(&attribute.graphs)
            .try_for_each(|graph| self.graph(graph, &StoredData::new()))
    }

    /// `elsewhere` bytes of the tensor's raw data were not decoded.
    fn tensor(&self, tensor: &TensorProto, elsewhere: usize) -> Result<(), LoadError> {
        let name = || one_line(&tensor.name);
        if tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty() {
            return Err(LoadError::ExternalData { tensor: name() });
        }
        at_most(&format!("the rank of tensor {:?}", name()), tensor.dims.len(), self.limits.rank_max)?;
        let count = tensor
            .dims
            .iter()
            .try_fold(1usize, |n, d| usize::try_from(*d).ok().and_then(|d| n.checked_mul(d)))
            .filter(|n| *n <= self.limits.tensor_elements_max)
            .ok_or_else(|| LoadError::TooLarge {
                what: format!("the number of elements of tensor {:?}", name()),
                found: one_line(&format!("{:?}", tensor.dims)),
                max: self.limits.tensor_elements_max,
            })?;
        let held = elements_held(tensor, elsewhere)?;
        if held == count {
            return Ok(());
        }
        Err(LoadError::Malformed {
            why: format!("tensor {:?} declares {count} elements and holds {held}", name()),
        })
    }
}

/// How many elements the file really holds for a tensor.
fn elements_held(tensor: &TensorProto, elsewhere: usize) -> Result<usize, LoadError> {
    let unsupported =
        |datatype: String| LoadError::UnsupportedDatatype { tensor: one_line(&tensor.name), datatype };
    let datatype =
        DataType::try_from(tensor.data_type).map_err(|_| unsupported(tensor.data_type.to_string()))?;
    let (size, typed) = match datatype {
        DataType::Float => (4, tensor.float_data.len()),
        DataType::Double => (8, tensor.double_data.len()),
        DataType::Int64 => (8, tensor.int64_data.len()),
        // tract looks for unsigned 64-bit values among the signed ones.
        DataType::Uint64 => (8, tensor.int64_data.len().max(tensor.uint64_data.len())),
        DataType::Uint32 => (4, tensor.int32_data.len().max(tensor.uint64_data.len())),
        DataType::Int32 => (4, tensor.int32_data.len()),
        DataType::Int16 | DataType::Uint16 | DataType::Float16 => (2, tensor.int32_data.len()),
        DataType::Int8 | DataType::Uint8 | DataType::Bool => (1, tensor.int32_data.len()),
        DataType::String => return Ok(tensor.string_data.len()),
        other => return Err(unsupported(other.as_str_name().to_owned())),
    };
    let raw = tensor.raw_data.len().max(elsewhere);
    if raw == 0 {
        return Ok(typed);
    }
    if raw.is_multiple_of(size) {
        Ok(raw / size)
    } else {
        Err(LoadError::Malformed {
            why: format!("tensor {:?} ends within an element", one_line(&tensor.name)),
        })
    }
}

//! Protobuf messages to a graph. What they declare was checked before; large data is moved, not copied.

use super::{Attributes, DeclaredOutput, Graph, Model, Node, attributes::Value};
use crate::{
    datatype::{Datatype, Element},
    error::LoadError,
    source::Source,
    tensor::Tensor,
    tract::{File, StoredData, declared_type, one_line},
};
use half::f16;
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};
use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
    attribute_proto::AttributeType, tensor_proto::DataType, tensor_shape_proto::dimension,
};

/// Makes a model of a checked file. Its large weights stay in the source.
///
/// # Errors
/// Nodes read what nothing makes, or form a cycle; a tensor's data cannot be read.
pub(crate) fn decode(file: File, source: &Source) -> Result<Model, LoadError> {
    let File { proto, stored, inputs, symbols } = file;
    let opsets = proto.opset_import;
    let graph = proto.graph.unwrap_or_default();
    let outputs = graph.output.iter().map(declared_output).collect();
    let versions = Versions::of(&opsets);
    let mut graph = decode_graph(graph, &versions, (source, stored))?;
    graph.inputs = inputs.iter().map(|info| info.name.clone()).collect();
    graph.nodes = sorted(graph.nodes, &graph.inputs, &graph.constants)?;
    Ok(Model { graph, opsets, inputs, symbols, outputs })
}

struct Versions(HashMap<String, i64>);

impl Versions {
    fn of(opsets: &[OperatorSetIdProto]) -> Self {
        Self(opsets.iter().map(|set| (plain_domain(&set.domain).to_owned(), set.version)).collect())
    }

    fn of_domain(&self, domain: &str) -> i64 {
        self.0.get(plain_domain(domain)).copied().unwrap_or(1)
    }
}

/// ONNX's own domain has two spellings.
fn plain_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

fn declared_output(output: &ValueInfoProto) -> DeclaredOutput {
    let size = |dim: &tract_onnx::pb::tensor_shape_proto::Dimension| match &dim.value {
        Some(dimension::Value::DimValue(v)) if *v > 0 => usize::try_from(*v).ok(),
        _ => None,
    };
    let (datatype, shape) = declared_type(output.r#type.as_ref())
        .map_or((None, None), |(datatype, tensor)| (Some(datatype), tensor.shape.as_ref()));
    let shape = shape.map(|shape| shape.dim.iter().map(size).collect());
    DeclaredOutput { name: output.name.clone(), datatype, shape }
}

fn decode_graph(
    proto: GraphProto,
    versions: &Versions,
    (source, mut stored): (&Source, StoredData),
) -> Result<Graph, LoadError> {
    let mut graph = Graph {
        inputs: proto.input.into_iter().map(|input| input.name).collect(),
        outputs: proto.output.into_iter().map(|output| output.name).collect(),
        ..Graph::default()
    };
    for (index, tensor) in proto.initializer.into_iter().enumerate() {
        let name = tensor.name.clone();
        let elsewhere = stored.remove(&index).map(|range| (source, range));
        graph.constants.insert(name, Arc::new(decode_tensor(tensor, elsewhere)?));
    }
    for node in proto.node.into_iter().flat_map(super::microsoft::expand) {
        graph.nodes.push(Arc::new(decode_node(node, versions, source)?));
    }
    Ok(graph)
}

fn decode_node(mut proto: NodeProto, versions: &Versions, source: &Source) -> Result<Node, LoadError> {
    let domain = plain_domain(&proto.domain);
    let op = if domain.is_empty() { proto.op_type.clone() } else { format!("{domain}.{}", proto.op_type) };
    let mut node = Node {
        op,
        version: versions.of_domain(domain),
        name: proto.name.clone(),
        inputs: proto.input.clone(),
        outputs: proto.output.clone(),
        attributes: Attributes::default(),
        graphs: HashMap::new(),
        proto: NodeProto::default(),
    };
    check_target(&proto)?;
    for attribute in &mut proto.attribute {
        if let Some(graph) = attribute.g.take() {
            node.graphs
                .insert(attribute.name.clone(), decode_graph(graph, versions, (source, StoredData::new()))?);
        } else if let Some(value) = decode_attribute(attribute)? {
            node.attributes.insert(attribute.name.clone(), value);
        }
    }
    node.proto = proto;
    Ok(node)
}

/// Refuses conversions to element types that are not supported.
fn check_target(proto: &NodeProto) -> Result<(), LoadError> {
    let target =
        proto.attribute.iter().find(|a| matches!(a.name.as_str(), "to" | "output_dtype") && a.i != 0);
    let Some(number) = target.and_then(|a| i32::try_from(a.i).ok()) else { return Ok(()) };
    if datatype_of_number(number).is_some() {
        return Ok(());
    }
    let named = DataType::try_from(number).map(|onnx| onnx.as_str_name().to_owned());
    Err(LoadError::UnsupportedDatatype {
        tensor: one_line(proto.output.first().map_or("", String::as_str)),
        datatype: named.unwrap_or_else(|_| number.to_string()),
    })
}

fn decode_attribute(attribute: &AttributeProto) -> Result<Option<Value>, LoadError> {
    let a = attribute;
    Ok(match AttributeType::try_from(a.r#type) {
        Ok(AttributeType::Int) => Some(Value::Int(a.i)),
        Ok(AttributeType::Float) => Some(Value::Float(a.f)),
        Ok(AttributeType::String) => Some(Value::Text(a.s.clone())),
        Ok(AttributeType::Ints) => Some(Value::Ints(a.ints.clone())),
        Ok(AttributeType::Floats) => Some(Value::Floats(a.floats.clone())),
        Ok(AttributeType::Strings) => Some(Value::Texts(a.strings.clone())),
        Ok(AttributeType::Tensor) => match &a.t {
            Some(tensor) => Some(Value::Tensor(Arc::new(decode_tensor(tensor.clone(), None)?))),
            None => None,
        },
        _ => None,
    })
}

/// A tensor's elements, wherever the file keeps them; `elsewhere` is where its raw data lies, if it was not decoded.
fn decode_tensor(tensor: TensorProto, elsewhere: Option<(&Source, Range<u64>)>) -> Result<Tensor, LoadError> {
    let name = one_line(&tensor.name);
    let unsupported = |datatype: String| LoadError::UnsupportedDatatype { tensor: name.clone(), datatype };
    let onnx = DataType::try_from(tensor.data_type).map_err(|_| unsupported(tensor.data_type.to_string()))?;
    let datatype = datatype_of(onnx).ok_or_else(|| unsupported(onnx.as_str_name().to_owned()))?;
    let shape: Vec<usize> = tensor.dims.iter().map(|d| usize::try_from(*d).unwrap_or(0)).collect();
    let mut raw = tensor.raw_data;
    if let Some((source, range)) = elsewhere {
        if !matches!(datatype, Datatype::Bytes | Datatype::Bool) {
            let made = Tensor::stored(datatype, shape, source, range);
            return made.map_err(|e| LoadError::Malformed { why: format!("tensor {name:?}: {e}") });
        }
        raw = source.bytes(&range).map_err(|source| LoadError::Read { path: "the model".into(), source })?;
    }
    let tensor = TensorProto { raw_data: raw, ..tensor };
    let made = if datatype == Datatype::Bytes {
        Tensor::from_strings(shape, tensor.string_data)
    } else if tensor.raw_data.is_empty() {
        Tensor::from_le_bytes(datatype, shape, typed_bytes(datatype, &tensor))
    } else {
        let mut bytes = tensor.raw_data;
        if datatype == Datatype::Bool {
            bytes.iter_mut().for_each(|b| *b = u8::from(*b != 0));
        }
        Tensor::from_le_bytes(datatype, shape, bytes)
    };
    made.map_err(|e| LoadError::Malformed { why: format!("tensor {name:?}: {e}") })
}

/// The element type of that name in ONNX; `None` for those that are not supported.
const fn datatype_of(onnx: DataType) -> Option<Datatype> {
    Some(match onnx {
        DataType::Float => Datatype::Fp32,
        DataType::Uint8 => Datatype::Uint8,
        DataType::Int8 => Datatype::Int8,
        DataType::Uint16 => Datatype::Uint16,
        DataType::Int16 => Datatype::Int16,
        DataType::Int32 => Datatype::Int32,
        DataType::Int64 => Datatype::Int64,
        DataType::String => Datatype::Bytes,
        DataType::Bool => Datatype::Bool,
        DataType::Float16 => Datatype::Fp16,
        DataType::Double => Datatype::Fp64,
        DataType::Uint32 => Datatype::Uint32,
        DataType::Uint64 => Datatype::Uint64,
        _ => return None,
    })
}

/// Elements from the typed fields. Narrow integers, halves (by their bits) and truth values lie in the 32-bit field.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the format widens what it stores"
)]
fn typed_bytes(datatype: Datatype, tensor: &TensorProto) -> Vec<u8> {
    fn all<S: Copy, T: Element>(values: &[S], narrow: impl Fn(S) -> T) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(values.len() * T::SIZE_BYTES);
        values.iter().for_each(|value| narrow(*value).write_le(&mut bytes));
        bytes
    }
    let ints = &tensor.int32_data[..];
    match datatype {
        Datatype::Fp32 => all(&tensor.float_data, |v| v),
        Datatype::Fp64 => all(&tensor.double_data, |v| v),
        Datatype::Int64 => all(&tensor.int64_data, |v| v),
        Datatype::Uint64 if tensor.uint64_data.is_empty() => all(&tensor.int64_data, |v| v as u64),
        Datatype::Uint64 => all(&tensor.uint64_data, |v| v),
        Datatype::Uint32 if tensor.uint64_data.is_empty() => all(ints, |v| v as u32),
        Datatype::Uint32 => all(&tensor.uint64_data, |v| v as u32),
        Datatype::Int32 => all(ints, |v| v),
        Datatype::Int16 => all(ints, |v| v as i16),
        Datatype::Uint16 => all(ints, |v| v as u16),
        Datatype::Fp16 => all(ints, |v| f16::from_bits(v as u16)),
        Datatype::Int8 => all(ints, |v| v as i8),
        Datatype::Uint8 => all(ints, |v| v as u8),
        Datatype::Bool => all(ints, |v| v != 0),
        Datatype::Bytes => Vec::new(),
    }
}

/// The nodes in an order in which each comes after what it reads. Most files have that order already, and keep theirs.
///
/// # Errors
/// Nodes read what nothing makes, or what they make themselves.
fn sorted(
    nodes: Vec<Arc<Node>>,
    inputs: &[String],
    constants: &HashMap<String, Arc<Tensor>>,
) -> Result<Vec<Arc<Node>>, LoadError> {
    let mut ready: HashSet<&str> = inputs.iter().map(String::as_str).collect();
    ready.extend(constants.keys().map(String::as_str));
    let mut waiting: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut missing = vec![0usize; nodes.len()];
    let mut order = Vec::with_capacity(nodes.len());
    let makers: HashSet<&str> = nodes.iter().flat_map(|n| n.outputs.iter().map(String::as_str)).collect();
    for (index, node) in nodes.iter().enumerate() {
        let needs: HashSet<&str> = node.reads().into_iter().filter(|n| !ready.contains(n)).collect();
        if let Some(absent) = needs.iter().find(|name| !makers.contains(*name)) {
            let why = format!("{} reads {:?}, which nothing makes", node.describe(), one_line(absent));
            return Err(LoadError::Malformed { why });
        }
        missing[index] = needs.len();
        needs.into_iter().for_each(|name| waiting.entry(name).or_default().push(index));
    }
    let mut next: std::collections::BTreeSet<usize> =
        missing.iter().enumerate().filter(|(_, n)| **n == 0).map(|(i, _)| i).collect();
    while let Some(index) = next.pop_first() {
        order.push(index);
        for output in nodes[index].outputs.iter().filter(|name| !name.is_empty()) {
            for reader in waiting.remove(output.as_str()).unwrap_or_default() {
                missing[reader] -= 1;
                if missing[reader] == 0 {
                    next.insert(reader);
                }
            }
        }
    }
    if order.len() < nodes.len() {
        let stuck = missing.iter().position(|n| *n > 0).map_or_else(String::new, |i| nodes[i].describe());
        return Err(LoadError::Malformed { why: format!("nodes wait for each other, {stuck} among them") });
    }
    Ok(order.into_iter().map(|index| Arc::clone(&nodes[index])).collect())
}

/// The element type of that number in ONNX.
pub(crate) fn datatype_of_number(onnx: i32) -> Option<Datatype> {
    DataType::try_from(onnx).ok().and_then(datatype_of)
}

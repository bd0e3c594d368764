//! The file as a template, from which plans for concrete shapes are made.

use super::{
    check, convert,
    guard::{guarded, one_line},
    plan::{self, Plan},
    scan, skeleton,
    skeleton::StoredData,
};
use crate::{
    backend::TensorInfo, datatype::Datatype, error::LoadError, limits::ImportLimits, source::Source,
};
use std::collections::HashSet;
use tract_onnx::{
    model::ParseResult,
    pb::{
        GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, tensor_shape_proto::dimension::Value,
    },
    prelude::{Framework, InferenceModel},
    tract_hir::internal::bail,
};

/// What tract takes for each weight while it makes a plan: floats, whatever they were, in the graph, as optimised, and packed.
const WEIGHT_BYTES: u64 = 3 * 4;

/// A parsed file, and its plan for the smallest shapes it takes.
pub(crate) struct Template {
    /// The graph without any inference, to make plans from.
    pub(crate) graph: InferenceModel,
    /// What it reads.
    pub(crate) inputs: Vec<TensorInfo>,
    /// What it answers.
    pub(crate) outputs: Vec<TensorInfo>,
    /// For each input, the name of each size that must be the same wherever the name stands.
    pub(crate) symbols: Vec<Vec<Option<String>>>,
    /// The plan in which every free size is 1.
    pub(crate) plan: Plan,
    /// What it was imported under.
    pub(crate) limits: ImportLimits,
}

/// Checks a file and imports it.
///
/// # Errors
/// See [`LoadError`].
pub(crate) fn import(onnx: &[u8], limits: &ImportLimits) -> Result<Template, LoadError> {
    let framework = tract_onnx::onnx();
    let proto = read(&framework, onnx, limits)?;
    let knows = |node: &NodeProto| framework.op_register.0.contains_key(&node.op_type);
    check::check(&proto, &StoredData::new(), &knows, "tract", limits)?;
    let graph =
        proto.graph.as_ref().ok_or_else(|| LoadError::Malformed { why: "it holds no graph".into() })?;
    let elements = |tensor: &TensorProto| {
        tensor.dims.iter().try_fold(1u64, |n, d| n.checked_mul(u64::try_from(*d).ok()?)).unwrap_or(u64::MAX)
    };
    let weights = graph.initializer.iter().map(elements).fold(0u64, u64::saturating_add);
    let file = (onnx.len() as u64).saturating_mul(2);
    super::reserve(file.saturating_add(weights.saturating_mul(WEIGHT_BYTES)), limits)?;
    let (inputs, symbols) = declared_inputs(graph, limits)?;
    let sizes: Vec<Vec<usize>> =
        inputs.iter().map(|info| info.shape.iter().map(|d| d.unwrap_or(1)).collect()).collect();
    let shapes: Vec<(Datatype, &[usize])> =
        inputs.iter().zip(&sizes).map(|(info, shape)| (info.datatype, shape.as_slice())).collect();
    let (template, plan) = parse_and_plan(&proto, &shapes, has_free_sizes(&inputs), limits)?;
    let outputs = outputs(graph, &plan, has_free_sizes(&inputs))?;
    Ok(Template { graph: template, inputs, outputs, symbols, plan, limits: limits.clone() })
}

/// A checked file, for an engine of our own.
pub(crate) struct File {
    /// Decoded, without the raw data of large initialisers.
    pub(crate) proto: ModelProto,
    /// Where that lies.
    pub(crate) stored: StoredData,
    /// What it reads.
    pub(crate) inputs: Vec<TensorInfo>,
    /// For each input, the name of each size that must be the same wherever the name stands.
    pub(crate) symbols: Symbols,
}

/// Decodes and checks a file, but for its weights, for a backend that knows its own operators and tract's.
///
/// # Errors
/// See [`LoadError`].
pub(crate) fn open(source: &Source, limits: &ImportLimits, backend: &'static str) -> Result<File, LoadError> {
    let framework = tract_onnx::onnx();
    within_size(source.len(), limits)?;
    let (bytes, stored) = skeleton::skeleton(source)?;
    let proto = read(&framework, &bytes, limits)?;
    drop(bytes);
    let knows = |node: &NodeProto| {
        framework.op_register.0.contains_key(&node.op_type)
            || crate::rules::is_native(&node.domain, &node.op_type)
    };
    check::check(&proto, &stored, &knows, backend, limits)?;
    let graph =
        proto.graph.as_ref().ok_or_else(|| LoadError::Malformed { why: "it holds no graph".into() })?;
    let (inputs, symbols) = declared_inputs(graph, limits)?;
    Ok(File { proto, stored, inputs, symbols })
}

/// The operators that a file uses, sorted, each once.
///
/// # Errors
/// The file is malformed or beyond the limits.
pub(crate) fn operators(onnx: &[u8], limits: &ImportLimits) -> Result<Vec<String>, LoadError> {
    let proto = read(&tract_onnx::onnx(), onnx, limits)?;
    let mut found = std::collections::BTreeSet::new();
    let mut graphs: Vec<&GraphProto> = proto.graph.iter().collect();
    while let Some(graph) = graphs.pop() {
        for node in &graph.node {
            let plain = node.domain.is_empty() || node.domain == "ai.onnx";
            let name = if plain { String::new() } else { format!("{}.", node.domain) };
            found.insert(name + &node.op_type);
            graphs.extend(node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)));
        }
    }
    Ok(found.into_iter().collect())
}

/// Decodes a file whose size and nesting are within the limits.
fn read(framework: &tract_onnx::Onnx, onnx: &[u8], limits: &ImportLimits) -> Result<ModelProto, LoadError> {
    within_size(onnx.len() as u64, limits)?;
    scan::scan(onnx, limits.messages_max)?;
    guarded(|| framework.proto_model_for_read(&mut &*onnx)).map_err(|why| LoadError::Malformed { why })
}

fn within_size(len: u64, limits: &ImportLimits) -> Result<(), LoadError> {
    if usize::try_from(len).is_ok_and(|len| len <= limits.file_size_bytes_max) {
        return Ok(());
    }
    Err(LoadError::TooLarge {
        what: "the size of the ONNX file in bytes".into(),
        found: format!("at least {len}"),
        max: limits.file_size_bytes_max,
    })
}

/// Whether any input takes more than one shape.
pub(crate) fn has_free_sizes(inputs: &[TensorInfo]) -> bool {
    inputs.iter().any(|info| info.shape.is_empty() || info.shape.contains(&None))
}

/// For each input, the names of its sizes.
pub(crate) type Symbols = Vec<Vec<Option<String>>>;

fn declared_inputs(
    graph: &GraphProto,
    limits: &ImportLimits,
) -> Result<(Vec<TensorInfo>, Symbols), LoadError> {
    let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let mut infos = Vec::new();
    let mut symbols = Vec::new();
    for input in graph.input.iter().filter(|input| !constants.contains(input.name.as_str())) {
        let (info, names) = declared_input(input, limits)?;
        if infos.iter().any(|other: &TensorInfo| other.name == info.name) {
            return Err(LoadError::Malformed { why: format!("two inputs are named {:?}", info.name) });
        }
        infos.push(info);
        symbols.push(names);
    }
    Ok((infos, symbols))
}

fn declared_input(
    input: &ValueInfoProto,
    limits: &ImportLimits,
) -> Result<(TensorInfo, Vec<Option<String>>), LoadError> {
    let name = one_line(&input.name);
    let (datatype, tensor) = convert::declared(input.r#type.as_ref())
        .map_err(|datatype| LoadError::UnsupportedDatatype { tensor: name.clone(), datatype })?;
    // A tensor without a declared shape takes any, as one declared without sizes does.
    let dims = tensor.shape.as_ref().map(|shape| shape.dim.as_slice()).unwrap_or_default();
    let too_large = |what: &str, found: String, max| LoadError::TooLarge {
        what: format!("{what} of input {name:?}"),
        found,
        max,
    };
    if dims.len() > limits.rank_max {
        return Err(too_large("the rank", dims.len().to_string(), limits.rank_max));
    }
    let mut sizes = Vec::new();
    let mut symbols = Vec::new();
    for dim in dims {
        let (size, symbol) = match &dim.value {
            // Exporters write 0 and -1 for a size that is not known.
            Some(Value::DimValue(v)) if *v > 0 => (usize::try_from(*v).ok(), None),
            // Some write "?" for every size that they do not know: that is no name.
            Some(Value::DimParam(symbol))
                if symbol.starts_with(|c: char| c.is_alphanumeric() || c == '_') =>
            {
                (None, Some(symbol.clone()))
            }
            _ => (None, None),
        };
        sizes.push(size);
        symbols.push(symbol);
    }
    let smallest: Vec<usize> = sizes.iter().flatten().copied().collect();
    if crate::tensor::element_count(&smallest).is_none_or(|n| n > limits.tensor_elements_max) {
        return Err(too_large("the number of elements", format!("{smallest:?}"), limits.tensor_elements_max));
    }
    Ok((TensorInfo { name: input.name.clone(), datatype, shape: sizes }, symbols))
}

/// Parses and plans; where the file's own notes on shapes in between contradict what its operators do, without them.
fn parse_and_plan(
    proto: &ModelProto,
    shapes: &[(Datatype, &[usize])],
    free_sizes: bool,
    limits: &ImportLimits,
) -> Result<(InferenceModel, Plan), LoadError> {
    let attempt = |ignore_notes: bool| {
        let framework = tract_onnx::onnx()
            .with_ignore_output_shapes(true)
            .with_ignore_output_types(ignore_notes)
            .with_ignore_value_info(ignore_notes);
        let template = guarded(|| {
            let ParseResult { model, unresolved_inputs, .. } = framework.parse(proto, None)?;
            if !unresolved_inputs.is_empty() {
                bail!("no node makes what others read: {unresolved_inputs:?}");
            }
            if model.inputs.len() != shapes.len() {
                bail!("{} inputs are declared and {} are read", shapes.len(), model.inputs.len());
            }
            Ok(model)
        })
        .map_err(|why| LoadError::Import { stage: "read its graph", why })?;
        let plan = plan::build(&template, shapes, limits)
            .map_err(|why| LoadError::Import { stage: "plan its run", why })?;
        Ok((template, plan))
    };
    // Notes that name symbols would contradict the sizes that a request fixes.
    if free_sizes {
        return attempt(true);
    }
    attempt(false).or_else(|first| attempt(true).map_err(|_: LoadError| first))
}

fn outputs(graph: &GraphProto, plan: &Plan, free_sizes: bool) -> Result<Vec<TensorInfo>, LoadError> {
    graph
        .output
        .iter()
        .zip(&plan.outputs)
        .map(|(output, (datatype, planned))| {
            let name = one_line(&output.name);
            let datatype = datatype.ok_or_else(|| LoadError::UnsupportedDatatype {
                tensor: name,
                datatype: "unknown to this program".into(),
            })?;
            let shape = if free_sizes { fixed_sizes(output, planned) } else { planned.clone() };
            Ok(TensorInfo { name: output.name.clone(), datatype, shape })
        })
        .collect()
}

/// Of the sizes planned for the smallest inputs, those that the file declares fixed.
fn fixed_sizes(output: &ValueInfoProto, planned: &[Option<usize>]) -> Vec<Option<usize>> {
    let declared =
        convert::declared(output.r#type.as_ref()).ok().and_then(|(_, tensor)| tensor.shape.as_ref());
    let is_fixed = |axis: usize, size: usize| {
        declared
            .filter(|shape| shape.dim.len() == planned.len())
            .and_then(|shape| shape.dim.get(axis))
            .is_some_and(
                |dim| matches!(&dim.value, Some(Value::DimValue(v)) if usize::try_from(*v) == Ok(size)),
            )
    };
    planned.iter().enumerate().map(|(axis, size)| size.filter(|size| is_fixed(axis, *size))).collect()
}

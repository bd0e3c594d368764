//! One operator as a graph of its own.

use super::{
    convert::{self, FromTract},
    guard::{guarded, one_line},
    plan::{self, Plan},
};
use crate::{
    compile::CompileError,
    datatype::Datatype,
    graph::Node,
    limits::ImportLimits,
    rules::{View, Views},
    tensor::Tensor,
};
use tract_onnx::{
    pb::{
        GraphProto, ModelProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
        tensor_proto::DataType,
        tensor_shape_proto::{Dimension, dimension},
        type_proto,
    },
    tract_hir::internal::bail,
};

/// A node compiled by tract for inputs of fixed types and shapes.
pub(crate) struct Compiled {
    plan: Plan,
}

impl Compiled {
    /// Compiles a node.
    ///
    /// # Errors
    /// tract does not know the operator, or cannot do what is asked of it.
    pub(crate) fn compile(
        node: &Node,
        opsets: &[OperatorSetIdProto],
        inputs: &Views,
        limits: &ImportLimits,
    ) -> Result<Self, CompileError> {
        let framework = tract_onnx::onnx()
            .with_ignore_output_shapes(true)
            .with_ignore_output_types(true)
            .with_ignore_value_info(true);
        if !framework.op_register.0.contains_key(&node.proto.op_type) || !node.graphs.is_empty() {
            return Err(CompileError::Unsupported {
                operator: one_line(&node.op),
                node: one_line(&node.name),
            });
        }
        let failed = |why: String| CompileError::failed(format!("{}: {why}", node.describe()));
        let completed = complete(node, inputs);
        let inputs = completed.as_slice();
        let (proto, live) = model_of(node, opsets, inputs).map_err(failed)?;
        let shapes: Vec<(Datatype, &[usize])> = live
            .iter()
            .filter_map(|index| inputs[*index].as_ref())
            .map(|view| (view.datatype, view.shape.as_slice()))
            .collect();
        let template = guarded(|| {
            let parsed = framework.parse(&proto, None)?;
            if !parsed.unresolved_inputs.is_empty() || parsed.model.inputs.len() != shapes.len() {
                bail!("its inputs do not resolve");
            }
            Ok(parsed.model)
        })
        .map_err(failed)?;
        let plan = plan::build(&template, &shapes, limits).map_err(failed)?;
        Ok(Self { plan })
    }

    /// Types and shapes of its outputs, where they do not depend on the data.
    pub(crate) fn types(&self) -> Option<Vec<(Datatype, Vec<usize>)>> {
        let of = |(datatype, shape): &(Option<Datatype>, Vec<Option<usize>>)| {
            Some(((*datatype)?, shape.iter().copied().collect::<Option<Vec<usize>>>()?))
        };
        self.plan.outputs.iter().map(of).collect()
    }

    /// Multiplications with accumulation, where tract can tell.
    pub(crate) fn macs(&self) -> u64 {
        self.plan.macs.unwrap_or(0)
    }

    /// Runs it on its live inputs, in order of their places.
    ///
    /// # Errors
    /// tract's own words.
    pub(crate) fn run(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, String> {
        let values = inputs
            .iter()
            .map(|tensor| convert::to_tract(tensor).map(Into::into))
            .collect::<Result<_, _>>()?;
        let outputs = guarded(|| self.plan.runnable.spawn()?.run(values))?;
        let take = |value| {
            convert::from_tract(value).map_err(|error| match error {
                FromTract::Access(why) => why,
                FromTract::Tensor(error) => error.to_string(),
            })
        };
        outputs.iter().map(|value| take(value)).collect()
    }
}

/// Inputs in the shapes that tract asks for: the same elements, with an axis that ONNX lets files leave out.
fn complete(node: &Node, inputs: &Views) -> Vec<Option<View>> {
    let mut inputs = inputs.to_vec();
    if let ("STFT", Some(Some(signal))) = (node.op.as_str(), inputs.first_mut())
        && signal.shape.len() == 2
        && signal.constant.is_none()
    {
        signal.shape.push(1);
    }
    inputs
}

/// A file of one node. Constants go in as initialisers: tract needs their elements to infer shapes.
fn model_of(
    node: &Node,
    opsets: &[OperatorSetIdProto],
    inputs: &Views,
) -> Result<(ModelProto, Vec<usize>), String> {
    let mut graph = GraphProto { name: "one".into(), ..GraphProto::default() };
    let mut proto = node.proto.clone();
    let mut live = Vec::new();
    for (index, view) in inputs.iter().enumerate() {
        let name = format!("i{index}");
        let Some(view) = view else { continue };
        proto.input[index].clone_from(&name);
        match &view.constant {
            Some(tensor) => graph.initializer.push(initializer(name, tensor)),
            None => {
                graph.input.push(declared(name, Some(view)));
                live.push(index);
            }
        }
    }
    for (index, name) in proto.output.iter_mut().enumerate() {
        if !name.is_empty() {
            *name = format!("o{index}");
            graph.output.push(declared(name.clone(), None));
        }
    }
    graph.node.push(proto);
    let opset_import = opsets.to_vec();
    Ok((ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..ModelProto::default() }, live))
}

fn declared(name: String, view: Option<&View>) -> ValueInfoProto {
    let tensor = view.map(|view| {
        let dim = |size: &usize| Dimension {
            denotation: String::new(),
            value: Some(dimension::Value::DimValue(i64::try_from(*size).unwrap_or(i64::MAX))),
        };
        let shape = Some(TensorShapeProto { dim: view.shape.iter().map(dim).collect() });
        type_proto::Tensor { elem_type: onnx_type(view.datatype) as i32, shape }
    });
    let value = tensor.map(type_proto::Value::TensorType);
    ValueInfoProto {
        name,
        r#type: Some(TypeProto { denotation: String::new(), value }),
        doc_string: String::new(),
    }
}

fn initializer(name: String, tensor: &Tensor) -> TensorProto {
    TensorProto {
        name,
        dims: tensor.shape().iter().map(|d| i64::try_from(*d).unwrap_or(i64::MAX)).collect(),
        data_type: onnx_type(tensor.datatype()) as i32,
        raw_data: tensor.as_le_bytes().unwrap_or_default().to_vec(),
        string_data: tensor.as_strings().unwrap_or_default().to_vec(),
        ..TensorProto::default()
    }
}

const fn onnx_type(datatype: Datatype) -> DataType {
    match datatype {
        Datatype::Bool => DataType::Bool,
        Datatype::Uint8 => DataType::Uint8,
        Datatype::Uint16 => DataType::Uint16,
        Datatype::Uint32 => DataType::Uint32,
        Datatype::Uint64 => DataType::Uint64,
        Datatype::Int8 => DataType::Int8,
        Datatype::Int16 => DataType::Int16,
        Datatype::Int32 => DataType::Int32,
        Datatype::Int64 => DataType::Int64,
        Datatype::Fp16 => DataType::Float16,
        Datatype::Fp32 => DataType::Float,
        Datatype::Fp64 => DataType::Double,
        Datatype::Bytes => DataType::String,
    }
}

//! What the server and its models say of themselves.

use crate::loaded::LoadedModel;
use serde::Serialize;
use whimbrel_pipeline::datatype;
use whimbrel_wire::manifest::TensorSpec;

/// Answer to `GET /v2`.
#[derive(Serialize)]
pub(crate) struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: &'static [&'static str],
}

impl ServerMetadata {
    pub(crate) const fn new() -> Self {
        Self { name: "whimbrel", version: env!("CARGO_PKG_VERSION"), extensions: &["binary_tensor_data"] }
    }
}

/// Answer to `GET /v2/models/{model}`.
#[derive(Serialize)]
pub(crate) struct ModelMetadata<'a> {
    name: &'a str,
    versions: [String; 1],
    platform: String,
    inputs: Vec<TensorMetadata<'a>>,
    outputs: Vec<TensorMetadata<'a>>,
}

#[derive(Serialize)]
struct TensorMetadata<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [i64],
}

impl<'a> ModelMetadata<'a> {
    pub(crate) fn of(model: &'a LoadedModel) -> Self {
        let tensor = |spec: &'a TensorSpec| TensorMetadata {
            name: &spec.name,
            datatype: datatype(spec.datatype).as_str(),
            shape: &spec.shape,
        };
        Self {
            name: model.name().as_str(),
            versions: [model.version().to_string()],
            platform: format!("onnx_{}", model.platform()),
            inputs: model.inputs().iter().map(tensor).collect(),
            outputs: model.outputs().iter().map(tensor).collect(),
        }
    }
}

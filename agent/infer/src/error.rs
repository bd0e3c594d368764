//! Why a model was not loaded or not run.

use crate::{datatype::Datatype, memory::MemoryError, tensor::TensorError};
use std::path::PathBuf;

/// Why a model was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Something in the file is beyond the limits.
    #[error("import the model: {what} is {found}, at most {max} is accepted")]
    TooLarge {
        /// What is too large.
        what: String,
        /// How large it is.
        found: String,
        /// What is accepted.
        max: usize,
    },
    /// The bytes are no ONNX model, or contradict themselves.
    #[error("import the model: not a valid ONNX file: {why}")]
    Malformed {
        /// What is wrong.
        why: String,
    },
    /// Weights lie in another file.
    #[error(
        "import the model: tensor {tensor:?} keeps its data in another file; store it inside the ONNX file"
    )]
    ExternalData {
        /// Which tensor.
        tensor: String,
    },
    /// The backend lacks an operator.
    #[error(
        "import the model: operator {operator} (node {node:?}) is not supported by the {backend} backend"
    )]
    UnsupportedOperator {
        /// The operator, with its domain where it is not ONNX's own.
        operator: String,
        /// The first node that needs it.
        node: String,
        /// Which backend.
        backend: &'static str,
    },
    /// The backend lacks an element type.
    #[error("import the model: tensor {tensor:?} has element type {datatype}, which is not supported")]
    UnsupportedDatatype {
        /// Which tensor.
        tensor: String,
        /// The type as ONNX or the backend names it.
        datatype: String,
    },
    /// The backend is not part of this build, or unknown.
    #[error("use backend {name:?}: {why}")]
    UnsupportedBackend {
        /// The name asked for.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// The processor lacks what was asked of it.
    #[error("choose kernels: {why}")]
    Processor {
        /// What, and what there is.
        why: String,
    },
    /// The model would take more memory than it may.
    #[error("import the model: {0}")]
    Memory(MemoryError),
    /// The backend could not make a plan of the graph.
    #[error("import the model: {stage}: {why}")]
    Import {
        /// What was being done.
        stage: &'static str,
        /// The backend's own words.
        why: String,
    },
}

impl LoadError {
    /// Whether another backend or version could load the file: exit code 3 rather than 2.
    #[must_use]
    pub const fn is_unsupported(&self) -> bool {
        matches!(
            self,
            Self::UnsupportedOperator { .. }
                | Self::UnsupportedDatatype { .. }
                | Self::UnsupportedBackend { .. }
                | Self::Processor { .. }
                | Self::ExternalData { .. }
        )
    }
}

/// Why a run gave no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RunError {
    /// An input is not there.
    #[error("input {input:?} is missing")]
    MissingInput {
        /// Which.
        input: String,
    },
    /// An input has another element type.
    #[error("input {input:?} is {found}, expected {expected}")]
    Datatype {
        /// Which.
        input: String,
        /// What the model takes.
        expected: Datatype,
        /// What was given.
        found: Datatype,
    },
    /// An input has a shape that the model does not take.
    #[error("input {input:?} has shape {found:?}, expected {expected}")]
    Shape {
        /// Which.
        input: String,
        /// What the model takes, `-1` for any size.
        expected: String,
        /// What was given.
        found: Vec<usize>,
    },
    /// An input's elements are not what the model takes.
    #[error("input {input:?}: {why}")]
    Value {
        /// Which.
        input: String,
        /// What is wrong.
        why: String,
    },
    /// The inputs have shapes that each could have, but not together, or that the graph cannot work on.
    #[error("the model cannot work on inputs of these shapes: {why}")]
    Shapes {
        /// The backend's own words.
        why: String,
    },
    /// An input is beyond the limits.
    #[error("an input has the shape {found}, at most {max} elements are accepted")]
    TooLarge {
        /// Its shape.
        found: String,
        /// What is accepted.
        max: usize,
    },
    /// An input has too many bytes.
    #[error("input {input:?} has {found} bytes, at most {max} are accepted")]
    InputTooLarge {
        /// Which.
        input: String,
        /// How many.
        found: usize,
        /// What is accepted.
        max: usize,
    },
    /// Inputs of such shapes take more memory than the model may, or than it may at this moment.
    #[error("run the model: {0}")]
    Memory(MemoryError),
    /// An output holds NaN or an infinity.
    #[error("output {output:?} holds a value that is not finite")]
    NonFinite {
        /// Which.
        output: String,
    },
    /// An output could not be taken over.
    #[error("output {output:?}: {source}")]
    Output {
        /// Which.
        output: String,
        /// Why.
        source: TensorError,
    },
    /// The device that runs the model is gone, or has not the memory.
    #[error("run the model: {why}")]
    Device {
        /// The backend's own words.
        why: String,
    },
    /// The backend failed.
    #[error("run the model: {why}")]
    Failed {
        /// The backend's own words.
        why: String,
    },
}

impl RunError {
    /// A stable name for metrics and telemetry.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NonFinite { .. } => "non_finite",
            Self::Output { .. } | Self::Device { .. } | Self::Failed { .. } => "run_failed",
            Self::Memory(_) => "memory",
            _ => "bad_input",
        }
    }

    /// Whether the request was at fault, or the moment, and not the model.
    #[must_use]
    pub const fn is_bad_input(&self) -> bool {
        !matches!(
            self,
            Self::NonFinite { .. } | Self::Output { .. } | Self::Device { .. } | Self::Failed { .. }
        )
    }
}

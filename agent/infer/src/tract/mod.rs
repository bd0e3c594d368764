//! The portable backend: tract imports and runs the graph.
//!
//! | module | holds |
//! |---|---|
//! | `scan` | a walk over the protobuf bytes that bounds what decoding them will cost |
//! | `check` | what the decoded file declares, against the limits and tract's operators |
//! | `import` | the file as a template, from which plans for concrete shapes are made |
//! | `bound` | keeps tract from computing constants beyond the limits |
//! | `skeleton` | a file without its weights |
//! | `softmax` | keeps tract from making softmax wrong in quantised models |
//! | `plan` | one optimised graph for one set of input shapes |
//! | `session` | the model and its sessions |
//! | `single` | one operator as a graph of its own |
//! | `convert` | tensors to tract and back |
//! | `guard` | panics inside tract become errors |

mod bound;
mod check;
mod convert;
mod guard;
mod import;
mod plan;
mod scan;
mod session;
mod single;
mod skeleton;
mod softmax;

use crate::{
    backend::{Backend, LoadOptions, Model},
    error::LoadError,
    limits::ImportLimits,
    memory::{Budget, Purpose},
    source::Source,
};
use std::sync::Arc;

pub(crate) use convert::declared as declared_type;
pub(crate) use guard::one_line;
pub(crate) use import::{File, open, operators};
pub(crate) use single::Compiled;
pub(crate) use skeleton::StoredData;

/// Runs models with tract's own operators.
pub(crate) struct Tract;

impl Tract {
    const NAME: &str = "tract";
}

impl Backend for Tract {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn load(&self, onnx: &[u8], options: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
        within_memory(onnx.len() as u64, options)?;
        let template = import::import(onnx, &options.limits)?;
        Ok(Arc::new(session::TractModel::new(template)))
    }

    fn load_source(&self, source: &Source, options: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
        within_memory(source.len(), options)?;
        let max = options.limits.file_size_bytes_max as u64;
        let fail = |source| LoadError::Read { path: "the model".into(), source };
        match source.in_memory() {
            Some(bytes) => self.load(bytes, options),
            None => self.load(&source.bytes(&(0..max.saturating_add(1))).map_err(fail)?, options),
        }
    }

    fn knows(&self, operator: &str) -> bool {
        // Tract finds operators by their bare name, whatever their domain.
        knows(operator.rsplit('.').next().unwrap_or(operator))
    }
}

/// What tract takes is not known before it has taken it. At least the file and what is decoded of it are in memory at once.
fn within_memory(file_bytes: u64, options: &LoadOptions) -> Result<(), LoadError> {
    reserve(file_bytes.saturating_mul(2), &options.limits)
}

/// Refuses a model whose weights take too much.
fn reserve(bytes: u64, limits: &ImportLimits) -> Result<(), LoadError> {
    Budget::new(limits.memory_bytes_max).reserve(Purpose::Weights, bytes).map(drop).map_err(LoadError::Memory)
}

/// Whether tract knows an operator, by its bare name.
pub(crate) fn knows(operator: &str) -> bool {
    tract_onnx::onnx().op_register.0.contains_key(operator)
}

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
        let template = import::import(onnx, &options.limits)?;
        Ok(Arc::new(session::TractModel::new(template)))
    }

    fn knows(&self, operator: &str) -> bool {
        // Tract finds operators by their bare name, whatever their domain.
        knows(operator.rsplit('.').next().unwrap_or(operator))
    }
}

/// Whether tract knows an operator, by its bare name.
pub(crate) fn knows(operator: &str) -> bool {
    tract_onnx::onnx().op_register.0.contains_key(operator)
}

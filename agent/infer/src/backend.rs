//! The three traits between a model and what runs it.

use crate::{
    cache::PlanCache,
    cores::Cores,
    datatype::Datatype,
    error::{LoadError, RunError},
    limits::ImportLimits,
    profile::RunProfile,
    source::Source,
    tensor::Tensor,
    tract::Tract,
};
use serde::{Deserialize, Serialize};
use std::{fmt, num::NonZeroUsize, path::Path, sync::Arc};

/// How a model is loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// What the file may ask for.
    pub limits: ImportLimits,
    /// The most threads of one run, the caller's included; one where it is not said.
    pub threads: Option<NonZeroUsize>,
    /// The processors that runs are bound to; any where it is not said.
    pub cores: Option<Cores>,
    /// Where a plan that is ready to run is kept, for backends that make such plans.
    pub cache: Option<PlanCache>,
}

/// Makes models of ONNX files.
pub trait Backend: Send + Sync {
    /// Its name on command lines and in reports.
    fn name(&self) -> &'static str;

    /// Makes a model of the bytes of an ONNX file.
    ///
    /// # Errors
    /// The file is malformed, beyond the limits, or needs what the backend lacks.
    fn load(&self, onnx: &[u8], options: &LoadOptions) -> Result<Arc<dyn Model>, LoadError>;

    /// Makes a model of a source, from which weights may be read as long as the model is there.
    ///
    /// # Errors
    /// As [`Self::load`], and where the source cannot be read.
    fn load_source(&self, source: &Source, options: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
        if let Some(bytes) = source.in_memory() {
            return self.load(bytes, options);
        }
        let max = options.limits.file_size_bytes_max as u64;
        let fail = |source| LoadError::Read { path: "the model".into(), source };
        let bytes = source.bytes(&(0..max.saturating_add(1))).map_err(fail)?;
        self.load(&bytes, options)
    }

    /// Whether it knows an operator, by its ONNX name (`Conv`, `com.microsoft.Gelu`). One that it knows may still be refused for its
    /// attributes when a model is loaded.
    fn knows(&self, operator: &str) -> bool;

    /// Whether it runs models on a GPU.
    fn is_gpu(&self) -> bool {
        false
    }
}

/// A loaded model. It is immutable and shared; work happens in sessions.
pub trait Model: Send + Sync {
    /// What it reads, in the file's order.
    fn inputs(&self) -> &[TensorInfo];

    /// What it answers, in the file's order.
    fn outputs(&self) -> &[TensorInfo];

    /// A place to run it. Making one is cheap, keeping one for the next run is cheaper.
    fn session(&self) -> Box<dyn Session>;

    /// Multiplications with accumulation per run, where the shapes are fixed and the backend can tell.
    fn macs(&self) -> Option<u64> {
        None
    }

    /// Whether its plan came from a cache rather than from its file.
    fn is_from_cache(&self) -> bool {
        false
    }
}

/// The working memory of one run at a time.
pub trait Session: Send {
    /// Runs the model. Every input must be given; others are ignored. All outputs come back in the file's order.
    ///
    /// # Errors
    /// An input is missing or does not fit; the run failed; a float output is not finite.
    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>, RunError>;

    /// Runs the model as [`Self::run`] does, and answers what it spent on each layer instead; `None` where the backend does not tell.
    ///
    /// # Errors
    /// See [`Self::run`].
    fn profile(&mut self, _inputs: &[(&str, &Tensor)]) -> Result<Option<RunProfile>, RunError> {
        Ok(None)
    }
}

/// What a model says about one of its inputs or outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub datatype: Datatype,
    /// Its sizes; `None` where any is accepted or it depends on the inputs. Empty for a scalar, and where nothing is known of the shape,
    /// which files often do not tell apart: any shape is then accepted.
    pub shape: Vec<Option<usize>>,
}

impl TensorInfo {
    /// Whether a tensor of this shape fits.
    #[must_use]
    pub fn accepts(&self, shape: &[usize]) -> bool {
        self.shape.is_empty()
            || self.shape.len() == shape.len()
                && self.shape.iter().zip(shape).all(|(want, have)| want.is_none_or(|w| w == *have))
    }

    /// The shape as people write it, with -1 for any size.
    #[must_use]
    pub fn shape_text(&self) -> String {
        let sizes: Vec<String> =
            self.shape.iter().map(|d| d.map_or_else(|| "-1".to_owned(), |d| d.to_string())).collect();
        format!("[{}]", sizes.join(", "))
    }
}
impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.datatype, self.shape_text())
    }
}

/// The portable backend: tract imports and runs whole graphs.
#[must_use]
pub fn tract() -> &'static dyn Backend {
    &Tract
}

/// The operators that an ONNX file uses, sorted, each once, by their ONNX names.
///
/// # Errors
/// The file is malformed or beyond the limits.
pub fn operators(onnx: &[u8], limits: &ImportLimits) -> Result<Vec<String>, LoadError> {
    crate::tract::operators(onnx, limits)
}

/// Opens an ONNX file and loads it.
///
/// # Errors
/// The file cannot be read or is too large; see [`Backend::load`].
pub fn load_file(
    backend: &dyn Backend,
    path: &Path,
    options: &LoadOptions,
) -> Result<Arc<dyn Model>, LoadError> {
    let source = Source::open(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    backend.load_source(&source, options)
}

//! What a bundle says about the model inside it. Written as `bundle.toml` by people, carried in the signed index.

use crate::{
    id::ModelName,
    pipeline::{Pipeline, STEPS_MAX},
    telemetry::Reference,
};
use semver::Version;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest shape, in dimensions.
pub const RANK_MAX: usize = 8;
/// Most inputs, and most outputs.
pub const TENSORS_MAX: usize = 64;
/// Longest text of any field.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Most operators that a model may be said to use.
pub const OPERATORS_MAX: usize = 512;
/// Most labels.
pub const LABELS_MAX: usize = 100_000;

/// The manifest of one model version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The model's name.
    pub name: ModelName,
    /// This version of it.
    pub version: Version,
    /// One sentence for people.
    #[serde(default)]
    pub description: String,
    /// SPDX expression of the model's licence.
    pub licence: String,
    /// Path of the ONNX file inside the bundle.
    pub model: String,
    /// What apps send.
    pub inputs: Vec<TensorSpec>,
    /// What apps get.
    pub outputs: Vec<TensorSpec>,
    /// Steps before and after the model.
    #[serde(default)]
    pub pipeline: Pipeline,
    /// Names of the classes, in the order of the model's output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Inputs with known answers, run on the device before the model may serve.
    pub golden: Golden,
    /// What the device must have to run it.
    #[serde(default)]
    pub needs: Needs,
    /// How the model is watched after the swap.
    #[serde(default)]
    pub probation: Probation,
    /// What the data looked like when the model was made.
    #[serde(default, skip_serializing_if = "Reference::is_empty")]
    pub reference: Reference,
    /// Where the model came from: data and code hashes, metrics. Free keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lineage: BTreeMap<String, String>,
}

/// A tensor as apps see it. Data types carry their Open Inference Protocol names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub datatype: Datatype,
    /// Its shape; -1 where any size is accepted.
    pub shape: Vec<i64>,
}

/// Element types, by their Open Inference Protocol names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Datatype {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, 8 bits.
    Uint8,
    /// Unsigned, 16 bits.
    Uint16,
    /// Unsigned, 32 bits.
    Uint32,
    /// Unsigned, 64 bits.
    Uint64,
    /// Signed, 8 bits.
    Int8,
    /// Signed, 16 bits.
    Int16,
    /// Signed, 32 bits.
    Int32,
    /// Signed, 64 bits.
    Int64,
    /// IEEE 754 half precision.
    Fp16,
    /// IEEE 754 single precision.
    Fp32,
    /// IEEE 754 double precision.
    Fp64,
    /// Byte strings, each with its length.
    Bytes,
}

/// Golden vectors: an npz file with arrays `{i}/in/{name}` and `{i}/out/{name}`, i from 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Path of the npz file inside the bundle.
    pub file: String,
    /// How many vectors it holds.
    pub count: u32,
    /// Largest accepted absolute difference of any output element.
    pub tolerance: f64,
}

/// What a device must offer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Needs {
    /// Oldest agent that can run the bundle.
    pub agent_min: Version,
    /// Memory the loaded model may take.
    pub memory_bytes_max: u64,
    /// Longest accepted median latency of one golden vector on the device, in milliseconds.
    pub latency_ms_max: f64,
    /// What must run it.
    #[serde(skip_serializing_if = "NeededBackend::is_any")]
    pub backend: NeededBackend,
    /// The operators that the model uses, as ONNX names them (`Conv`, and `com.microsoft.Gelu` outside its own domain). None stated:
    /// the self-test will tell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<String>,
}

/// What must run a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NeededBackend {
    /// Whatever the device has.
    #[default]
    Any,
    /// The processor.
    Cpu,
    /// A GPU.
    Gpu,
}

impl NeededBackend {
    const fn is_any(&self) -> bool {
        matches!(self, Self::Any)
    }
}

impl Default for Needs {
    fn default() -> Self {
        Self {
            agent_min: Version::new(0, 1, 0),
            memory_bytes_max: 256 << 20,
            latency_ms_max: 1000.0,
            backend: NeededBackend::Any,
            operators: Vec::new(),
        }
    }
}

/// The local gates after the swap. The first of `requests` and `seconds` ends probation; it is confirmed only when at
/// least `requests_min` live requests were seen and no gate failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Probation {
    /// Live requests after which the decision falls.
    pub requests: u64,
    /// Seconds after which it falls with fewer.
    pub seconds: u64,
    /// Fewest requests on which anything is decided by rates.
    pub requests_min: u64,
    /// Largest accepted share of failed requests, 0 to 1.
    pub error_rate_max: f64,
    /// Most process crashes while the candidate serves.
    pub crashes_max: u32,
}

impl Default for Probation {
    fn default() -> Self {
        Self { requests: 200, seconds: 300, requests_min: 0, error_rate_max: 0.02, crashes_max: 1 }
    }
}

/// Whether `path` stays inside the folder it is joined to: relative, plain components, no backslash.
#[must_use]
pub fn is_inner_path(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 255
        && path.split('/').all(|c| {
            !c.is_empty()
                && c != "."
                && c != ".."
                && c.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        })
}

impl Manifest {
    /// Checks every rule that the types do not express.
    ///
    /// # Errors
    /// A sentence naming the field and the rule.
    pub fn validate(&self) -> Result<(), String> {
        for (field, path) in [("model", &self.model), ("golden.file", &self.golden.file)] {
            if !is_inner_path(path) {
                return Err(format!("{field}: {path:?} is not a plain relative path"));
            }
        }
        for (field, text) in [("description", &self.description), ("licence", &self.licence)] {
            limit(field, text.len(), TEXT_BYTES_MAX)?;
        }
        for (field, specs) in [("inputs", &self.inputs), ("outputs", &self.outputs)] {
            validate_tensors(field, specs)?;
        }
        limit("pipeline.pre", self.pipeline.pre.len(), STEPS_MAX)?;
        limit("pipeline.post", self.pipeline.post.len(), STEPS_MAX)?;
        limit("labels", self.labels.len(), LABELS_MAX)?;
        limit("lineage", self.lineage.len(), 64)?;
        if self.golden.count == 0 || self.golden.count > 1024 {
            return Err(format!("golden.count: {}, expected 1 to 1024", self.golden.count));
        }
        if !(self.golden.tolerance >= 0.0 && self.golden.tolerance.is_finite()) {
            return Err("golden.tolerance: expected a finite number, 0 or more".into());
        }
        limit("needs.operators", self.needs.operators.len(), OPERATORS_MAX)?;
        for operator in &self.needs.operators {
            limit("needs.operators", operator.len(), 255)?;
        }
        if self.needs.latency_ms_max.is_nan() || self.needs.latency_ms_max <= 0.0 {
            return Err("needs.latency_ms_max: expected a number above 0".into());
        }
        if !(0.0..=1.0).contains(&self.probation.error_rate_max) {
            return Err("probation.error_rate_max: expected 0 to 1".into());
        }
        if self.probation.requests == 0 || self.probation.seconds == 0 {
            return Err("probation: requests and seconds must be above 0".into());
        }
        self.reference.validate()
    }
}

fn validate_tensors(field: &str, specs: &[TensorSpec]) -> Result<(), String> {
    if specs.is_empty() {
        return Err(format!("{field}: at least one tensor is needed"));
    }
    limit(field, specs.len(), TENSORS_MAX)?;
    for (i, spec) in specs.iter().enumerate() {
        limit("tensor name", spec.name.len(), 255)?;
        limit("tensor shape", spec.shape.len(), RANK_MAX)?;
        if spec.name.is_empty() || specs[..i].iter().any(|s| s.name == spec.name) {
            return Err(format!("{field}: name {:?} is empty or used twice", spec.name));
        }
        if spec.shape.iter().any(|&d| d == 0 || d < -1) {
            return Err(format!(
                "{field}: shape of {:?} holds {:?}, expected sizes above 0 or -1",
                spec.name, spec.shape
            ));
        }
    }
    Ok(())
}

pub(crate) fn limit(field: &str, len: usize, max: usize) -> Result<(), String> {
    if len > max { Err(format!("{field}: length {len}, at most {max} is accepted")) } else { Ok(()) }
}

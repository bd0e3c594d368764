//! Golden vectors: inputs with known answers that a model must give on this device before it may serve.
//!
//! They are in an npz file of the bundle, as arrays `{i}/in/{name}` and `{i}/out/{name}`. Every numeric output that the
//! manifest declares is compared element by element; outputs of strings are compared where the file has them.

use crate::npz::{NpzError, NpzFile, NpzLimits};
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use whimbrel_infer::Tensor;
use whimbrel_serve::{InferError, LoadedModel};
use whimbrel_wire::{
    manifest::{Datatype, Manifest},
    report::{Reason, ReasonKind},
};

const LIMITS: NpzLimits = NpzLimits { file_bytes_max: 256 << 20, array_bytes_max: 256 << 20 };
/// Fewest timed runs: the first vector is run again until there are as many.
const TIMED_RUNS_MIN: usize = 15;

/// What the vectors showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Passed {
    /// How many vectors were run.
    pub(crate) vectors: u32,
    /// Median time of one run.
    pub(crate) median: Duration,
    /// Largest difference of any element.
    pub(crate) difference_max: f64,
}

/// Why a model must not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GoldenError {
    /// The file is not what the manifest says.
    #[error("golden vectors {file}: {source}")]
    File {
        /// The file's name in the bundle.
        file: String,
        /// Why.
        source: NpzError,
    },
    /// A vector is not one for this model.
    #[error("golden vector {vector}: {why}")]
    Vector {
        /// Which, from 0.
        vector: u32,
        /// What is wrong.
        why: String,
    },
    /// The file holds an array that belongs to no vector.
    #[error("golden vectors: array {name:?} belongs to none of the {count} vectors")]
    Stray {
        /// Its name.
        name: String,
        /// How many vectors the manifest announces.
        count: u32,
    },
    /// The model fails on a vector.
    #[error("golden vector {vector}: the model failed: {source}")]
    Failed {
        /// Which, from 0.
        vector: u32,
        /// How.
        source: InferError,
    },
    /// The model gives another answer.
    #[error(
        "golden vector {vector}, output {output}, element {element}: got {got}, expected {expected} within {tolerance}"
    )]
    Mismatch {
        /// Which vector, from 0.
        vector: u32,
        /// Which output.
        output: String,
        /// Which element, in row-major order from 0.
        element: usize,
        /// What the model gave.
        got: String,
        /// What it should give.
        expected: String,
        /// The largest accepted difference.
        tolerance: f64,
    },
    /// The model is too slow here.
    #[error("one golden vector takes {median_ms:.3} ms (median), at most {max_ms} ms is accepted")]
    Latency {
        /// Median of all timed runs.
        median_ms: f64,
        /// What the manifest accepts.
        max_ms: f64,
    },
}

impl From<GoldenError> for Reason {
    fn from(error: GoldenError) -> Self {
        let kind = match error {
            GoldenError::File { .. } | GoldenError::Vector { .. } | GoldenError::Stray { .. } => {
                ReasonKind::Malformed
            }
            GoldenError::Failed { .. } | GoldenError::Mismatch { .. } => ReasonKind::GoldenMismatch,
            GoldenError::Latency { .. } => ReasonKind::Latency,
        };
        Self::new(kind, error)
    }
}

/// One vector.
struct Vector {
    inputs: Vec<(String, Tensor)>,
    outputs: Vec<(String, Tensor)>,
}

/// Which tensors a vector has.
#[derive(Default)]
struct Names {
    inputs: Vec<String>,
    outputs: Vec<String>,
}

type Outputs = Vec<(String, Arc<Tensor>)>;

/// Runs every golden vector of a bundle in `dir` through the model, steps included. One vector is in memory at a time.
///
/// # Errors
/// The vectors are not those of the manifest, an answer differs, or the median run takes too long.
pub(crate) fn check(model: &LoadedModel, dir: &Path, manifest: &Manifest) -> Result<Passed, GoldenError> {
    let golden = &manifest.golden;
    let fail = |source| GoldenError::File { file: golden.file.clone(), source };
    let mut file = NpzFile::open(&dir.join(&golden.file), LIMITS).map_err(fail)?;
    let vectors = group(file.names(), golden.count)?;
    let (mut latencies, mut difference_max) = (Vec::new(), 0.0f64);
    let mut first = None;
    for (number, names) in (0..golden.count).zip(vectors) {
        let vector = read_vector(&mut file, number, names).map_err(fail)?;
        check_outputs(number, &vector, manifest)?;
        let inputs = vector.inputs.clone();
        if first.is_none() {
            // The first run of a model also plans it: that is not what a request waits for later.
            run(model, number, inputs.clone())?;
            first = Some(inputs.clone());
        }
        let (answer, latency) = run(model, number, inputs)?;
        latencies.push(latency);
        difference_max = difference_max.max(compare(number, &vector.outputs, &answer, golden.tolerance)?);
    }
    while let Some(inputs) = first.as_ref().filter(|_| latencies.len() < TIMED_RUNS_MIN) {
        latencies.push(run(model, 0, inputs.clone())?.1);
    }
    let median = judge_latency(latencies, manifest.needs.latency_ms_max)?;
    Ok(Passed { vectors: golden.count, median, difference_max })
}

fn run(
    model: &LoadedModel,
    vector: u32,
    inputs: Vec<(String, Tensor)>,
) -> Result<(Outputs, Duration), GoldenError> {
    let start = Instant::now();
    match model.infer(inputs) {
        Ok(answer) => Ok((answer.outputs, start.elapsed())),
        Err(source) if source.is_bad_input() => Err(GoldenError::Vector { vector, why: source.to_string() }),
        Err(source) => Err(GoldenError::Failed { vector, source }),
    }
}

/// Sorts the arrays by vector; each belongs to one, and no vector is without.
fn group(names: Vec<String>, count: u32) -> Result<Vec<Names>, GoldenError> {
    let mut vectors: Vec<Names> = (0..count).map(|_| Names::default()).collect();
    for name in names {
        let mut parts = name.splitn(3, '/');
        let (number, part, tensor) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        // `007/in/x` is not the name under which an array is looked for.
        let plain = number == "0" || !number.starts_with(['0', '+']);
        let vector = number.parse::<usize>().ok().filter(|_| plain).and_then(|n| vectors.get_mut(n));
        match (vector, part, tensor) {
            (Some(vector), Some("in"), Some(tensor)) => vector.inputs.push(tensor.to_owned()),
            (Some(vector), Some("out"), Some(tensor)) => vector.outputs.push(tensor.to_owned()),
            _ => return Err(GoldenError::Stray { name: excerpt(&name), count }),
        }
    }
    match (0..count).zip(&vectors).find(|(_, names)| names.inputs.is_empty()) {
        Some((vector, _)) => {
            Err(GoldenError::Vector { vector, why: "it has no inputs in the file".to_owned() })
        }
        None => Ok(vectors),
    }
}

fn read_vector(file: &mut NpzFile, number: u32, names: Names) -> Result<Vector, NpzError> {
    let mut read = |part: &str, names: Vec<String>| {
        let mut tensors = Vec::with_capacity(names.len());
        for name in names {
            let tensor = file.read(&format!("{number}/{part}/{name}"))?;
            tensors.push((name, tensor));
        }
        Ok::<_, NpzError>(tensors)
    };
    Ok(Vector { inputs: read("in", names.inputs)?, outputs: read("out", names.outputs)? })
}

/// Checks that a vector says what to expect of every numeric output, and of nothing that is no output.
fn check_outputs(number: u32, vector: &Vector, manifest: &Manifest) -> Result<(), GoldenError> {
    let fail = |why| Err(GoldenError::Vector { vector: number, why });
    let has = |name: &str| vector.outputs.iter().any(|(n, _)| n == name);
    if let Some(spec) = manifest.outputs.iter().find(|s| s.datatype != Datatype::Bytes && !has(&s.name)) {
        return fail(format!("it does not say what to expect of output {:?}", spec.name));
    }
    match vector.outputs.iter().find(|(name, _)| !manifest.outputs.iter().any(|s| s.name == *name)) {
        Some((name, _)) => fail(format!("the model has no output {:?}", excerpt(name))),
        None => Ok(()),
    }
}

/// The largest difference of any element; an error where one is beyond the tolerance.
fn compare(
    vector: u32,
    expected: &[(String, Tensor)],
    answer: &Outputs,
    tolerance: f64,
) -> Result<f64, GoldenError> {
    let mut largest = 0.0f64;
    for (output, expected) in expected {
        let fail = |why: String| GoldenError::Vector { vector, why: format!("output {output:?}: {why}") };
        let got = answer.iter().find(|(name, _)| name == output).map(|(_, tensor)| tensor);
        let got = got.ok_or_else(|| fail("the model did not answer it".to_owned()))?;
        if got.shape() != expected.shape() {
            return Err(fail(format!(
                "its shape is {:?}, the vector has {:?}",
                got.shape(),
                expected.shape()
            )));
        }
        match differ(got, expected, tolerance).map_err(fail)? {
            Difference::Within(difference) => largest = largest.max(difference),
            Difference::At { element, got, expected } => {
                let output = output.clone();
                return Err(GoldenError::Mismatch { vector, output, element, got, expected, tolerance });
            }
        }
    }
    Ok(largest)
}

/// How two tensors of the same shape differ.
#[derive(Debug, PartialEq)]
enum Difference {
    /// By this at most.
    Within(f64),
    /// Beyond the tolerance, first at this element.
    At { element: usize, got: String, expected: String },
}

/// Compares element by element. NaN differs from everything.
fn differ(got: &Tensor, expected: &Tensor, tolerance: f64) -> Result<Difference, String> {
    if let (Some(got), Some(expected)) = (got.as_strings(), expected.as_strings()) {
        let text = |bytes: &[u8]| format!("{:?}", excerpt(&String::from_utf8_lossy(bytes)));
        let pair = got.iter().zip(expected).enumerate().find(|(_, (g, e))| g != e);
        return Ok(pair.map_or(Difference::Within(0.0), |(element, (got, expected))| Difference::At {
            element,
            got: text(got),
            expected: text(expected),
        }));
    }
    let numbers = |tensor: &Tensor| tensor.to_f64s().map_err(|e| e.to_string());
    let mut largest = 0.0f64;
    for (element, (got, expected)) in numbers(got)?.into_iter().zip(numbers(expected)?).enumerate() {
        match (got - expected).abs() {
            difference if difference <= tolerance => largest = largest.max(difference),
            _ => return Ok(Difference::At { element, got: got.to_string(), expected: expected.to_string() }),
        }
    }
    Ok(Difference::Within(largest))
}

/// The median; an error where it is above what the manifest accepts.
fn judge_latency(mut latencies: Vec<Duration>, max_ms: f64) -> Result<Duration, GoldenError> {
    latencies.sort_unstable();
    let median = latencies.get(latencies.len() / 2).copied().unwrap_or_default();
    let median_ms = median.as_secs_f64() * 1000.0;
    if median_ms <= max_ms { Ok(median) } else { Err(GoldenError::Latency { median_ms, max_ms }) }
}

fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests;

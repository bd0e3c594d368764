//! The checks that make a program out of declared steps: every step is followed on element types and shapes alone.

use crate::program::op_name;
use std::{collections::BTreeMap, fmt};
use whimbrel_infer::{Datatype, TensorInfo, element_count};
use whimbrel_wire::{
    manifest::{self, RANK_MAX, TensorSpec},
    pipeline::{Op, Pipeline, STEPS_MAX, Step},
};

/// Longest name of a tensor.
const NAME_BYTES_MAX: usize = 255;

/// What the steps stand between.
#[derive(Debug, Clone, Copy)]
pub struct Interface<'a> {
    /// What apps send.
    pub inputs: &'a [TensorSpec],
    /// What apps get.
    pub outputs: &'a [TensorSpec],
    /// What the model reads.
    pub model_inputs: &'a [TensorInfo],
    /// What the model answers.
    pub model_outputs: &'a [TensorInfo],
}

/// Why steps do not fit a model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CompileError {
    /// There are too many steps.
    #[error("pipeline.{stage} has {found} steps, at most {STEPS_MAX} are accepted")]
    TooManySteps {
        /// `pre` or `post`.
        stage: &'static str,
        /// How many there are.
        found: usize,
    },
    /// A step does not fit.
    #[error("pipeline.{stage} step {number} ({op} from {from:?} to {to:?}): {why}")]
    Step {
        /// `pre` or `post`.
        stage: &'static str,
        /// Counted from 1.
        number: usize,
        /// The operation.
        op: &'static str,
        /// The tensor read.
        from: String,
        /// The tensor written.
        to: String,
        /// What does not fit.
        why: String,
    },
    /// The model reads what no input or step gives.
    #[error("the model reads {wanted}; {found}")]
    ModelInput {
        /// What the model reads.
        wanted: String,
        /// What there is instead.
        found: String,
    },
    /// An app-facing output is not what the model and the steps give.
    #[error("output {wanted} is declared; {found}")]
    Output {
        /// What the manifest declares.
        wanted: String,
        /// What there is instead.
        found: String,
    },
}

/// The element type that a manifest names.
#[must_use]
pub const fn datatype(declared: manifest::Datatype) -> Datatype {
    match declared {
        manifest::Datatype::Bool => Datatype::Bool,
        manifest::Datatype::Uint8 => Datatype::Uint8,
        manifest::Datatype::Uint16 => Datatype::Uint16,
        manifest::Datatype::Uint32 => Datatype::Uint32,
        manifest::Datatype::Uint64 => Datatype::Uint64,
        manifest::Datatype::Int8 => Datatype::Int8,
        manifest::Datatype::Int16 => Datatype::Int16,
        manifest::Datatype::Int32 => Datatype::Int32,
        manifest::Datatype::Int64 => Datatype::Int64,
        manifest::Datatype::Fp16 => Datatype::Fp16,
        manifest::Datatype::Fp32 => Datatype::Fp32,
        manifest::Datatype::Fp64 => Datatype::Fp64,
        manifest::Datatype::Bytes => Datatype::Bytes,
    }
}

/// What a manifest would say about a model's own tensor.
#[must_use]
pub fn spec_of(info: &TensorInfo) -> TensorSpec {
    let datatype = match info.datatype {
        Datatype::Bool => manifest::Datatype::Bool,
        Datatype::Uint8 => manifest::Datatype::Uint8,
        Datatype::Uint16 => manifest::Datatype::Uint16,
        Datatype::Uint32 => manifest::Datatype::Uint32,
        Datatype::Uint64 => manifest::Datatype::Uint64,
        Datatype::Int8 => manifest::Datatype::Int8,
        Datatype::Int16 => manifest::Datatype::Int16,
        Datatype::Int32 => manifest::Datatype::Int32,
        Datatype::Int64 => manifest::Datatype::Int64,
        Datatype::Fp16 => manifest::Datatype::Fp16,
        Datatype::Fp32 => manifest::Datatype::Fp32,
        Datatype::Fp64 => manifest::Datatype::Fp64,
        Datatype::Bytes => manifest::Datatype::Bytes,
    };
    let shape = info.shape.iter().map(|d| d.and_then(|d| i64::try_from(d).ok()).unwrap_or(-1)).collect();
    TensorSpec { name: info.name.clone(), datatype, shape }
}

/// What is known of a tensor before it exists.
#[derive(Debug, Clone, PartialEq)]
struct Fact {
    datatype: Datatype,
    shape: Vec<Option<usize>>,
}

impl Fact {
    fn of_spec(spec: &TensorSpec) -> Self {
        let shape = spec.shape.iter().map(|d| usize::try_from(*d).ok()).collect();
        Self { datatype: datatype(spec.datatype), shape }
    }

    fn of_info(info: &TensorInfo) -> Self {
        Self { datatype: info.datatype, shape: info.shape.clone() }
    }

    /// Whether a tensor may be both.
    fn agrees(&self, other: &Self) -> bool {
        let same = |(a, b): (&Option<usize>, &Option<usize>)| a.is_none() || b.is_none() || a == b;
        self.datatype == other.datatype
            && self.shape.len() == other.shape.len()
            && self.shape.iter().zip(&other.shape).all(same)
    }

    fn element_count(&self) -> Option<usize> {
        element_count(&self.shape.iter().copied().collect::<Option<Vec<usize>>>()?)
    }
}
impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<String> =
            self.shape.iter().map(|d| d.map_or_else(|| "-1".into(), |d| d.to_string())).collect();
        write!(f, "{} [{}]", self.datatype, sizes.join(", "))
    }
}

type Facts = BTreeMap<String, Fact>;

/// Follows every step on types and shapes alone.
pub(crate) fn check(
    pipeline: &Pipeline,
    labels: &[String],
    interface: &Interface<'_>,
) -> Result<(), CompileError> {
    let mut facts: Facts =
        interface.inputs.iter().map(|spec| (spec.name.clone(), Fact::of_spec(spec))).collect();
    follow("pre", &pipeline.pre, labels, &mut facts)?;
    for info in interface.model_inputs {
        found(&facts, &info.name, &Fact::of_info(info))
            .map_err(|(wanted, found)| CompileError::ModelInput { wanted, found })?;
    }
    facts.extend(interface.model_outputs.iter().map(|info| (info.name.clone(), Fact::of_info(info))));
    follow("post", &pipeline.post, labels, &mut facts)?;
    interface.outputs.iter().try_for_each(|spec| {
        found(&facts, &spec.name, &Fact::of_spec(spec))
            .map_err(|(wanted, found)| CompileError::Output { wanted, found })
    })
}

/// Whether the tensor of that name may be what is wanted; else what is wanted and what there is, as text.
fn found(facts: &Facts, name: &str, wanted: &Fact) -> Result<(), (String, String)> {
    let found = match facts.get(name) {
        Some(fact) if fact.agrees(wanted) => return Ok(()),
        Some(fact) => format!("it would be {fact}"),
        None => {
            let names: Vec<&str> = facts.keys().map(String::as_str).take(16).collect();
            format!("there is no such tensor, only: {}", names.join(", "))
        }
    };
    Err((format!("{name:?} {wanted}"), found))
}

fn follow(
    stage: &'static str,
    steps: &[Step],
    labels: &[String],
    facts: &mut Facts,
) -> Result<(), CompileError> {
    if steps.len() > STEPS_MAX {
        return Err(CompileError::TooManySteps { stage, found: steps.len() });
    }
    for (index, step) in steps.iter().enumerate() {
        let fact = result_of(step, labels, facts).map_err(|why| CompileError::Step {
            stage,
            number: index + 1,
            op: op_name(&step.op),
            from: step.from.clone(),
            to: step.to.clone(),
            why,
        })?;
        facts.insert(step.to.clone(), fact);
    }
    Ok(())
}

fn result_of(step: &Step, labels: &[String], facts: &Facts) -> Result<Fact, String> {
    let from =
        facts.get(&step.from).ok_or_else(|| format!("there is no tensor {:?} at this point", step.from))?;
    if step.to.is_empty() || step.to.len() > NAME_BYTES_MAX {
        return Err(format!("the name written must have 1 to {NAME_BYTES_MAX} bytes"));
    }
    let computes = !matches!(step.op, Op::Reshape { .. });
    if computes && from.datatype == Datatype::Bytes {
        return Err("it computes with numbers, and the tensor is BYTES".into());
    }
    let as_f32 = |shape: Vec<Option<usize>>| Fact { datatype: Datatype::Fp32, shape };
    match &step.op {
        Op::Scale { multiply, add } if !(multiply.is_finite() && add.is_finite()) => {
            Err("multiply and add must be finite".into())
        }
        Op::Clamp { min, max } if !matches!(min.partial_cmp(max), Some(o) if o.is_le()) => {
            Err(format!("min {min} must not be above max {max}"))
        }
        Op::Scale { .. } | Op::Clamp { .. } => Ok(as_f32(from.shape.clone())),
        Op::Softmax {} => last_size(from).map(|_| as_f32(from.shape.clone())),
        Op::Reshape { shape } => reshaped(from, shape),
        Op::TopKValues { k } => Ok(as_f32(top_k(from, *k)?)),
        Op::TopKLabels { k } => {
            let shape = top_k(from, *k)?;
            match last_size(from)? {
                Some(size) if !labels.is_empty() && labels.len() != size => {
                    Err(format!("the last axis has {size} elements and there are {} labels", labels.len()))
                }
                _ if labels.is_empty() => Ok(Fact { datatype: Datatype::Int64, shape }),
                _ => Ok(Fact { datatype: Datatype::Bytes, shape }),
            }
        }
    }
}

fn last_size(fact: &Fact) -> Result<Option<usize>, String> {
    fact.shape.last().copied().ok_or_else(|| "it works along the last axis, and the tensor has none".into())
}

fn top_k(fact: &Fact, k: u32) -> Result<Vec<Option<usize>>, String> {
    let k = k as usize;
    let size = last_size(fact)?;
    if k == 0 || size.is_some_and(|size| k > size) {
        let size = size.map_or_else(|| "the last axis' size".into(), |size| size.to_string());
        return Err(format!("k is {k}, expected 1 to {size}"));
    }
    let mut shape = fact.shape.clone();
    if let Some(last) = shape.last_mut() {
        *last = Some(k);
    }
    Ok(shape)
}

fn reshaped(from: &Fact, shape: &[i64]) -> Result<Fact, String> {
    if shape.len() > RANK_MAX {
        return Err(format!("the shape has {} sizes, at most {RANK_MAX} are accepted", shape.len()));
    }
    if shape.iter().any(|d| *d == 0 || *d < -1) || shape.iter().filter(|d| **d == -1).count() > 1 {
        return Err(format!("the shape is {shape:?}, expected sizes above 0 and at most one -1"));
    }
    let mut sizes: Vec<Option<usize>> = shape.iter().map(|d| usize::try_from(*d).ok()).collect();
    let known: Vec<usize> = sizes.iter().flatten().copied().collect();
    let product = element_count(&known).ok_or_else(|| format!("the shape {shape:?} is too large"))?;
    if let Some(count) = from.element_count() {
        let computed = count / product.max(1);
        if computed.checked_mul(product) != Some(count) || (known.len() == sizes.len() && computed != 1) {
            return Err(format!("{count} elements do not fill the shape {shape:?}"));
        }
        sizes.iter_mut().for_each(|size| *size = size.or(Some(computed)));
    }
    Ok(Fact { datatype: from.datatype, shape: sizes })
}

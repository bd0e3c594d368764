//! Compiled steps, and running them.

use crate::{
    compile::{self, CompileError, Interface},
    environment::Environment,
    ops::{self, OpError},
};
use std::sync::Arc;
use whimbrel_wire::pipeline::{Op, Pipeline, Step};

/// The steps around a model, checked against its inputs and outputs.
#[derive(Debug, Clone)]
pub struct Program {
    pre: Vec<Step>,
    post: Vec<Step>,
    labels: Arc<[String]>,
}

/// Why a step failed on the tensors of one request.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{stage} step {number} ({op} from {from:?} to {to:?}): {why}")]
pub struct StepError {
    stage: &'static str,
    number: usize,
    op: &'static str,
    from: String,
    to: String,
    why: Box<OpError>,
}

impl Program {
    /// Checks the steps against what apps send and get, and what the model reads and answers.
    ///
    /// # Errors
    /// A name is unknown, an element type or rank does not fit, an operation's numbers make no sense, or an app-facing
    /// output is not what the steps produce.
    pub fn compile(
        pipeline: &Pipeline,
        labels: &[String],
        interface: &Interface<'_>,
    ) -> Result<Self, CompileError> {
        compile::check(pipeline, labels, interface)?;
        Ok(Self { pre: pipeline.pre.clone(), post: pipeline.post.clone(), labels: labels.into() })
    }

    /// Runs the steps before the model.
    ///
    /// # Errors
    /// A step cannot work on the tensors of this request.
    pub fn run_pre(&self, environment: &mut Environment) -> Result<(), StepError> {
        run("pre", &self.pre, &self.labels, environment)
    }

    /// Runs the steps after the model.
    ///
    /// # Errors
    /// A step cannot work on the tensors of this request.
    pub fn run_post(&self, environment: &mut Environment) -> Result<(), StepError> {
        run("post", &self.post, &self.labels, environment)
    }
}

fn run(
    stage: &'static str,
    steps: &[Step],
    labels: &[String],
    environment: &mut Environment,
) -> Result<(), StepError> {
    for (index, step) in steps.iter().enumerate() {
        let result = match environment.get(&step.from) {
            Some(tensor) => ops::apply(&step.op, labels, tensor),
            None => Err(OpError::Absent),
        };
        let tensor = result.map_err(|why| StepError {
            stage,
            number: index + 1,
            op: op_name(&step.op),
            from: step.from.clone(),
            to: step.to.clone(),
            why: Box::new(why),
        })?;
        environment.insert(step.to.as_str(), tensor);
    }
    Ok(())
}

/// An operation's name in `bundle.toml`.
pub(crate) const fn op_name(op: &Op) -> &'static str {
    match op {
        Op::Scale { .. } => "scale",
        Op::Clamp { .. } => "clamp",
        Op::Reshape { .. } => "reshape",
        Op::Softmax {} => "softmax",
        Op::TopKLabels { .. } => "top_k_labels",
        Op::TopKValues { .. } => "top_k_values",
    }
}

//! The steps declared before and after a model. They are data: the agent's `pipeline` crate gives them their meaning.
//!
//! Steps work on an environment of named tensors. It starts with what the app sent; each step reads one tensor and
//! writes another (or the same name, replaced); the model reads its inputs from it and adds its outputs to it.

use serde::{Deserialize, Serialize};

/// Most steps before or after a model.
pub const STEPS_MAX: usize = 32;

/// The steps around a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Run in order before the model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pre: Vec<Step>,
    /// Run in order after the model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub post: Vec<Step>,
}

/// One step: an operation from one named tensor to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The tensor read.
    pub from: String,
    /// The tensor written.
    pub to: String,
    /// What is done.
    #[serde(rename = "do")]
    pub op: Op,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// `x * multiply + add`, in f32.
    Scale {
        /// The factor.
        multiply: f32,
        /// The term.
        add: f32,
    },
    /// Limits every element to `[min, max]`, in f32.
    Clamp {
        /// Lower limit.
        min: f32,
        /// Upper limit.
        max: f32,
    },
    /// Gives the same elements another shape; one -1 is computed.
    Reshape {
        /// The new shape.
        shape: Vec<i64>,
    },
    /// Softmax over the last axis, in f32.
    Softmax {},
    /// The `k` largest elements of each row of the last axis, as their labels (BYTES) or, where the bundle has none, as
    /// their indices (INT64). Ties go to the lower index.
    TopKLabels {
        /// How many.
        k: u32,
    },
    /// The values that `top_k_labels` with the same `k` picks, in f32.
    TopKValues {
        /// How many.
        k: u32,
    },
}

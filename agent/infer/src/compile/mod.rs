//! A graph and the shapes of what it is given, to a [`Plan`](crate::plan::Plan).
//!
//! Stages, each a pure function:
//!
//! | module | does |
//! |---|---|
//! | `straight` | walks the graph at concrete shapes: folds constants, takes branches, infers every shape; stops where only a run can tell |
//! | `propagate` | moves dequantisation behind operators that only move elements |
//! | `lower` | turns nodes into operations: islands of quantised operators, fused epilogues, layouts |
//! | `memory` | lifetimes of buffers to offsets in one arena |

pub(crate) mod lower;
pub(crate) mod memory;
pub(crate) mod propagate;
pub(crate) mod straight;

use crate::memory::MemoryError;

/// Why a graph was not compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// An operator is known neither here nor to tract.
    #[error("operator {operator} (node {node:?}) is not supported")]
    Unsupported {
        /// The operator, with its domain where it is not ONNX's own.
        operator: String,
        /// The node.
        node: String,
    },
    /// It takes more memory than the model may.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Shapes or attributes contradict each other, or go beyond what an operator can do.
    #[error("{why}")]
    Failed {
        /// What is wrong, where.
        why: String,
    },
}

impl CompileError {
    pub(crate) fn failed(why: impl Into<String>) -> Self {
        Self::Failed { why: why.into() }
    }
}

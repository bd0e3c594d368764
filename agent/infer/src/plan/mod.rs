//! What a backend runs: a flat list of steps over buffers of fixed sizes.
//!
//! A plan is made for one set of input shapes and knows no processor. Quantised activations are unsigned bytes throughout: int8
//! values lie shifted by 128, and so do their zero points. Values with channels lie channels-last where a step asks for that.
//!
//! | module | holds |
//! |---|---|
//! | `check` | whether a plan from outside holds together |
//! | `footprint` | what a plan takes of memory |
//! | `geometry` | the sizes of a convolution |
//! | `operation` | what a step does |
//! | `recurrent` | recurrent layers |
//! | `weights` | constant elements that exist only while a step is made ready |

mod check;
mod footprint;
mod geometry;
mod operation;
mod recurrent;
mod weights;

pub use crate::compile::memory::{ALIGNMENT_BYTES, SLACK_BYTES};
pub use geometry::Conv2d;
pub use operation::*;
pub use recurrent::{Cell, Direction, Recurrent, RecurrentWeights};
pub use weights::Weights;

use crate::{cache::form, datatype::Datatype, tensor::Tensor};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A buffer, by its place in [`Plan::buffers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BufferId(pub usize);

/// The order in which elements lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Layout {
    /// As ONNX has them: row-major over the shape.
    Rows,
    /// The second axis, channels, fastest: N, spatial axes, C.
    ChannelsLast,
}

/// Where a buffer's bytes are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Place {
    /// In the arena, from this byte on.
    Arena(usize),
    /// The memory of another buffer, while offsets are not assigned.
    View(BufferId),
    /// The memory of another buffer from this byte on, while offsets are not assigned.
    Part(BufferId, usize),
    /// In the model.
    #[serde(with = "form::constant")]
    Constant(Arc<Tensor>),
    /// In a slot of its own outside the arena: elements without a fixed size.
    Outside(usize),
}

/// Bytes of elements of one type.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Buffer {
    /// Element type. A shifted int8 buffer is [`Datatype::Uint8`].
    pub datatype: Datatype,
    /// Sizes in ONNX's order of axes, whatever the layout.
    pub shape: Vec<usize>,
    /// The order of its elements.
    pub layout: Layout,
    /// Where it is.
    pub place: Place,
}

impl Buffer {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its size; 0 for strings, which lie outside the arena.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.len() * self.datatype.size_bytes().unwrap_or(0)
    }
}

/// One thing to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    /// What.
    pub operation: Operation,
    /// What it reads.
    pub inputs: Vec<BufferId>,
    /// What it writes.
    pub outputs: Vec<BufferId>,
    /// The node it came from, for people.
    pub name: String,
    /// The ONNX operators it stands for, for people.
    pub operators: Vec<String>,
}

/// A flat list of steps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// All buffers.
    pub buffers: Vec<Buffer>,
    /// In the order in which they run.
    pub steps: Vec<Step>,
    /// Where the given tensors go, in their order.
    pub inputs: Vec<BufferId>,
    /// Where the answers are, in their order.
    pub outputs: Vec<BufferId>,
    /// Size of the arena; 0 until offsets are assigned.
    pub arena_bytes: usize,
    /// Slots outside the arena.
    pub outside: usize,
}

impl Plan {
    /// A buffer.
    ///
    /// # Panics
    /// The id is of another plan.
    #[must_use]
    pub fn buffer(&self, id: BufferId) -> &Buffer {
        &self.buffers[id.0]
    }

    /// Multiplications with accumulation per run, of convolutions and matrix products.
    #[must_use]
    pub fn macs(&self) -> u64 {
        self.steps.iter().map(|step| step.operation.macs()).sum()
    }
}

//! A model as a program: plans made for the shapes that come, and what holds them together.
//!
//! A plan covers everything whose shapes follow from the inputs' shapes. Most models are one plan. Where a shape depends on data, the
//! program runs what it can, looks at the value, and goes on with a plan for what it found. Plans are kept for shapes seen lately.
//!
//! | module | holds |
//! |---|---|
//! | `engine` | what runs a plan: the CPU, a GPU |
//! | `segments` | plans by what is known before them |
//! | `drive` | runs segment after segment |
//! | `dynamic` | nodes whose output shapes only a run tells, loops among them |
//! | `file` | the model's file, decoded when somebody asks |
//! | `kept` | segments to a plan cache and back |
//! | `probe` | outputs of a model whose smallest inputs make no sense |
//! | `scan` | bodies over slices of tensors |
//! | `session` | the model and its sessions |

mod drive;
mod dynamic;
mod engine;
mod file;
mod kept;
mod probe;
mod scan;
mod segments;
mod session;

pub use engine::Engine;
pub use session::{knows, load};

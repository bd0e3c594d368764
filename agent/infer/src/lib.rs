//! Tensors, model import, and what runs a model.
//!
//! A [`Backend`] turns the bytes of an ONNX file into a [`Model`]; a model gives out [`Session`]s, one per thread; a
//! session runs. Nothing here knows a network, a bundle or a clock. Whatever a file or a tensor holds, the answer is a
//! value or a typed error, never a panic and never an allocation that the caller's limits do not allow.
//!
//! | module | holds |
//! |---|---|
//! | [`cores`] | processors by their numbers |
//! | [`datatype`] | element types under their Open Inference Protocol names, and the Rust types behind them |
//! | [`cache`] | plans that are ready to run, in files |
//! | [`source`] | where a model's bytes come from |
//! | [`tensor`] | a checked array of such elements |
//! | [`mod@backend`] | the three traits |
//! | [`error`] | why a model was not loaded or not run |
//! | [`limits`] | what a file from outside may ask for |
//! | [`memory`] | how much memory a model may take |
//! | `graph`, `rules`, `compile` | an ONNX file as a graph, what its operators make of shapes, and a plan of it |
//! | [`plan`] | what an engine runs: a flat list of operations over planned memory |
//! | `profile` | what a run spends on each layer |
//! | [`program`] | a model as plans made for the shapes that come, run by an [`Engine`] |
//! | `single`, `reference` | nodes that run on their own, and plain implementations of operators without a kernel |
//! | `tract` | import of files, operators that no kernel exists for, and whole models |

pub mod backend;
mod binding;
pub mod cache;
mod compile;
pub mod cores;
pub mod datatype;
pub mod error;
mod graph;
pub mod limits;
pub mod memory;
pub mod plan;
mod profile;
pub mod program;
mod reference;
mod rules;
mod single;
pub mod source;
pub mod tensor;
mod tract;

pub use backend::{Backend, LoadOptions, Model, Session, TensorInfo, load_file, operators, tract};
pub use cache::PlanCache;
pub use compile::CompileError;
pub use cores::Cores;
pub use datatype::{Datatype, Element};
pub use error::{LoadError, RunError};
pub use limits::ImportLimits;
pub use memory::{Footprint, MemoryError};
pub use profile::{LayerInfo, LayerTime, RunProfile};
pub use program::Engine;
pub use single::Single;
pub use source::Source;
pub use tensor::{Tensor, TensorError, element_count};

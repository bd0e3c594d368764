//! The declared steps before and after a model.
//!
//! [`Program::compile`] checks every name, element type and rank when a bundle is loaded, so that a request can only
//! fail for what it holds itself. Running a program is a function of its [`Environment`]: no file, no clock.
//!
//! | module | holds |
//! |---|---|
//! | [`environment`] | named tensors |
//! | [`program`] | compiled steps, and running them |
//! | `compile` | the checks |
//! | `ops` | what each operation does to a tensor |

mod compile;
pub mod environment;
mod ops;
pub mod program;

pub use compile::{CompileError, Interface, datatype, spec_of};
pub use environment::Environment;
pub use program::{Program, StepError};

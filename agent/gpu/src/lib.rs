//! The GPUs of the machine, through wgpu. The only crate that links a GPU API.
//!
//! Vulkan is loaded at run time: on a machine without it, [`adapters`] finds nothing and nothing fails.

mod adapter;

pub use adapter::{Adapter, Limits, adapters};

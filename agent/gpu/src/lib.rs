//! The GPUs of the machine, through wgpu. The only crate that links a GPU API.
//!
//! Vulkan is loaded at run time: on a machine without it, [`adapters`] finds nothing and nothing fails.
//!
//! | module | holds |
//! |---|---|
//! | `adapter` | what there is, and what it can do |
//! | `backend` | the backend of this crate |
//! | `device` | a device of one adapter, and what goes wrong with it |
//! | `engine` | runs plans on a device |
//! | `kernels` | compute shaders, and what a plan's operations become of them |
//! | `probe` | whether a device rounds as exact results need it |

mod adapter;
mod backend;
mod device;
mod engine;
mod kernels;
mod probe;

pub use adapter::{Adapter, Limits, adapters};
pub use backend::{Gpu, HOW_TO_GET_ADAPTER, NO_ADAPTER};
pub use device::GpuError;
pub use engine::GpuEngine;

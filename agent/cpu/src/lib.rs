//! Exact int8 and f32 kernels for the CPU.
//!
//! | module | holds |
//! |---|---|
//! | [`engine`] | runs plans on these kernels |
//! | [`fconv`] | f32 convolutions and matrix products |
//! | [`geometry`] | the sizes of a convolution |
//! | [`isa`] | the instruction sets, which of them this machine has, and `WHIMBREL_CPU` |
//! | [`packed`] | packed weights, owned or lying in a plan cache |
//! | [`pointwise`] | everything that is neither a convolution nor a matrix product |
//! | [`qconv`] | int8 convolution: dense, grouped, depthwise, fully connected |
//! | [`recurrent`] | LSTM, GRU and plain recurrent layers |
//! | `simd` | vectors of f32 over the instruction sets |
//! | [`threads`] | a fixed set of threads that work on parts of a step |

pub mod engine;
pub mod fconv;
pub mod geometry;
pub mod isa;
pub mod packed;
pub mod pointwise;
pub mod qconv;
pub mod recurrent;
mod simd;
pub mod threads;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use engine::{Cpu, CpuEngine};

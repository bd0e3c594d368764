//! Exact int8 and f32 kernels for the CPU.
//!
//! | module | holds |
//! |---|---|
//! | [`isa`] | the instruction sets, which of them this machine has, and `WHIMBREL_CPU` |
//! | [`geometry`] | the sizes of a convolution |
//! | [`packed`] | packed weights, owned or lying in a plan cache |
//! | [`qconv`] | int8 convolution: dense, grouped, depthwise, fully connected |

#[cfg(target_arch = "aarch64")]
mod aarch64;
pub mod geometry;
pub mod isa;
pub mod packed;
pub mod qconv;
#[cfg(target_arch = "x86_64")]
mod x86_64;

//! Exact int8 and f32 kernels for the CPU.
//!
//! | module | holds |
//! |---|---|
//! | [`isa`] | the instruction sets, which of them this machine has, and `WHIMBREL_CPU` |
//! | [`geometry`] | the sizes of a convolution |
//! | [`packed`] | packed weights, owned or lying in a plan cache |
//! | [`pointwise`] | everything that is neither a convolution nor a matrix product |

#[cfg(target_arch = "aarch64")]
mod aarch64;
pub mod geometry;
pub mod isa;
pub mod packed;
pub mod pointwise;
#[cfg(target_arch = "x86_64")]
mod x86_64;

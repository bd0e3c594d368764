//! Exact int8 and f32 kernels for the CPU.
//!
//! | module | holds |
//! |---|---|
//! | [`fconv`] | f32 convolutions and matrix products |
//! | [`geometry`] | the sizes of a convolution |
//! | [`isa`] | the instruction sets, which of them this machine has, and `WHIMBREL_CPU` |
//! | [`packed`] | packed weights, owned or lying in a plan cache |
//! | `simd` | vectors of f32 over the instruction sets |

pub mod fconv;
pub mod geometry;
pub mod isa;
pub mod packed;
mod simd;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

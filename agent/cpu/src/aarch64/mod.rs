//! Kernels for aarch64.
#![allow(
    unsafe_code,
    reason = "loads and stores of vectors, instructions without stable intrinsics, and calls of functions for \
              instruction sets this machine has"
)]

pub(crate) mod f32_neon;
pub(crate) mod lut;
pub(crate) mod qbinary;
mod qdense;
mod qdepthwise;
mod qdot;

pub(crate) use qdense::{panel_dotprod, panel_i8mm, panel_neon};
pub(crate) use qdepthwise::{interleave_quads8, interleave_signed8, line_dotprod, line_i8mm, line_neon};

//! Kernels for x86-64.
#![allow(
    unsafe_code,
    reason = "loads and stores of vectors, and calls of functions for instruction sets this machine has"
)]

pub(crate) mod f32_avx2;
pub(crate) mod f32_avx512;
pub(crate) mod interleave;
pub(crate) mod lut;
pub(crate) mod memory;
pub(crate) mod multiversion;
pub(crate) mod qbinary;
mod qdense;
mod qdepthwise;
mod qdot;
mod qfinish;
mod qshuffle;
mod qstore;
pub(crate) mod transpose;

pub(crate) use qdense::{
    panel_avx_vnni, panel_avx2_pairs16, panel_avx2_quads8, panel_avx2_signed8, panel_avx512_vnni,
};
pub(crate) use qdepthwise::{
    interleave_pairs16, interleave_quads8, line_avx_vnni, line_avx2, line_avx512_vnni,
};
pub(crate) use qfinish::{finish_avx2, finish_avx512};

//! Kernels for x86-64.
#![allow(
    unsafe_code,
    reason = "loads and stores of vectors, and calls of functions for instruction sets this machine has"
)]

mod qdense;
mod qfinish;

pub(crate) use qdense::{
    panel_avx_vnni, panel_avx2_pairs16, panel_avx2_quads8, panel_avx2_signed8, panel_avx512_vnni,
};
pub(crate) use qfinish::{finish_avx2, finish_avx512};

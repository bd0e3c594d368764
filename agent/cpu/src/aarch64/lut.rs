//! Lookup in a table of 256 bytes with the table instructions of Advanced SIMD.
#![allow(unsafe_code, reason = "vector loads and stores take pointers")]

use crate::isa::Isa;
use std::arch::aarch64::{
    uint8x16_t, uint8x16x4_t, vdupq_n_u8, vld1q_u8, vqtbl4q_u8, vqtbx4q_u8, vst1q_u8, vsubq_u8,
};

/// Elements looked up at a time.
const LANES: usize = 16;

/// Looks every element up, if this machine has the instructions; says whether it has. The slices are equally long.
pub(crate) fn run(isa: Isa, table: &[u8; 256], input: &[u8], output: &mut [u8]) -> bool {
    let usable = isa != Isa::Generic && isa.is_available();
    if usable {
        // SAFETY: Advanced SIMD is there, as it is wherever one of these is available.
        unsafe { vectors(table, input, output) }
    }
    usable
}

#[target_feature(enable = "neon")]
fn vectors(table: &[u8; 256], input: &[u8], output: &mut [u8]) {
    let parts: [uint8x16_t; 16] = std::array::from_fn(|part| load(&table.as_chunks::<LANES>().0[part]));
    let quarter = |at: usize| uint8x16x4_t(parts[at], parts[at + 1], parts[at + 2], parts[at + 3]);
    let quarters = [quarter(0), quarter(4), quarter(8), quarter(12)];
    let ((inputs, rest), (outputs, out_rest)) = (input.as_chunks::<LANES>(), output.as_chunks_mut::<LANES>());
    for (out, elements) in outputs.iter_mut().zip(inputs) {
        let elements = load(elements);
        // Places beyond a quarter give 0 at first, and leave the result as it is afterwards.
        let mut result = vqtbl4q_u8(quarters[0], elements);
        result = vqtbx4q_u8(result, quarters[1], vsubq_u8(elements, vdupq_n_u8(64)));
        result = vqtbx4q_u8(result, quarters[2], vsubq_u8(elements, vdupq_n_u8(128)));
        result = vqtbx4q_u8(result, quarters[3], vsubq_u8(elements, vdupq_n_u8(192)));
        store(out, result);
    }
    for (out, element) in out_rest.iter_mut().zip(rest) {
        *out = table[usize::from(*element)];
    }
}

#[inline(always)]
fn load(from: &[u8; LANES]) -> uint8x16_t {
    // SAFETY: the reference is valid for 16 bytes, and Advanced SIMD is part of aarch64.
    unsafe { vld1q_u8(from.as_ptr()) }
}

#[inline(always)]
fn store(to: &mut [u8; LANES], vector: uint8x16_t) {
    // SAFETY: the reference is valid for 16 bytes, and Advanced SIMD is part of aarch64.
    unsafe { vst1q_u8(to.as_mut_ptr(), vector) }
}

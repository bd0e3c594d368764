//! Lookup in a table of 256 bytes with the byte permutations of AVX-512 VBMI.

use super::memory::{load_64, store_64};
use crate::isa::Isa;
use std::arch::x86_64::{_mm512_mask_blend_epi8, _mm512_movepi8_mask, _mm512_permutex2var_epi8};

/// Elements looked up at a time.
const LANES: usize = 64;

/// Looks every element up, if this machine has the instructions; says whether it has. The slices are equally
/// long.
pub(crate) fn run(isa: Isa, table: &[u8; 256], input: &[u8], output: &mut [u8]) -> bool {
    let usable = isa == Isa::Avx512Vnni && isa.is_available() && is_x86_feature_detected!("avx512vbmi");
    if usable {
        #[allow(unsafe_code, reason = "calls code for an instruction set that was checked above")]
        // SAFETY: AVX-512 F, BW and VBMI are there.
        unsafe {
            permuted(table, input, output);
        }
    }
    usable
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn permuted(table: &[u8; 256], input: &[u8], output: &mut [u8]) {
    let (parts, _) = table.as_chunks::<LANES>();
    let [a, b, c, d] = [0, 1, 2, 3].map(|part| load_64(&parts[part]));
    let ((inputs, rest), (outputs, out_rest)) = (input.as_chunks::<LANES>(), output.as_chunks_mut::<LANES>());
    for (out, elements) in outputs.iter_mut().zip(inputs) {
        let elements = load_64(elements);
        let low = _mm512_permutex2var_epi8(a, elements, b);
        let high = _mm512_permutex2var_epi8(c, elements, d);
        store_64(out, _mm512_mask_blend_epi8(_mm512_movepi8_mask(elements), low, high));
    }
    for (out, element) in out_rest.iter_mut().zip(rest) {
        *out = table[usize::from(*element)];
    }
}

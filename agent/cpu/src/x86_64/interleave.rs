//! Three planes of bytes as pixels.

use super::memory::{load_16, store_16};
use crate::isa::Isa;
use std::arch::x86_64::{__m128i, _mm_or_si128, _mm_shuffle_epi8};

/// Pixels written at a time.
const LANES: usize = 16;

/// Where each byte of three vectors of pixels comes from, for each of three planes; a high bit gives zero.
const PLACES: [[[u8; LANES]; 3]; 3] = places();

const fn places() -> [[[u8; LANES]; 3]; 3] {
    let mut places = [[[0x80; LANES]; 3]; 3];
    let mut byte = 0;
    while byte < 3 * LANES {
        places[byte / LANES][byte % 3][byte % LANES] = (byte / 3) as u8;
        byte += 1;
    }
    places
}

/// Interleaves whole vectors of three planes that lie one after another; says how many pixels that were. Zero
/// means that the machine lacks the instructions.
pub(crate) fn three(isa: Isa, planes: &[u8], output: &mut [u8]) -> usize {
    if !matches!(isa, Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni) || !isa.is_available() {
        return 0;
    }
    #[allow(unsafe_code, reason = "calls code for an instruction set that was checked above")]
    // SAFETY: AVX2, and with it SSSE3, is there wherever one of the three is available.
    unsafe {
        vectors(planes, output)
    }
}

#[target_feature(enable = "avx2")]
fn vectors(planes: &[u8], output: &mut [u8]) -> usize {
    let len = planes.len() / 3;
    let [a, b, c] = [0, 1, 2].map(|plane| planes[plane * len..][..len].as_chunks::<LANES>().0);
    let places: [[__m128i; 3]; 3] = PLACES.each_ref().map(|places| places.each_ref().map(load_16));
    let pixels = output.as_chunks_mut::<{ 3 * LANES }>().0;
    for (((pixels, a), b), c) in pixels.iter_mut().zip(a).zip(b).zip(c) {
        let planes = [a, b, c].map(load_16);
        for (part, places) in pixels.as_chunks_mut::<LANES>().0.iter_mut().zip(places) {
            let [a, b, c] = [0, 1, 2].map(|plane| _mm_shuffle_epi8(planes[plane], places[plane]));
            store_16(part, _mm_or_si128(_mm_or_si128(a, b), c));
        }
    }
    a.len() * LANES
}

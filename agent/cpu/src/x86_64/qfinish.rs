//! Finishing of int32 sums, compiled for x86-64 instruction sets.

use crate::{
    isa::Isa,
    qconv::finish::{Block, Columns, Finish, Place, finish},
};

pub(crate) fn finish_avx2(block: &Block<'_>, columns: &Columns<'_>, how: &Finish, place: Place<'_, '_>) {
    debug_assert!(Isa::Avx2.is_available());
    // SAFETY: a layer for AVX2 is run only where `Isa::Avx2` is available (`QConv::run` asserts it).
    unsafe { avx2(block, columns, how, place) }
}

pub(crate) fn finish_avx512(block: &Block<'_>, columns: &Columns<'_>, how: &Finish, place: Place<'_, '_>) {
    debug_assert!(Isa::Avx512Vnni.is_available());
    // SAFETY: as above, with `Isa::Avx512Vnni`.
    unsafe { avx512(block, columns, how, place) }
}

#[target_feature(enable = "avx2,fma")]
fn avx2(block: &Block<'_>, columns: &Columns<'_>, how: &Finish, place: Place<'_, '_>) {
    finish::<true>(block, columns, how, place);
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512(block: &Block<'_>, columns: &Columns<'_>, how: &Finish, place: Place<'_, '_>) {
    finish::<true>(block, columns, how, place);
}

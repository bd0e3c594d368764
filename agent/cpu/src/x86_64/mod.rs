//! Kernels in x86-64 intrinsics. With [`crate::aarch64`], the only place where the crate has unsafe code.

pub(crate) mod f32_avx2;
pub(crate) mod f32_avx512;

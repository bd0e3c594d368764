//! Kernels in aarch64 intrinsics. With `x86_64`, the only place where the crate has unsafe code.

pub(crate) mod f32_neon;

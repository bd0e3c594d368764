//! Kernels for aarch64.

pub(crate) mod lut;
pub(crate) mod qbinary;

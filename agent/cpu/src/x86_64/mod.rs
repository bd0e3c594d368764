//! Kernels for x86-64.

pub(crate) mod interleave;
pub(crate) mod lut;
pub(crate) mod memory;
pub(crate) mod multiversion;
pub(crate) mod qbinary;
pub(crate) mod transpose;

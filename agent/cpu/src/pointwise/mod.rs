//! Everything that is neither a convolution nor a matrix product, as functions over slices.
//!
//! They split no work themselves: those that go element by element take any part of the tensors, the others a
//! range of rows, and each writes exactly the output slice it is given. Quantised elements are u8; those of
//! an int8 tensor are stored shifted by 128, as is their zero point ([`Quantisation`]).
//!
//! | module | holds |
//! |---|---|
//! | [`quantise`] | f32 to u8 and back, also with a change of layout; the range of a tensor |
//! | [`lut`] | functions of one quantised tensor, as tables of 256 entries |
//! | [`qbinary`] | sums and products of quantised tensors |
//! | [`qsoftmax`] | softmax of quantised tensors |
//! | [`qpool`] | pooling of quantised tensors |
//! | [`pool`] | the sizes of a pooling, and pooling of f32 tensors |
//! | [`binary`] | arithmetic on two f32 tensors |
//! | [`unary`] | functions of one f32 tensor |
//! | [`math`] | the functions of one number behind them, with their error bounds |
//! | [`normalise`] | softmax and normalisations |
//! | [`reduce`] | sums, means and extremes along axes |
//! | [`broadcast`] | which elements meet when two shapes differ |
//! | [`layout`] | transposition, concatenation, slices, padding |
//! | [`resize`] | nearest and linear resizing |

pub mod binary;
pub mod broadcast;
pub mod layout;
pub mod lut;
pub mod math;
#[cfg(not(target_arch = "x86_64"))]
mod multiversion;
pub mod normalise;
pub mod pool;
pub mod qbinary;
pub mod qpool;
pub mod qsoftmax;
pub mod quantise;
pub mod reduce;
pub mod resize;
#[cfg(test)]
mod tests;
pub mod unary;

#[cfg(target_arch = "x86_64")]
pub(crate) use crate::x86_64::multiversion::multiversion;
#[cfg(not(target_arch = "x86_64"))]
pub(crate) use multiversion::multiversion;

pub use quantise::Quantisation;

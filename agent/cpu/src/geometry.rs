//! The sizes of a convolution.

pub use whimbrel_infer::plan::Conv2d;

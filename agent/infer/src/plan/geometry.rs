//! The sizes of a convolution.

use serde::{Deserialize, Serialize};

/// A two-dimensional convolution over NHWC data. A one-dimensional one has height 1; a matrix product of `rows x in_c` by
/// `in_c x out_c` is one with a 1 x 1 kernel over `in_w = rows` pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conv2d {
    /// Images.
    pub batch: usize,
    /// Rows of the input, in pixels.
    pub in_h: usize,
    /// Columns of the input, in pixels.
    pub in_w: usize,
    /// Channels of the input.
    pub in_c: usize,
    /// Channels of the output.
    pub out_c: usize,
    /// Rows of the kernel.
    pub kernel_h: usize,
    /// Columns of the kernel.
    pub kernel_w: usize,
    /// Pixels between output rows, in the input.
    pub stride_h: usize,
    /// Pixels between output columns, in the input.
    pub stride_w: usize,
    /// Pixels between kernel rows, in the input.
    pub dilation_h: usize,
    /// Pixels between kernel columns, in the input.
    pub dilation_w: usize,
    /// Padding above, left, below and right, in pixels.
    pub pad: [usize; 4],
    /// Groups; both channel counts are multiples of it.
    pub groups: usize,
}

impl Conv2d {
    /// A product of a `rows x in_c` matrix by an `in_c x out_c` one.
    #[must_use]
    pub const fn matmul(rows: usize, in_c: usize, out_c: usize) -> Self {
        Self {
            batch: 1,
            in_h: 1,
            in_w: rows,
            in_c,
            out_c,
            kernel_h: 1,
            kernel_w: 1,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            pad: [0; 4],
            groups: 1,
        }
    }

    /// Rows of the output, in pixels.
    #[must_use]
    #[inline]
    pub const fn out_h(&self) -> usize {
        out_size(self.in_h + self.pad[0] + self.pad[2], self.kernel_h, self.dilation_h, self.stride_h)
    }

    /// Columns of the output, in pixels.
    #[must_use]
    #[inline]
    pub const fn out_w(&self) -> usize {
        out_size(self.in_w + self.pad[1] + self.pad[3], self.kernel_w, self.dilation_w, self.stride_w)
    }

    /// Output pixels of all images.
    #[must_use]
    pub const fn out_pixels(&self) -> usize {
        self.batch * self.out_h() * self.out_w()
    }

    /// Elements of the input.
    #[must_use]
    pub const fn in_len(&self) -> usize {
        self.batch * self.in_h * self.in_w * self.in_c
    }

    /// Elements of the output.
    #[must_use]
    pub const fn out_len(&self) -> usize {
        self.out_pixels() * self.out_c
    }

    /// Multiplications with accumulation.
    #[must_use]
    pub const fn macs(&self) -> u64 {
        self.out_len() as u64 * (self.kernel_h * self.kernel_w * self.in_c / self.groups) as u64
    }

    /// Whether every output pixel reads exactly the input pixel at its own place.
    #[must_use]
    pub const fn is_pointwise(&self) -> bool {
        self.kernel_h == 1
            && self.kernel_w == 1
            && self.stride_h == 1
            && self.stride_w == 1
            && matches!(self.pad, [0, 0, 0, 0])
    }

    /// Whether each channel is convolved on its own.
    #[must_use]
    pub const fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.in_c && self.groups == self.out_c
    }
}

#[inline]
const fn out_size(padded: usize, kernel: usize, dilation: usize, stride: usize) -> usize {
    let span = (kernel - 1) * dilation + 1;
    if padded < span { 0 } else { (padded - span) / stride + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_onnx() {
        let conv = Conv2d {
            in_h: 224,
            in_w: 224,
            kernel_h: 3,
            kernel_w: 3,
            stride_h: 2,
            stride_w: 2,
            pad: [0, 0, 1, 1],
            ..Conv2d::matmul(1, 3, 32)
        };
        assert_eq!((conv.out_h(), conv.out_w()), (112, 112));
        assert_eq!(conv.macs(), 112 * 112 * 32 * 27);
        let small = Conv2d { in_h: 2, in_w: 2, pad: [0; 4], ..conv };
        assert_eq!(small.out_pixels(), 0);
    }
}

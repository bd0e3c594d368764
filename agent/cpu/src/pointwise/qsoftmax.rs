//! Softmax of quantised tensors, as `QLinearSoftmax` of ONNX Runtime.

use super::quantise::{Quantisation, nearest};

/// A softmax over rows of one length.
#[derive(Debug, Clone, PartialEq)]
pub struct QSoftmax {
    /// The exponential of each element, where the greatest of a row is 255.
    exponentials: Box<[f32; 256]>,
    row_len: usize,
    factor: f32,
    zero: u8,
}

impl QSoftmax {
    /// Of rows of `row_len` elements.
    #[must_use]
    pub fn new(input: Quantisation, output: Quantisation, row_len: usize) -> Self {
        let scale = f64::from(input.scale);
        let reserve = f64::from(f32::MAX / row_len as f32).ln() - 5.0;
        let offset = reserve.max(0.0) / scale;
        let exponentials =
            std::array::from_fn(|element| ((element as f64 - 255.0 + offset) * scale).exp() as f32);
        Self {
            exponentials: Box::new(exponentials),
            row_len,
            factor: (1.0 / output.scale).floor(),
            zero: output.zero,
        }
    }

    /// Softmax of every row.
    ///
    /// # Panics
    /// The slices differ in length.
    pub fn run(&self, input: &[u8], output: &mut [u8]) {
        assert_eq!(input.len(), output.len(), "as many elements out as in");
        let rows = input.chunks_exact(self.row_len.max(1));
        for (input, output) in rows.zip(output.chunks_exact_mut(self.row_len.max(1))) {
            self.row(input, output);
        }
    }

    fn row(&self, input: &[u8], output: &mut [u8]) {
        let Some(greatest) = input.iter().max() else { return };
        let shift = 255 - greatest;
        let sum: f32 =
            input.iter().fold(0.0, |sum, element| sum + self.exponentials[usize::from(element + shift)]);
        if sum == 0.0 {
            return;
        }
        // There are no more than 256 quotients, which vectors divide faster than long rows.
        if input.len() < 64 {
            for (out, element) in output.iter_mut().zip(input) {
                *out = self.quotient(self.exponentials[usize::from(element + shift)], sum);
            }
            return;
        }
        let quotients = self.exponentials.each_ref().map(
            #[inline(always)]
            |exponential| self.quotient(*exponential, sum),
        );
        for (out, element) in output.iter_mut().zip(input) {
            *out = quotients[usize::from(element + shift)];
        }
    }

    #[inline(always)]
    fn quotient(&self, exponential: f32, sum: f32) -> u8 {
        // Those of elements that the row does not have may be larger.
        let share = (exponential * self.factor / sum).min(255.0);
        (nearest(share) + i32::from(self.zero)).min(255) as u8
    }
}

//! What each operation does to a tensor.

use std::cmp::Ordering;
use whimbrel_infer::{Tensor, TensorError, element_count};
use whimbrel_wire::pipeline::Op;

/// Why an operation cannot work on a tensor.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum OpError {
    /// The tensor read is not there.
    #[error("the tensor read does not exist")]
    Absent,
    /// The tensor has another element type or size than the operation takes.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The tensor has no axis to work along.
    #[error("the tensor has no axis, expected at least one")]
    Scalar,
    /// There are fewer elements along the last axis than asked for.
    #[error("the last axis has {found} elements, {k} were asked for")]
    TooFew {
        /// How many were asked for.
        k: usize,
        /// How many there are.
        found: usize,
    },
    /// The last axis does not match the labels.
    #[error("the last axis has {found} elements and there are {labels} labels")]
    Labels {
        /// How many labels there are.
        labels: usize,
        /// How many elements there are.
        found: usize,
    },
    /// The elements do not fill the shape.
    #[error("{elements} elements do not fill the shape {shape:?}")]
    Reshape {
        /// How many elements there are.
        elements: usize,
        /// The shape asked for.
        shape: Vec<i64>,
    },
    /// The result is not finite.
    #[error("the result is not finite")]
    NonFinite,
}

/// Applies an operation.
pub(crate) fn apply(op: &Op, labels: &[String], tensor: &Tensor) -> Result<Tensor, OpError> {
    match op {
        Op::Scale { multiply, add } => elementwise(tensor, |x| x * multiply + add),
        Op::Clamp { min, max } => elementwise(tensor, |x| clamp(x, *min, *max)),
        Op::Reshape { shape } => reshape(tensor, shape),
        Op::Softmax {} => softmax(tensor),
        Op::TopKLabels { k } => top_k_labels(tensor, *k as usize, labels),
        Op::TopKValues { k } => top_k_values(tensor, *k as usize),
    }
}

/// Unlike `f32::clamp` it cannot panic, and unlike `max` and `min` it does not turn NaN into a number.
fn clamp(x: f32, min: f32, max: f32) -> f32 {
    if x < min {
        min
    } else if x > max {
        max
    } else {
        x
    }
}

fn elementwise(tensor: &Tensor, f: impl Fn(f32) -> f32) -> Result<Tensor, OpError> {
    let values: Vec<f32> = tensor.to_f32s()?.into_iter().map(f).collect();
    finite(tensor.shape().to_vec(), &values)
}

fn finite(shape: Vec<usize>, values: &[f32]) -> Result<Tensor, OpError> {
    if values.iter().all(|v| v.is_finite()) {
        Ok(Tensor::from_values(shape, values)?)
    } else {
        Err(OpError::NonFinite)
    }
}

fn reshape(tensor: &Tensor, shape: &[i64]) -> Result<Tensor, OpError> {
    let fail = || OpError::Reshape { elements: tensor.len(), shape: shape.to_vec() };
    let sizes: Vec<Option<usize>> = shape.iter().map(|d| usize::try_from(*d).ok()).collect();
    let known: Vec<usize> = sizes.iter().flatten().copied().collect();
    let product = element_count(&known).ok_or_else(fail)?;
    let computed = tensor.len().checked_div(product).unwrap_or(0);
    let sizes: Vec<usize> = sizes.into_iter().map(|d| d.unwrap_or(computed)).collect();
    tensor.clone().reshaped(sizes).map_err(|_| fail())
}

/// Elements along the last axis.
fn row_len(tensor: &Tensor) -> Result<usize, OpError> {
    tensor.shape().last().copied().ok_or(OpError::Scalar)
}

fn softmax(tensor: &Tensor) -> Result<Tensor, OpError> {
    let len = row_len(tensor)?;
    let mut values = tensor.to_f32s()?;
    for row in values.chunks_exact_mut(len.max(1)) {
        // Without the largest element subtracted, exp overflows from 89 on.
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter_mut().for_each(|x| *x = (*x - max).exp());
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|x| *x /= sum);
    }
    finite(tensor.shape().to_vec(), &values)
}

/// What `top_k` picks, row by row.
struct Picked {
    shape: Vec<usize>,
    /// Index along the last axis, and value.
    elements: Vec<(usize, f32)>,
}

/// The `k` largest elements of each row, largest first; equal elements in the order of their indices.
fn top_k(tensor: &Tensor, k: usize) -> Result<Picked, OpError> {
    let len = row_len(tensor)?;
    if k > len {
        return Err(OpError::TooFew { k, found: len });
    }
    let values = tensor.to_f32s()?;
    if values.iter().any(|v| v.is_nan()) {
        return Err(OpError::NonFinite);
    }
    let mut elements = Vec::with_capacity(values.len().checked_div(len).unwrap_or(0).saturating_mul(k));
    for row in values.chunks_exact(len.max(1)) {
        let mut ranked: Vec<(usize, f32)> = row.iter().copied().enumerate().collect();
        // Not total_cmp: it puts 0 above -0, which are equal. NaN was refused above.
        ranked.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0)));
        elements.extend(ranked.into_iter().take(k));
    }
    let mut shape = tensor.shape().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = k;
    }
    Ok(Picked { shape, elements })
}

#[allow(clippy::cast_possible_wrap, reason = "an index into a tensor that is in memory")]
fn top_k_labels(tensor: &Tensor, k: usize, labels: &[String]) -> Result<Tensor, OpError> {
    let found = row_len(tensor)?;
    if !labels.is_empty() && labels.len() != found {
        return Err(OpError::Labels { labels: labels.len(), found });
    }
    let Picked { shape, elements } = top_k(tensor, k)?;
    if labels.is_empty() {
        let indices: Vec<i64> = elements.iter().map(|(i, _)| *i as i64).collect();
        return Ok(Tensor::from_values(shape, &indices)?);
    }
    let names = elements.iter().map(|(i, _)| labels.get(*i).cloned().unwrap_or_default().into_bytes());
    Ok(Tensor::from_strings(shape, names.collect())?)
}

fn top_k_values(tensor: &Tensor, k: usize) -> Result<Tensor, OpError> {
    let Picked { shape, elements } = top_k(tensor, k)?;
    let values: Vec<f32> = elements.into_iter().map(|(_, v)| v).collect();
    Ok(Tensor::from_values(shape, &values)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use whimbrel_infer::Datatype;

    fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_values(shape.to_vec(), values).expect("valid")
    }

    fn floats(tensor: &Tensor) -> Vec<f32> {
        tensor.values::<f32>().expect("f32").collect()
    }

    #[test]
    fn scale_and_clamp_work_in_f32_on_any_number() {
        let bytes = Tensor::from_values(vec![3], &[0u8, 128, 255]).expect("valid");
        let scaled = apply(&Op::Scale { multiply: 2.0, add: -1.0 }, &[], &bytes).expect("works");
        assert_eq!(floats(&scaled), [-1.0, 255.0, 509.0]);
        let clamped = apply(&Op::Clamp { min: 0.0, max: 300.0 }, &[], &scaled).expect("works");
        assert_eq!(floats(&clamped), [0.0, 255.0, 300.0]);
    }

    #[test]
    fn results_that_are_not_finite_are_refused() {
        let nan = f32s(&[1], &[f32::NAN]);
        for op in [
            Op::Scale { multiply: 1.0, add: 0.0 },
            Op::Clamp { min: 0.0, max: 1.0 },
            Op::Softmax {},
            Op::TopKLabels { k: 1 },
            Op::TopKValues { k: 1 },
        ] {
            assert_eq!(apply(&op, &[], &nan), Err(OpError::NonFinite), "{op:?}");
        }
        let big = f32s(&[1], &[f32::MAX]);
        assert_eq!(apply(&Op::Scale { multiply: 2.0, add: 0.0 }, &[], &big), Err(OpError::NonFinite));
    }

    #[test]
    fn softmax_of_large_values_does_not_overflow() {
        let t = f32s(&[2, 2], &[1000.0, 1000.0, -1000.0, 0.0]);
        assert_eq!(floats(&apply(&Op::Softmax {}, &[], &t).expect("works")), [0.5, 0.5, 0.0, 1.0]);
    }

    #[test]
    fn ties_go_to_the_lower_index() {
        let t = f32s(&[2, 3], &[1.0, 3.0, 3.0, -0.0, 0.0, -0.0]);
        let labels = ["a", "b", "c"].map(String::from);
        let top = apply(&Op::TopKLabels { k: 2 }, &labels, &t).expect("works");
        assert_eq!(top.shape(), [2, 2]);
        assert_eq!(top.as_strings().expect("labels"), ["b", "c", "a", "b"].map(|s| s.as_bytes().to_vec()));
        let top = apply(&Op::TopKLabels { k: 2 }, &[], &t).expect("works");
        assert_eq!(top.values::<i64>().expect("indices").collect::<Vec<_>>(), [1, 2, 0, 1]);
    }

    #[test]
    fn tensors_that_do_not_fit_are_refused() {
        let t = f32s(&[2], &[1.0, 2.0]);
        let labels = ["a"].map(String::from);
        assert_eq!(apply(&Op::TopKLabels { k: 3 }, &[], &t), Err(OpError::TooFew { k: 3, found: 2 }));
        assert_eq!(
            apply(&Op::TopKLabels { k: 1 }, &labels, &t),
            Err(OpError::Labels { labels: 1, found: 2 })
        );
        assert_eq!(apply(&Op::Softmax {}, &[], &f32s(&[], &[1.0])), Err(OpError::Scalar));
        let strings = Tensor::from_strings(vec![1], vec![b"x".to_vec()]).expect("valid");
        assert!(matches!(apply(&Op::Softmax {}, &[], &strings), Err(OpError::Tensor(_))));
        for shape in [vec![3], vec![-1, 3], vec![0, -1], vec![i64::MAX, i64::MAX, -1]] {
            let result = apply(&Op::Reshape { shape: shape.clone() }, &[], &t);
            assert!(matches!(result, Err(OpError::Reshape { .. })), "{shape:?}: {result:?}");
        }
    }

    #[test]
    fn empty_tensors_stay_empty() {
        let none = f32s(&[0, 3], &[]);
        assert_eq!(apply(&Op::Softmax {}, &[], &none).expect("works").shape(), [0, 3]);
        assert_eq!(apply(&Op::TopKValues { k: 2 }, &[], &none).expect("works").shape(), [0, 2]);
        assert_eq!(apply(&Op::Softmax {}, &[], &f32s(&[2, 0], &[])).expect("works").shape(), [2, 0]);
    }

    fn rows() -> impl Strategy<Value = (usize, usize, Vec<f32>)> {
        (1usize..5, 1usize..8).prop_flat_map(|(rows, len)| {
            (Just(rows), Just(len), proptest::collection::vec(-1e30f32..1e30, rows * len))
        })
    }

    proptest! {
        #[test]
        fn softmax_rows_sum_to_one_and_keep_the_order((rows, len, values) in rows()) {
            let out = floats(&apply(&Op::Softmax {}, &[], &f32s(&[rows, len], &values)).expect("works"));
            for (row, before) in out.chunks(len).zip(values.chunks(len)) {
                prop_assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                for (i, j) in (0..len).flat_map(|i| (0..len).map(move |j| (i, j))) {
                    prop_assert!(before[i] < before[j] || row[i] >= row[j]);
                }
            }
        }

        #[test]
        fn top_values_are_the_largest_and_match_their_indices((rows, len, values) in rows(), k in 1u32..8) {
            let t = f32s(&[rows, len], &values);
            let (top, at) = (apply(&Op::TopKValues { k }, &[], &t), apply(&Op::TopKLabels { k }, &[], &t));
            prop_assert_eq!(top.is_ok(), k as usize <= len);
            let (Ok(top), Ok(at)) = (top, at) else { return Ok(()) };
            let at: Vec<i64> = at.values::<i64>().expect("indices").collect();
            for (r, (top, at)) in floats(&top).chunks(k as usize).zip(at.chunks(k as usize)).enumerate() {
                let mut sorted = values[r * len..(r + 1) * len].to_vec();
                sorted.sort_by(|a, b| b.total_cmp(a));
                prop_assert_eq!(top, &sorted[..k as usize]);
                for (value, index) in top.iter().zip(at) {
                    prop_assert_eq!(values[r * len + *index as usize], *value);
                }
            }
        }

        #[test]
        fn reshape_keeps_the_elements(len in 0usize..40, shape in proptest::collection::vec(-1i64..7, 0..4)) {
            let t = Tensor::from_le_bytes(Datatype::Uint8, vec![len], (0..len as u8).collect()).expect("valid");
            if let Ok(out) = apply(&Op::Reshape { shape: shape.clone() }, &[], &t) {
                prop_assert_eq!(out.as_le_bytes(), t.as_le_bytes());
                for (want, have) in shape.iter().zip(out.shape()) {
                    prop_assert!(*want == -1 || *want == *have as i64);
                }
            }
        }
    }
}

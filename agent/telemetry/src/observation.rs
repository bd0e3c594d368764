//! One answered request, and how a tensor becomes one number.

use semver::Version;
use whimbrel_wire::{ModelName, telemetry::Reduce};

/// What the recorder is told about one answered request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation<'a> {
    /// The model that was asked.
    pub model: &'a ModelName,
    /// The version whose answer (or failure) is counted.
    pub version: &'a Version,
    /// Device clock, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Time from the request to its answer, milliseconds.
    pub latency_ms: f64,
    /// The kind of error; `None` for a successful request.
    pub error: Option<&'a str>,
    /// One number per feature of the model's reference, in its order, NaN where a value is missing; or nothing, when
    /// the request failed before it had inputs. Another length is counted as a mismatch and the numbers are dropped.
    pub features: &'a [f64],
    /// The predicted class.
    pub class: Option<&'a str>,
    /// The score of that class.
    pub score: Option<f64>,
}

/// Computes the declared number of one tensor. NaN when the tensor is empty or the index is beyond its end.
pub fn reduce<I>(op: Reduce, values: I) -> f64
where
    I: Iterator<Item = f64> + Clone,
{
    match op {
        Reduce::Mean {} => mean(values),
        Reduce::Std {} => {
            let mean = mean(values.clone());
            let (n, sum) = values.fold((0u64, 0.0), |(n, sum), v| (n + 1, sum + (v - mean) * (v - mean)));
            divide(sum, n).sqrt()
        }
        Reduce::Min {} => values.reduce(|a, b| if b < a || b.is_nan() { b } else { a }).unwrap_or(f64::NAN),
        Reduce::Max {} => values.reduce(|a, b| if b > a || b.is_nan() { b } else { a }).unwrap_or(f64::NAN),
        Reduce::Element { index } => {
            usize::try_from(index).ok().and_then(|i| { values }.nth(i)).unwrap_or(f64::NAN)
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (n, sum) = values.fold((0u64, 0.0), |(n, sum), v| (n + 1, sum + v));
    divide(sum, n)
}

#[allow(clippy::cast_precision_loss, reason = "element counts are far below 2^52")]
fn divide(sum: f64, n: u64) -> f64 {
    if n == 0 { f64::NAN } else { sum / n as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reduction_of_known_values() {
        let v = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        let of = |op| reduce(op, v.iter().copied());
        assert_eq!(of(Reduce::Mean {}), 5.0);
        assert_eq!(of(Reduce::Std {}), 2.0);
        assert_eq!(of(Reduce::Min {}), 2.0);
        assert_eq!(of(Reduce::Max {}), 9.0);
        assert_eq!(of(Reduce::Element { index: 6 }), 7.0);
        assert!(of(Reduce::Element { index: 8 }).is_nan());
    }

    #[test]
    fn empty_tensors_and_nan_elements_give_nan_and_not_a_number_that_looks_right() {
        for op in [Reduce::Mean {}, Reduce::Std {}, Reduce::Min {}, Reduce::Max {}] {
            assert!(reduce(op, std::iter::empty()).is_nan(), "{op:?} of nothing");
        }
        for op in [Reduce::Mean {}, Reduce::Std {}] {
            assert!(reduce(op, [1.0, f64::NAN, 3.0].into_iter()).is_nan(), "{op:?} with NaN");
        }
    }
}

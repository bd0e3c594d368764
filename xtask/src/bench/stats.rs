//! Medians, and ratios with their spread.

use serde_json::{Value, json};

/// The middle of the values; NaN of none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The number in a JSON value; NaN if it is none.
pub(super) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// Ours and a peer's, measured in turn; the ratio is taken within each round, since the machine may be shared.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ratio {
    pub(super) ours: f64,
    pub(super) peer: f64,
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Ratio {
    /// Of rounds in order; both sides have as many.
    pub(super) fn of(ours: &[f64], peer: &[f64]) -> Self {
        let mut ratios: Vec<f64> = ours.iter().zip(peer).map(|(a, b)| a / b).collect();
        ratios.sort_by(f64::total_cmp);
        Self {
            ours: median(ours),
            peer: median(peer),
            median: median(&ratios),
            min: ratios.first().copied().unwrap_or(f64::NAN),
            max: ratios.last().copied().unwrap_or(f64::NAN),
        }
    }

    /// Whether the goal, if there is one, is met.
    pub(super) fn meets(&self, goal: Option<f64>) -> Option<bool> {
        goal.map(|goal| self.median <= goal)
    }

    /// The fields of a row; `unit` ends the names of the two sides, as in `ours_ms`.
    pub(super) fn fields(&self, unit: &str, goal: Option<f64>) -> Value {
        json!({
            format!("ours_{unit}"): self.ours,
            format!("peer_{unit}"): self.peer,
            "ratio": self.median,
            "ratio_min": self.min,
            "ratio_max": self.max,
            "goal": goal,
            "met": self.meets(goal),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        // A machine that gets slower from round to round.
        let ratio = Ratio::of(&[1.0, 2.0, 9.0], &[2.0, 4.0, 10.0]);
        assert_eq!((ratio.median, ratio.min, ratio.max), (0.5, 0.5, 0.9));
        assert_eq!(
            (ratio.meets(Some(0.5)), ratio.meets(Some(0.4)), ratio.meets(None)),
            (Some(true), Some(false), None)
        );
    }
}

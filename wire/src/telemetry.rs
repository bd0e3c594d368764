//! Windows of counts and sketches, the batches that carry them, and what they are compared with.
//!
//! A window holds no raw value of any input: counts per bin, moments, and a latency sketch only.

use crate::{cbor::Message, id::ModelName, manifest::limit};
use semver::Version;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most declared features of one model.
pub const FEATURES_MAX: usize = 64;
/// Most bin edges of one feature.
pub const EDGES_MAX: usize = 256;
/// Most classes that are counted by name; the rest is counted together under an empty name.
pub const CLASSES_MAX: usize = 256;
/// Most windows in one batch.
pub const WINDOWS_MAX: usize = 256;

/// What the data looked like when the model was made. Part of the signed manifest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// One number per request each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<Feature>,
    /// The predicted classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
}

/// A number computed from one input tensor per request, and its distribution in the reference data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// Its name in reviews.
    pub name: String,
    /// The app-facing input it is computed from.
    pub tensor: String,
    /// How.
    pub reduce: Reduce,
    /// Ascending inner bin edges. Bin i holds values in `[edges[i-1], edges[i])`; the first and last are open.
    pub edges: Vec<f64>,
    /// Reference counts, one more than there are edges.
    pub counts: Vec<u64>,
}

/// How a tensor becomes one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reduce {
    /// Arithmetic mean of all elements.
    Mean {},
    /// Population standard deviation of all elements.
    Std {},
    /// Smallest element.
    Min {},
    /// Largest element.
    Max {},
    /// The element at this flat index.
    Element {
        /// The index, row-major.
        index: u32,
    },
}

/// Which output holds class scores, and how the reference data fell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prediction {
    /// A tensor after the post-processing steps; one score per label, in the labels' order.
    pub tensor: String,
    /// Reference counts per label.
    pub counts: Vec<u64>,
    /// Ascending inner bin edges of the top score.
    pub confidence_edges: Vec<f64>,
    /// Reference counts of the top score, one more than there are edges.
    pub confidence_counts: Vec<u64>,
}

impl Reference {
    /// Whether nothing is declared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.features.is_empty() && self.prediction.is_none()
    }

    /// Checks counts and edges.
    ///
    /// # Errors
    /// A sentence naming the feature and the rule.
    pub fn validate(&self) -> Result<(), String> {
        limit("reference.features", self.features.len(), FEATURES_MAX)?;
        for (i, f) in self.features.iter().enumerate() {
            limit("feature name", f.name.len(), 128)?;
            if f.name.is_empty() || self.features[..i].iter().any(|g| g.name == f.name) {
                return Err(format!("reference.features: name {:?} is empty or used twice", f.name));
            }
            validate_bins(&f.name, &f.edges, &f.counts)?;
        }
        if let Some(p) = &self.prediction {
            limit("reference.prediction.counts", p.counts.len(), crate::manifest::LABELS_MAX)?;
            validate_bins("prediction confidence", &p.confidence_edges, &p.confidence_counts)?;
        }
        Ok(())
    }
}

fn validate_bins(what: &str, edges: &[f64], counts: &[u64]) -> Result<(), String> {
    limit("bin edges", edges.len(), EDGES_MAX)?;
    if edges.is_empty() || counts.len() != edges.len() + 1 {
        return Err(format!(
            "{what}: {} edges and {} counts, expected at least 1 edge and one more count",
            edges.len(),
            counts.len()
        ));
    }
    if !edges.iter().all(|e| e.is_finite()) || edges.windows(2).any(|w| w[0] >= w[1]) {
        return Err(format!("{what}: edges must be finite and ascending"));
    }
    Ok(())
}

/// Sent on `…/telemetry`. (device, `boot`, `sequence`) names it for ever; the server counts it once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// The spool's incarnation: random, made when the spool is created.
    pub boot: u64,
    /// Counts batches of that spool, from 1.
    pub sequence: u64,
    /// Windows, oldest first.
    pub windows: Vec<Window>,
}

/// What one model version did in one span of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Which model.
    pub model: ModelName,
    /// Which version of it.
    pub version: Version,
    /// Device clock at the first request, milliseconds since 1970 UTC.
    pub start_ms: i64,
    /// Device clock at the end.
    pub end_ms: i64,
    /// Requests answered by this version, failed ones included.
    pub requests: u64,
    /// Failed requests by kind.
    pub errors: BTreeMap<String, u64>,
    /// Latency of the successful ones, milliseconds: a sketch with 1 % relative error.
    pub latency_ms: LatencySketch,
    /// One entry per declared feature.
    pub features: Vec<FeatureCounts>,
    /// Predicted classes.
    pub classes: BTreeMap<String, u64>,
    /// Top scores in the reference's bins.
    pub confidence: Vec<u64>,
}

/// DDSketch (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees",
/// VLDB 2019) with gamma = 101/99: bucket `i` counts values in `(gamma^(i-1), gamma^i]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencySketch {
    /// Non-empty buckets as (index, count), ascending.
    pub buckets: Vec<(i32, u64)>,
    /// Values of at most 1e-6 ms.
    pub zero: u64,
    /// Sum of all values.
    pub sum: f64,
    /// Largest value.
    pub max: f64,
}

/// Most buckets of a sketch: spans 1e-6 ms to 1e9 ms.
pub const BUCKETS_MAX: usize = 2048;

impl LatencySketch {
    /// `ln(gamma)`, with gamma = 101/99.
    const LN_GAMMA: f64 = 0.020_000_666_706_669_435;

    /// Counts one value, in milliseconds; anything not finite or negative counts as 0.
    pub fn add(&mut self, value_ms: f64) {
        let value = if value_ms.is_finite() { value_ms.clamp(0.0, 1e9) } else { 0.0 };
        self.sum += value;
        self.max = self.max.max(value);
        if value <= 1e-6 {
            self.zero += 1;
            return;
        }
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the clamp above bounds the index to about +-1050"
        )]
        let index = (value.ln() / Self::LN_GAMMA).ceil() as i32;
        match self.buckets.binary_search_by_key(&index, |b| b.0) {
            Ok(at) => self.buckets[at].1 += 1,
            Err(at) => self.buckets.insert(at, (index, 1)),
        }
    }

    /// Adds another sketch's counts; the order of merges does not matter.
    pub fn merge(&mut self, other: &Self) {
        for &(index, count) in &other.buckets {
            match self.buckets.binary_search_by_key(&index, |b| b.0) {
                Ok(at) => self.buckets[at].1 = self.buckets[at].1.saturating_add(count),
                Err(at) => self.buckets.insert(at, (index, count)),
            }
        }
        self.zero = self.zero.saturating_add(other.zero);
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(self.zero, |sum, b| sum.saturating_add(b.1))
    }

    /// The value below which a share `q` (0 to 1) of the values lies, within 1 %; `None` while empty.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank between 0 and count - 1; rounding of huge counts is within the sketch's error"
        )]
        let rank = (q.clamp(0.0, 1.0) * (count - 1) as f64) as u64;
        let mut seen = self.zero;
        if rank < seen {
            return Some(0.0);
        }
        for &(index, n) in &self.buckets {
            seen = seen.saturating_add(n);
            if rank < seen {
                // The point with equal relative distance to both bucket borders: 2 * gamma^i / (gamma + 1).
                return Some((f64::from(index) * Self::LN_GAMMA).exp() * 2.0 / (1.0 + 101.0 / 99.0));
            }
        }
        Some(self.max)
    }

    fn validate(&self) -> Result<(), String> {
        limit("latency_ms.buckets", self.buckets.len(), BUCKETS_MAX)?;
        if self.buckets.windows(2).any(|w| w[0].0 >= w[1].0) {
            return Err("latency_ms.buckets: must ascend".into());
        }
        if self.sum.is_finite() && self.max.is_finite() {
            Ok(())
        } else {
            Err("latency_ms: must be finite".into())
        }
    }
}

/// Counts of one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureCounts {
    /// The feature's name.
    pub name: String,
    /// Counts in the reference's bins.
    pub bins: Vec<u64>,
    /// Values that were NaN.
    pub nan: u64,
    /// Number of finite values.
    pub n: u64,
    /// Their mean.
    pub mean: f64,
    /// Sum of squared distances to the mean (Welford).
    pub m2: f64,
}

impl Message for Batch {
    const NAME: &'static str = "telemetry batch";
    const SIZE_BYTES_MAX: usize = 256 << 10;
    const ITEMS_MAX: usize = 200_000;

    fn validate(&self) -> Result<(), String> {
        limit("windows", self.windows.len(), WINDOWS_MAX)?;
        if self.windows.is_empty() || self.sequence == 0 {
            return Err("a batch has at least one window and a sequence above 0".into());
        }
        self.windows.iter().try_for_each(Window::validate)
    }
}

impl Window {
    fn validate(&self) -> Result<(), String> {
        limit("features", self.features.len(), FEATURES_MAX)?;
        limit("classes", self.classes.len(), CLASSES_MAX + 1)?;
        limit("confidence", self.confidence.len(), EDGES_MAX + 1)?;
        limit("errors", self.errors.len(), 64)?;
        for name in self.errors.keys().chain(self.classes.keys()) {
            limit("name", name.len(), 128)?;
        }
        for f in &self.features {
            limit("feature name", f.name.len(), 128)?;
            limit("bins", f.bins.len(), EDGES_MAX + 1)?;
            if !(f.mean.is_finite() && f.m2.is_finite() && f.m2 >= 0.0) {
                return Err(format!("feature {:?}: mean and m2 must be finite", f.name));
            }
        }
        if self.start_ms > self.end_ms {
            return Err("a window ends before it starts".into());
        }
        let failed = self.errors.values().fold(0u64, |sum, n| sum.saturating_add(*n));
        if failed > self.requests {
            return Err(format!("{failed} errors among {} requests", self.requests));
        }
        self.latency_ms.validate()
    }
}

/// Sent on `…/ack`, only after the server's own commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// The batch's `boot`.
    pub boot: u64,
    /// The batches of that boot that are stored, or were before.
    pub sequences: Vec<u64>,
}

impl Message for Ack {
    const NAME: &'static str = "telemetry acknowledgement";
    const SIZE_BYTES_MAX: usize = 16 << 10;
    const ITEMS_MAX: usize = 1100;

    fn validate(&self) -> Result<(), String> {
        limit("sequences", self.sequences.len(), 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sketch_is_within_one_percent_and_merges_in_any_order() {
        let values: Vec<f64> = (1..=10_000).map(|i| f64::from(i) * 0.37).collect();
        let mut whole = LatencySketch::default();
        let (mut a, mut b) = (LatencySketch::default(), LatencySketch::default());
        for (i, v) in values.iter().enumerate() {
            whole.add(*v);
            if i % 3 == 0 { a.add(*v) } else { b.add(*v) }
        }
        for q in [0.01, 0.5, 0.95, 0.99] {
            let exact = values[(q * 9999.0) as usize];
            let got = whole.quantile(q).expect("not empty");
            assert!((got - exact).abs() <= exact * 0.0101, "q {q}: {got} for {exact}");
        }
        let mut ab = a.clone();
        ab.merge(&b);
        b.merge(&a);
        assert_eq!(ab.buckets, b.buckets);
        assert_eq!(ab.buckets, whole.buckets);
        assert_eq!(ab.count(), 10_000);
    }

    #[test]
    fn sketch_survives_absurd_values() {
        let mut s = LatencySketch::default();
        for v in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300] {
            s.add(v);
        }
        assert_eq!(s.count(), 5);
        assert!(s.validate().is_ok());
    }
}

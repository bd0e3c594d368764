//! Counts and sketches of a span of time, per model version. Adding the same entries in the same order gives the same
//! windows to the last bit: replay depends on it.

use crate::{bytes::cut, observation::Observation};
use semver::Version;
use std::collections::BTreeMap;
use whimbrel_wire::{
    ModelName,
    telemetry::{CLASSES_MAX, FeatureCounts, LatencySketch, Reference, Window},
};

/// Longest name of a class or of a kind of error; what is longer is cut.
const NAME_BYTES_MAX: usize = 128;
/// Kinds of error counted by name; the rest is counted as `other`.
const ERROR_KINDS_MAX: usize = 63;
const OTHER: &str = "other";

/// What a model version's windows count, taken from its reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    /// Which model.
    pub model: ModelName,
    /// Which version.
    pub version: Version,
    /// Name and ascending inner bin edges of each feature.
    pub features: Vec<(String, Vec<f64>)>,
    /// Ascending inner bin edges of the top score; empty where no prediction is declared.
    pub confidence_edges: Vec<f64>,
}

impl Declared {
    /// Takes names and edges from a reference.
    #[must_use]
    pub fn new(model: &ModelName, version: &Version, reference: &Reference) -> Self {
        Self {
            model: model.clone(),
            version: version.clone(),
            features: reference.features.iter().map(|f| (f.name.clone(), f.edges.clone())).collect(),
            confidence_edges: reference
                .prediction
                .as_ref()
                .map(|p| p.confidence_edges.clone())
                .unwrap_or_default(),
        }
    }

    /// Whether an entry is about this model version.
    #[must_use]
    pub fn is(&self, model: &ModelName, version: &Version) -> bool {
        self.model == *model && self.version == *version
    }
}

/// One counted request: what the journal holds of an [`Observation`].
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Device clock, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Milliseconds.
    pub latency_ms: f64,
    /// Kind of error; `None` for success.
    pub error: Option<String>,
    /// One number per feature, or none at all.
    pub features: Vec<f64>,
    /// Predicted class.
    pub class: Option<String>,
    /// Its score.
    pub score: Option<f64>,
}

impl Entry {
    /// Takes what is counted from an observation. The second value is false when its features do not fit what is
    /// declared and were left out.
    #[must_use]
    pub fn new(observation: &Observation<'_>, declared: &Declared) -> (Self, bool) {
        let fits = observation.features.is_empty() || observation.features.len() == declared.features.len();
        let owned = |text: &str| cut(text, NAME_BYTES_MAX).to_owned();
        let entry = Self {
            at_ms: observation.at_ms,
            latency_ms: observation.latency_ms,
            error: observation.error.map(owned),
            features: if fits { observation.features.to_vec() } else { Vec::new() },
            class: observation.class.map(owned),
            score: observation.score,
        };
        (entry, fits)
    }
}

/// The window of one model version while it is open.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenWindow {
    declared: Declared,
    window: Window,
}

impl OpenWindow {
    /// An empty window.
    #[must_use]
    pub fn new(declared: Declared) -> Self {
        let features = declared
            .features
            .iter()
            .map(|(name, edges)| FeatureCounts {
                name: name.clone(),
                bins: vec![0; edges.len() + 1],
                nan: 0,
                n: 0,
                mean: 0.0,
                m2: 0.0,
            })
            .collect();
        let confidence = match declared.confidence_edges.len() {
            0 => Vec::new(),
            edges => vec![0; edges + 1],
        };
        let window = Window {
            model: declared.model.clone(),
            version: declared.version.clone(),
            start_ms: 0,
            end_ms: 0,
            requests: 0,
            errors: BTreeMap::new(),
            latency_ms: LatencySketch::default(),
            features,
            classes: BTreeMap::new(),
            confidence,
        };
        Self { declared, window }
    }

    /// What it counts.
    #[must_use]
    pub fn declared(&self) -> &Declared {
        &self.declared
    }

    /// The window as it stands; `None` while nothing was counted.
    #[must_use]
    pub fn window(&self) -> Option<&Window> {
        (self.window.requests > 0).then_some(&self.window)
    }

    /// Counts one entry.
    pub fn add(&mut self, entry: &Entry) {
        let w = &mut self.window;
        if w.requests == 0 {
            (w.start_ms, w.end_ms) = (entry.at_ms, entry.at_ms);
        }
        // A clock that steps back must not make a window end before it starts.
        w.end_ms = w.end_ms.max(entry.at_ms);
        w.requests += 1;
        for (counts, ((_, edges), value)) in
            w.features.iter_mut().zip(self.declared.features.iter().zip(&entry.features))
        {
            add_feature(counts, edges, *value);
        }
        match &entry.error {
            Some(kind) => *slot(&mut w.errors, kind, ERROR_KINDS_MAX, OTHER) += 1,
            None => add_success(w, entry, &self.declared.confidence_edges),
        }
    }
}

fn add_success(w: &mut Window, entry: &Entry, confidence_edges: &[f64]) {
    w.latency_ms.add(entry.latency_ms);
    if let Some(class) = &entry.class {
        *slot(&mut w.classes, class, CLASSES_MAX, "") += 1;
    }
    if let Some(score) = entry.score.filter(|s| !s.is_nan())
        && let Some(bin) = w.confidence.get_mut(bin_of(confidence_edges, score))
    {
        *bin += 1;
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of one window are far below 2^52")]
fn add_feature(counts: &mut FeatureCounts, edges: &[f64], value: f64) {
    // Infinities have no place in a mean; they are as unusable as NaN.
    if !value.is_finite() {
        counts.nan += 1;
        return;
    }
    if let Some(bin) = counts.bins.get_mut(bin_of(edges, value)) {
        *bin += 1;
    }
    counts.n += 1;
    let delta = value - counts.mean;
    let mean = counts.mean + delta / counts.n as f64;
    let m2 = counts.m2 + delta * (value - mean);
    // Values near the limits of f64 overflow here; the bins still hold them, the moments keep their last finite state.
    if mean.is_finite() && m2.is_finite() && m2 >= 0.0 {
        (counts.mean, counts.m2) = (mean, m2);
    }
}

/// The bin of a value: bin i holds `[edges[i-1], edges[i])`.
fn bin_of(edges: &[f64], value: f64) -> usize {
    edges.partition_point(|edge| *edge <= value)
}

fn slot<'a>(counts: &'a mut BTreeMap<String, u64>, name: &str, names_max: usize, rest: &str) -> &'a mut u64 {
    let name = if counts.contains_key(name) || counts.len() < names_max { name } else { rest };
    counts.entry(name.to_owned()).or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared() -> Declared {
        Declared {
            model: "digits".parse().expect("valid"),
            version: Version::new(1, 0, 0),
            features: vec![("mean".into(), vec![1.0, 2.0])],
            confidence_edges: vec![0.5],
        }
    }
    fn ok(at_ms: i64, feature: f64, class: &str, score: f64) -> Entry {
        Entry {
            at_ms,
            latency_ms: 2.0,
            error: None,
            features: vec![feature],
            class: Some(class.into()),
            score: Some(score),
        }
    }

    #[test]
    fn edges_belong_to_the_upper_bin_and_moments_match_the_definition() {
        let mut w = OpenWindow::new(declared());
        assert_eq!(w.window(), None);
        for (i, v) in [0.5, 1.0, 1.5, 2.0, 9.0, f64::NAN, f64::INFINITY].into_iter().enumerate() {
            w.add(&ok(100 - i as i64, v, "7", if i < 2 { 0.4 } else { 0.5 }));
        }
        let got = w.window().expect("counted");
        assert_eq!((got.start_ms, got.end_ms, got.requests), (100, 100, 7));
        let f = &got.features[0];
        assert_eq!((f.bins.as_slice(), f.n, f.nan), (&[1, 2, 2][..], 5, 2));
        assert!((f.mean - 2.8).abs() < 1e-12);
        let exact: f64 = [0.5f64, 1.0, 1.5, 2.0, 9.0].iter().map(|v| (v - 2.8) * (v - 2.8)).sum();
        assert!((f.m2 - exact).abs() < 1e-12);
        assert_eq!(got.confidence, [2, 5]);
        assert_eq!(got.classes["7"], 7);
    }

    #[test]
    fn failed_requests_count_as_errors_and_not_in_latency_or_classes() {
        let mut w = OpenWindow::new(declared());
        w.add(&Entry { error: Some("non_finite".into()), ..ok(1, 1.0, "3", 0.9) });
        let got = w.window().expect("counted");
        assert_eq!((got.requests, got.errors["non_finite"]), (1, 1));
        assert_eq!((got.latency_ms.count(), got.classes.len()), (0, 0));
    }

    #[test]
    fn names_beyond_the_limits_are_counted_together() {
        let mut w = OpenWindow::new(declared());
        for i in 0..400 {
            w.add(&ok(1, 1.0, &format!("c{i}"), 0.9));
            w.add(&Entry { error: Some(format!("e{i}")), ..ok(1, 1.0, "x", 0.9) });
        }
        let got = w.window().expect("counted");
        assert_eq!(got.classes.len(), CLASSES_MAX + 1);
        assert_eq!(got.classes[""], 400 - CLASSES_MAX as u64);
        assert_eq!(got.errors["other"], 400 - ERROR_KINDS_MAX as u64);
        let batch = whimbrel_wire::telemetry::Batch { boot: 1, sequence: 1, windows: vec![got.clone()] };
        assert!(whimbrel_wire::encode(&batch).is_ok());
    }

    #[test]
    fn absurd_feature_values_keep_the_window_sendable() {
        let mut w = OpenWindow::new(declared());
        for v in [f64::MAX, f64::MIN, f64::MAX, 1.0] {
            w.add(&ok(1, v, "x", f64::NAN));
        }
        let batch = whimbrel_wire::telemetry::Batch {
            boot: 1,
            sequence: 1,
            windows: vec![w.window().expect("counted").clone()],
        };
        assert!(whimbrel_wire::encode(&batch).is_ok());
    }
}

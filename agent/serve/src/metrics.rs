//! Prometheus metrics, in base units.

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{sync::Arc, time::Duration};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    model: String,
    version: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    model: String,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectionLabels {
    reason: &'static str,
}

type Histograms = Family<ModelLabels, Histogram, fn() -> Histogram>;

/// What the front ends count. Clones share the counts.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    requests: Family<RequestLabels, Counter>,
    seconds: Histograms,
    in_flight: Gauge,
    rejected: Family<RejectionLabels, Counter>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("whimbrel_agent");
        let requests = Family::default();
        let seconds: Histograms = Family::new_with_constructor(latency_histogram);
        let in_flight = Gauge::default();
        let rejected = Family::default();
        registry.register(
            "inference_requests",
            "Requests that reached a model, by how the version that serves did",
            requests.clone(),
        );
        registry.register_with_unit(
            "inference_duration",
            "Time from the steps before the model to those after it",
            Unit::Seconds,
            seconds.clone(),
        );
        registry.register(
            "inference_requests_in_flight",
            "Inference requests being read, queued or run",
            in_flight.clone(),
        );
        registry.register(
            "inference_rejections",
            "Inference requests that reached no model, by reason",
            rejected.clone(),
        );
        Self { registry: Arc::new(registry), requests, seconds, in_flight, rejected }
    }

    /// Counts a request that reached a model.
    pub(crate) fn answered(&self, model: &str, version: &str, outcome: &'static str, latency: Duration) {
        let (model, version) = (model.to_owned(), version.to_owned());
        let labels = ModelLabels { model: model.clone(), version: version.clone() };
        self.seconds.get_or_create(&labels).observe(latency.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { model, version, outcome }).inc();
    }

    /// Counts a request that reached no model.
    pub(crate) fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&RejectionLabels { reason }).inc();
    }

    /// Counts a request as in flight until the value is dropped.
    pub(crate) fn in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// The text of `GET /metrics`.
    pub(crate) fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

fn latency_histogram() -> Histogram {
    // 50 microseconds to 6.5 seconds, doubling.
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(50e-6, 2.0, 18))
}

/// A request in flight.
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

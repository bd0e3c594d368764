//! What requests say about the data: the declared numbers of their inputs, the predicted class, its score.

use crate::telemetry::{Telemetry, now_ms};
use arc_swap::ArcSwap;
use semver::Version;
use std::{collections::BTreeMap, sync::Arc};
use whimbrel_infer::Tensor;
use whimbrel_serve::{Observation as Request, Observer, Outcome};
use whimbrel_telemetry::{Observation, reduce};
use whimbrel_wire::{
    ModelName,
    manifest::Manifest,
    telemetry::{Feature, Reference},
};

/// Model versions whose declarations are remembered: those that serve, step in or just stopped.
const WATCHED_MAX: usize = 256;

/// Turns answered requests into telemetry.
pub(crate) struct AgentObserver {
    telemetry: Arc<Telemetry>,
    watched: ArcSwap<BTreeMap<(ModelName, Version), Arc<Watched>>>,
}

/// What is computed of the requests of one model version.
struct Watched {
    reference: Reference,
    labels: Vec<String>,
}

impl AgentObserver {
    pub(crate) fn new(telemetry: Arc<Telemetry>) -> Arc<Self> {
        Arc::new(Self { telemetry, watched: ArcSwap::default() })
    }

    /// Says what a version's requests are to be turned into, before it serves.
    pub(crate) fn watch(&self, manifest: &Manifest) {
        self.telemetry.register(&manifest.name, &manifest.version, &manifest.reference);
        let watched =
            Arc::new(Watched { reference: manifest.reference.clone(), labels: manifest.labels.clone() });
        self.watched.rcu(|all| {
            let mut all = BTreeMap::clone(all);
            if all.len() >= WATCHED_MAX {
                all.retain(|(model, _), _| *model != manifest.name);
            }
            all.insert((manifest.name.clone(), manifest.version.clone()), Arc::clone(&watched));
            all
        });
    }
}

impl Observer for AgentObserver {
    fn observe(&self, request: &Request<'_>) {
        let watched = self.watched.load();
        let watched = watched.get(&(request.model.clone(), request.version.clone()));
        let features = watched.map_or_else(Vec::new, |w| numbers(&w.reference.features, request.inputs));
        let error = match request.outcome {
            Outcome::Ok => None,
            Outcome::Failed { kind } => Some(kind),
        };
        // What a fallback answered says nothing about the version that failed.
        let prediction = watched.filter(|_| error.is_none()).and_then(|w| predicted(w, request));
        self.telemetry.record(&Observation {
            model: request.model,
            version: request.version,
            at_ms: now_ms(),
            latency_ms: request.latency.as_secs_f64() * 1000.0,
            error,
            features: &features,
            class: prediction.as_ref().map(|(class, _)| class.as_str()),
            score: prediction.as_ref().map(|(_, score)| *score),
        });
    }
}

/// One number per feature; NaN where its tensor is absent or holds no numbers.
fn numbers(features: &[Feature], inputs: &[(String, Arc<Tensor>)]) -> Vec<f64> {
    // Several features of one tensor share its conversion.
    let mut converted: Vec<(&str, Option<Vec<f64>>)> = Vec::new();
    features
        .iter()
        .map(|feature| {
            let at = converted.iter().position(|(name, _)| *name == feature.tensor).unwrap_or_else(|| {
                let tensor = inputs.iter().find(|(name, _)| *name == feature.tensor);
                converted.push((&feature.tensor, tensor.and_then(|(_, t)| t.to_f64s().ok())));
                converted.len() - 1
            });
            let values = converted.get(at).and_then(|(_, values)| values.as_deref());
            values.map_or(f64::NAN, |values| reduce(feature.reduce, values.iter().copied()))
        })
        .collect()
}

/// The class with the highest score, and the score. A request with several rows is represented by its first.
fn predicted(watched: &Watched, request: &Request<'_>) -> Option<(String, f64)> {
    let prediction = watched.reference.prediction.as_ref()?;
    let tensor = request.environment?.get(&prediction.tensor)?;
    let classes = *tensor.shape().last()?;
    let scores = tensor.to_f64s().ok()?;
    let row = scores.get(..classes)?;
    let (mut best, mut best_score) = (0, *row.first()?);
    for (index, score) in row.iter().enumerate() {
        // Ties go to the lower index, as in the steps after the model.
        if *score > best_score {
            (best, best_score) = (index, *score);
        }
    }
    Some((watched.labels.get(best).cloned().unwrap_or_else(|| best.to_string()), best_score))
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_pipeline::Environment;
    use whimbrel_wire::telemetry::{Prediction, Reduce};

    fn feature(name: &str, tensor: &str, reduce: Reduce) -> Feature {
        Feature { name: name.into(), tensor: tensor.into(), reduce, edges: vec![0.0], counts: vec![1, 1] }
    }

    #[test]
    fn features_are_computed_from_the_inputs_and_absent_tensors_are_nan() {
        let tensor = Tensor::from_values(vec![1, 4], &[1.0f32, 2.0, 3.0, 6.0]).expect("a tensor");
        let text = Tensor::from_strings(vec![1], vec![b"x".to_vec()]).expect("a tensor");
        let inputs = vec![("pixels".to_owned(), Arc::new(tensor)), ("note".to_owned(), Arc::new(text))];
        let features = [
            feature("mean", "pixels", Reduce::Mean {}),
            feature("max", "pixels", Reduce::Max {}),
            feature("gone", "other", Reduce::Mean {}),
            feature("text", "note", Reduce::Mean {}),
        ];
        let got = numbers(&features, &inputs);
        assert_eq!(got[..2], [3.0, 6.0]);
        assert!(got[2].is_nan() && got[3].is_nan());
    }

    #[test]
    fn the_first_rows_best_class_is_named_by_its_label() {
        let mut environment = Environment::default();
        let scores = Tensor::from_values(vec![2, 3], &[0.2f32, 0.4, 0.4, 0.9, 0.0, 0.1]).expect("a tensor");
        environment.insert("scores", scores);
        let watched = |labels: &[&str]| Watched {
            reference: Reference {
                features: vec![],
                prediction: Some(Prediction {
                    tensor: "scores".into(),
                    counts: vec![1; 3],
                    confidence_edges: vec![0.5],
                    confidence_counts: vec![1, 1],
                }),
            },
            labels: labels.iter().map(|l| (*l).to_owned()).collect(),
        };
        let (model, version) = ("m".parse().expect("valid"), Version::new(1, 0, 0));
        let request = Request {
            model: &model,
            version: &version,
            outcome: Outcome::Ok,
            answered_by: Some(&version),
            latency: std::time::Duration::ZERO,
            inputs: &[],
            environment: Some(&environment),
        };
        let (class, score) = predicted(&watched(&["a", "b", "c"]), &request).expect("a prediction");
        assert_eq!((class.as_str(), score as f32), ("b", 0.4));
        assert_eq!(predicted(&watched(&[]), &request).expect("a prediction").0, "1");
        assert_eq!(predicted(&watched(&["a"]), &Request { environment: None, ..request }), None);
    }
}

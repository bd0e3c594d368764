//! What inference is to reach, as ratios to a peer.

use super::{catalogue::Network, peer::Engine};

/// From the file to a network that can run, beside ONNX Runtime's session.
pub(super) const LOAD: f64 = 0.5;
/// The same from the cache that an earlier load left.
pub(super) const CACHED_LOAD: f64 = 0.1;
/// Peak resident memory of the whole process, beside ONNX Runtime's in Python.
pub(super) const MEMORY: f64 = 0.6;

/// The goal for the time of one inference, if there is one.
pub(super) fn speed(network: &Network, engine: Engine) -> Option<f64> {
    let name = network.name.as_str();
    let is_mobile = matches!(name, "efficientnet_lite0" | "mobilenet_v2");
    let is_tiny = network.tflite.is_some();
    match (engine, network.is_int8()) {
        (Engine::Ort, true) => match name {
            "resnet50" => Some(1.0),
            "ad_autoencoder" => Some(0.3),
            _ if is_mobile => Some(0.75),
            _ if is_tiny => Some(0.6),
            _ => None,
        },
        (Engine::Ort, false) => match name {
            "resnet50" => Some(1.05),
            _ if is_mobile => Some(0.95),
            _ => None,
        },
        (Engine::OrtExact, _) => Some(if name == "resnet50" { 0.65 } else { 0.5 }),
        (Engine::OpenVino, _) => is_mobile.then_some(0.9),
        (Engine::LiteRt, _) => Some(0.85),
    }
}

/// What to say after a ratio.
pub(super) fn remark(goal: Option<f64>, ratio: f64) -> String {
    match goal {
        None => String::new(),
        Some(goal) if ratio <= goal => format!(", goal {goal} met"),
        Some(goal) => format!(", goal {goal} missed"),
    }
}

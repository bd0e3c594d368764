//! What inference is to reach, as ratios to a peer.

use super::{catalogue::Network, peer::Engine};
use serde_json::Value;

/// From the file to a network that can run, beside ONNX Runtime's session.
pub(super) const LOAD: f64 = 0.5;
/// The same from the cache that an earlier load left.
pub(super) const CACHED_LOAD: f64 = 0.1;
/// Peak resident memory of the whole process, beside ONNX Runtime's in Python.
pub(super) const MEMORY: f64 = 0.6;
/// Of the greatest output of a network in f32, how far any output may be off.
const RELATIVE: f64 = 1e-4;

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

/// Whether outputs are near enough to the exact ones, of figures as `agree.py` prints them.
pub(super) fn agrees(network: &Network, figures: &Value) -> bool {
    let at_most = |field: &str, limit: f64| figures[field].as_f64().is_some_and(|value| value <= limit);
    match network.name.as_str() {
        _ if !network.is_int8() => at_most("max_relative", RELATIVE),
        // Its softmax turns one quantum of a logit into up to eleven of the output.
        "ic_resnet8" => at_most("max_quanta", 22.0) && !at_most("within_one_share", 0.8),
        _ => at_most("max_quanta", 1.0),
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn outputs_agree_to_one_quantum_or_as_floats_do() {
        let network = |name: &str, precision| Network {
            name: name.into(),
            precision,
            path: "x".into(),
            tflite: None,
            examples: None,
        };
        let figures = |quanta: u32, within: f64| json!({"max_quanta": quanta, "within_one_share": within});
        assert!(agrees(&network("resnet50", "int8"), &figures(1, 1.0)));
        assert!(!agrees(&network("resnet50", "int8"), &figures(2, 0.999)));
        assert!(agrees(&network("ic_resnet8", "int8"), &figures(20, 0.9)));
        assert!(!agrees(&network("ic_resnet8", "int8"), &figures(20, 0.7)));
        assert!(agrees(&network("resnet50", "f32"), &json!({"max_relative": 1e-6})));
        assert!(!agrees(&network("resnet50", "f32"), &json!({})));
    }
}

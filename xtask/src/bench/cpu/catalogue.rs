//! The networks that inference is measured with.

use super::super::parse;
use crate::command::{output, root, target_dir};
use anyhow::{Result, bail};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// One network in one precision.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) precision: &'static str,
    pub(super) path: PathBuf,
    /// The same network as LiteRT reads it.
    pub(super) tflite: Option<PathBuf>,
    /// Natural inputs, where they are not made from pictures.
    pub(super) examples: Option<PathBuf>,
}

impl Network {
    /// What it is called on the command line and in tables.
    pub(super) fn label(&self) -> String {
        format!("{}_{}", self.name, self.precision)
    }

    pub(super) fn is_int8(&self) -> bool {
        self.precision == "int8"
    }
}

/// Built by `models.py` out of what wheels ship, in both precisions.
const BUILT: [&str; 4] = ["efficientnet_lite0", "mobilenet_v2", "resnet50", "ocr_detector"];
/// MLPerf Tiny, where its folder is beside the checkout: the name, and its TFLite file.
const TINY: [(&str, &str); 4] = [
    ("ic_resnet8", "ic_resnet8"),
    ("kws_dscnn", "kws_dscnn"),
    ("vww_mobilenetv1_025", "vww_mobilenetv1"),
    ("ad_autoencoder", "ad_autoencoder"),
];
/// The project's own: the name, and its folder.
const DIGITS: [(&str, &str); 2] = [("digits_v1", "v1"), ("digits_v2", "v2")];

/// The networks whose labels contain one of `wanted` (all, if it is empty), and what was skipped with the reason.
///
/// # Errors
/// A part of a label fits nothing, or a network cannot be built.
pub(super) fn networks(wanted: &[String], python: &Path) -> Result<(Vec<Network>, Vec<String>)> {
    if let Some(unknown) = wanted.iter().find(|part| !labels().iter().any(|label| label.contains(*part))) {
        bail!("--models {unknown}: there are {}", labels().join(", "));
    }
    let mut networks = Vec::new();
    let mut skipped = Vec::new();
    let is_wanted = |label: &str| wanted.is_empty() || wanted.iter().any(|part| label.contains(part));
    for name in BUILT.iter().filter(|name| ["f32", "int8"].iter().any(|p| is_wanted(&format!("{name}_{p}"))))
    {
        networks.extend(built(name, python)?);
    }
    let beside = root().join("../shared/models");
    for (name, tflite) in TINY {
        let network = tiny(&beside, name, tflite);
        if network.path.is_file() {
            networks.push(network);
        } else if is_wanted(&network.label()) {
            skipped.push(format!("{}: {} is not there", network.label(), network.path.display()));
        }
    }
    networks.extend(DIGITS.map(|(name, folder)| digits(name, folder)));
    networks.retain(|network| is_wanted(&network.label()));
    Ok((networks, skipped))
}

fn labels() -> Vec<String> {
    let built = BUILT.iter().flat_map(|name| [format!("{name}_f32"), format!("{name}_int8")]);
    built.chain(TINY.iter().chain(&DIGITS).map(|(name, _)| format!("{name}_int8"))).collect()
}

/// Where weights, pictures and built networks are kept.
pub(super) fn cache() -> PathBuf {
    target_dir().join("bench/models")
}

fn built(name: &str, python: &Path) -> Result<Vec<Network>> {
    let script = root().join("xtask/bench/models.py");
    let files = parse(&output(Command::new(python).arg(script).arg(cache()).arg(name))?)?;
    let network = |precision: &'static str| {
        let path = files[precision].as_str().unwrap_or_default();
        Network { name: name.to_owned(), precision, path: path.into(), tflite: None, examples: None }
    };
    Ok(vec![network("f32"), network("int8")])
}

fn tiny(folder: &Path, name: &str, tflite: &str) -> Network {
    Network {
        name: name.to_owned(),
        precision: "int8",
        path: folder.join(format!("{name}_int8.onnx")),
        tflite: Some(folder.join(format!("{tflite}.tflite"))),
        examples: Some(folder.join(format!("{name}_int8.npz"))),
    }
}

fn digits(name: &str, folder: &str) -> Network {
    let examples = root().join("examples/digits");
    Network {
        name: name.to_owned(),
        precision: "int8",
        path: examples.join(folder).join("model.onnx"),
        tflite: None,
        examples: Some(examples.join("heldout.npz")),
    }
}

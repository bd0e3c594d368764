//! Where ONNX Runtime spends its time on each network: what our kernels have to be faster than.

use super::{catalogue::Network, isa::Isa};
use crate::command::{output, root};
use anyhow::Result;
use serde_json::{Value, json};
use std::path::Path;

/// Its layers as Markdown, for each network and way to run.
pub(super) fn run(networks: &[Network], isas: &[Isa], python: &Path) -> Result<Value> {
    let mut text = String::new();
    for isa in isas {
        for network in networks {
            let mut command = isa.command(python);
            command.arg(root().join("xtask/bench/profile_ort.py")).arg(&network.path);
            text.push_str(&format!("## {}, {}\n\n{}\n", network.label(), isa.name, output(&mut command)?));
        }
    }
    Ok(json!({ "profile": text }))
}

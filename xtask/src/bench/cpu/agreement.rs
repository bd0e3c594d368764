//! How far our outputs are from ONNX Runtime's exact ones.

use super::{super::parse, catalogue, goals, speed::Setting};
use crate::command::{output, root};
use anyhow::Result;
use serde_json::{Value, json};
use std::fs;

/// One row: ours, and ONNX Runtime's default path for comparison.
pub(super) fn measure(setting: Setting) -> Result<Value> {
    let Setting { bench, network, isa, .. } = setting;
    // Where the inputs' files go for a while.
    fs::create_dir_all(catalogue::cache())?;
    let mut command = isa.command(&bench.python);
    command.current_dir(catalogue::cache());
    command.arg(root().join("xtask/bench/agree.py")).args([&bench.agent.path, &network.path]);
    command.arg(&network.name).arg(catalogue::cache()).arg(bench.options.inputs.to_string());
    command.args(&network.examples);
    let mut row = parse(&output(&mut command)?)?;
    row["ours"]["met"] = json!(goals::agrees(network, &row["ours"]));
    row["isa"] = json!(isa.name);
    row["model"] = json!(network.name);
    row["precision"] = json!(network.precision);
    eprintln!("  {} agreement: {}", network.label(), row["ours"]);
    Ok(row)
}

//! `cargo xtask bench`: published figures, each beside its peer in the same run.
//!
//! The machine may be shared, so absolute times mean little: ours and the peer's runs alternate, and the ratio is taken
//! within each round.

mod update;

use crate::{
    command::{self, cargo, output, root, target_dir},
    python,
};
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use std::{
    path::Path,
    process::{Command, ExitCode},
};

/// The benchmarks; all of them where none is named.
const NAMES: [&str; 2] = ["cpu", "update"];
const ROUNDS: usize = 7;
const RUNS: &str = "2000";

pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let as_json = args.iter().any(|a| a == "--json");
    let names: Vec<&str> = args.iter().map(String::as_str).filter(|a| *a != "--json").collect();
    if let Some(unknown) = names.iter().find(|name| !NAMES.contains(name)) {
        eprintln!(
            "error: reading the benchmark's name: {unknown:?} is none\nhint: there are {}",
            NAMES.join(", ")
        );
        return Ok(ExitCode::from(2));
    }
    let wanted = |name: &str| names.is_empty() || names.contains(&name);
    let mut figures = Map::new();
    if wanted("cpu") {
        figures.insert("cpu".into(), cpu()?.into());
    }
    if wanted("update") {
        figures.insert("update".into(), update::run()?);
    }
    if as_json {
        println!("{}", Value::Object(figures));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(rows) = figures.get("cpu").and_then(Value::as_array) {
        show_cpu(rows);
    }
    if let Some(value) = figures.get("update") {
        update::show(value);
    }
    Ok(ExitCode::SUCCESS)
}

fn show_cpu(rows: &[Value]) {
    println!("{:<24} {:>10} {:>10} {:>7}  (min to max)", "model", "ours", "peer", "ratio");
    for row in rows {
        println!(
            "{:<24} {:>7.4} ms {:>7.4} ms {:>7.2}  ({:.2} to {:.2})",
            row["model"].as_str().unwrap_or_default(),
            number(&row["ours_ms"]),
            number(&row["peer_ms"]),
            number(&row["ratio"]),
            number(&row["ratio_min"]),
            number(&row["ratio_max"]),
        );
    }
}

/// Inference at batch 1 on one thread, beside ONNX Runtime with its default options.
fn cpu() -> Result<Vec<Value>> {
    let python = python::environment("bench", &[root().join("xtask/bench/requirements.txt")])?;
    command::run(&mut cargo(&["build", "--release", "--package", "whimbrel-agent"]))?;
    let agent = target_dir().join("release/whimbrel-agent");
    let mut rows = Vec::new();
    for model in ["digits/v1", "digits/v2"] {
        let path = root().join("examples").join(model).join("model.onnx");
        rows.push(compare(model, &path, &agent, &python)?);
    }
    Ok(rows)
}

fn compare(model: &str, path: &Path, agent: &Path, python: &Path) -> Result<Value> {
    let (mut ours, mut peers, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut peer_version = Value::Null;
    for _ in 0..ROUNDS {
        let mine = parse(&output(Command::new(agent).arg("bench").arg(path).args([
            "--threads",
            "1",
            "--runs",
            RUNS,
            "--json",
        ]))?)?;
        let theirs =
            parse(&output(Command::new(python).arg(root().join("xtask/bench/ort.py")).arg(path).arg(RUNS))?)?;
        let (mine, theirs_ms) = (median_of(&mine)?, median_of(&theirs)?);
        peer_version = theirs["version"].clone();
        ours.push(mine);
        peers.push(theirs_ms);
        ratios.push(mine / theirs_ms);
    }
    ratios.sort_by(f64::total_cmp);
    Ok(json!({
        "model": model,
        "peer": "onnxruntime",
        "peer_version": peer_version,
        "threads": 1,
        "rounds": ROUNDS,
        "ours_ms": median(&mut ours),
        "peer_ms": median(&mut peers),
        "ratio": median(&mut ratios.clone()),
        "ratio_min": ratios.first(),
        "ratio_max": ratios.last(),
    }))
}

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).context("a benchmark's output is not JSON")
}

fn median_of(value: &Value) -> Result<f64> {
    match value["median_ms"].as_f64() {
        Some(ms) if ms > 0.0 => Ok(ms),
        _ => bail!("a benchmark printed no median_ms: {value}"),
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

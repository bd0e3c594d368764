//! `bench cpu`: inference on the CPU, beside the engines that a user would pick instead.

mod agent;
mod agreement;
mod catalogue;
mod goals;
mod isa;
mod peer;
mod plot;
mod profile;
mod report;
mod speed;
mod start;

use super::options::CpuOptions;
use crate::{
    command::{self, cargo, root, target_dir},
    python,
};
use agent::Agent;
use anyhow::{Error, Result};
use catalogue::Network;
use isa::Isa;
use serde_json::{Value, json};
use speed::Setting;
use std::path::{Path, PathBuf};

/// What every measurement needs.
struct Bench {
    agent: Agent,
    python: PathBuf,
    options: CpuOptions,
}

/// Every figure that was asked for.
///
/// # Errors
/// A program cannot be built, started or understood.
pub(super) fn run(options: &CpuOptions) -> Result<Value> {
    let python = python::environment("bench", &[root().join("xtask/bench/requirements.txt")])?;
    let (networks, mut skipped) = catalogue::networks(&options.models, &python)?;
    let (isas, skipped_isas) = isa::available(&options.isas, &python)?;
    skipped.extend(skipped_isas);
    for what in &skipped {
        eprintln!("skipped: {what}");
    }
    if options.profile {
        return profile::run(&networks, &isas, &python);
    }
    let bench = Bench { agent: agent(options.agent.as_deref())?, python, options: options.clone() };
    let mut tables = Tables::default();
    for isa in &isas {
        for network in &networks {
            eprintln!("{}, {}", network.label(), isa.name);
            tables.add(&bench, network, isa);
        }
    }
    let figures = json!({
        "machine": isa::machine(),
        "isas": isas.iter().map(about).collect::<Vec<_>>(),
        "speed": tables.speed,
        "start": tables.start,
        "agreement": tables.agreement,
        "skipped": skipped,
        "failed": tables.failed,
    });
    if options.write_docs {
        report::write_docs(&figures)?;
    }
    Ok(figures)
}

/// Whether everything that was to be measured was.
pub(super) fn is_whole(figures: &Value) -> bool {
    figures["failed"].as_array().is_none_or(Vec::is_empty)
}

/// Rows so far. What fails is told and noted, and the rest is measured all the same.
#[derive(Default)]
struct Tables {
    speed: Vec<Value>,
    start: Vec<Value>,
    agreement: Vec<Value>,
    failed: Vec<String>,
}

impl Tables {
    fn add(&mut self, bench: &Bench, network: &Network, isa: &Isa) {
        let setting = |threads| Setting { bench, network, threads, isa };
        for threads in &bench.options.threads {
            let rows = speed::measure(setting(*threads));
            self.speed
                .extend(rows.map_err(|e| self.failed.push(failure(network, isa, &e))).unwrap_or_default());
        }
        let row = start::measure(setting(1));
        self.start.extend(row.map_err(|e| self.failed.push(failure(network, isa, &e))).ok());
        let row = agreement::measure(setting(1));
        self.agreement.extend(row.map_err(|e| self.failed.push(failure(network, isa, &e))).ok());
    }
}

fn failure(network: &Network, isa: &Isa, error: &Error) -> String {
    let text = format!("{}, {}: {error:#}", network.label(), isa.name);
    eprintln!("failed: {text}");
    text
}

/// The figures for a terminal.
pub(super) fn show(figures: &Value) {
    // A profile is text already.
    let text = figures["profile"].as_str().map_or_else(|| report::markdown(figures), str::to_owned);
    print!("{text}");
}

fn about(isa: &Isa) -> Value {
    json!({ "name": isa.name, "onnxruntime_saturates": isa.saturates })
}

/// The agent that was named, or this workspace's in release.
fn agent(given: Option<&Path>) -> Result<Agent> {
    if let Some(path) = given {
        return Ok(Agent { path: std::path::absolute(path)? });
    }
    command::run(&mut cargo(&["build", "--release", "--package", "whimbrel-agent"]))?;
    Ok(Agent { path: target_dir().join("release/whimbrel-agent") })
}

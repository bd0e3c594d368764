//! `cargo xtask bench`: published figures, each beside its peer in the same run.
//!
//! The machine may be shared, so absolute times mean little: ours and the peer's runs alternate, and the ratio is taken
//! within each round.

mod cpu;
mod options;
mod stats;
mod update;

use anyhow::{Context, Result};
use options::Options;
use serde_json::{Map, Value};
use stats::{median, number};
use std::process::ExitCode;

pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("error: reading what to measure: {why}\nhint: cargo xtask help");
            return Ok(ExitCode::from(2));
        }
    };
    let mut figures = Map::new();
    if options.wants("cpu") {
        figures.insert("cpu".into(), cpu::run(&options.cpu)?);
    }
    if options.wants("update") {
        figures.insert("update".into(), update::run()?);
    }
    let whole = figures.get("cpu").is_none_or(cpu::is_whole);
    let code = if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if options.json {
        println!("{}", Value::Object(figures));
        return Ok(code);
    }
    if let Some(value) = figures.get("cpu") {
        cpu::show(value);
    }
    if let Some(value) = figures.get("update") {
        update::show(value);
    }
    Ok(code)
}

/// What a program that was asked for JSON printed.
fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).context("a benchmark's output is not JSON")
}

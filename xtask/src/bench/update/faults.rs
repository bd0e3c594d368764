//! Power cuts at every point of the simulator, and kills of the real agent.

use super::super::parse;
use crate::command::{self, cargo, target_dir};
use anyhow::{Context, Result};
use serde_json::Value;
use std::process::{Command, Stdio};

const KILLS: &str = "500";

pub(super) fn cut_points() -> Result<Value> {
    said(&mut cargo(&["run", "--quiet", "--package", "whimbrel-sim", "--bin", "cutpoints", "--", "--json"]))
}

pub(super) fn kills() -> Result<Value> {
    command::run(&mut cargo(&["build", "--workspace", "--bins"]))?;
    let programs = target_dir().join("debug");
    said(Command::new(programs.join("kills")).arg(KILLS).env("WHIMBREL_BIN_DIR", &programs))
}

/// The JSON that a program prints, also when what it found makes it fail: the figures are then what matters.
fn said(command: &mut Command) -> Result<Value> {
    let out = command.stderr(Stdio::inherit()).output().with_context(|| format!("starting {command:?}"))?;
    parse(String::from_utf8_lossy(&out.stdout).trim())
}

//! With which instructions the engines run: all that this CPU has, or AVX2 and nothing newer.
//!
//! Many devices end at AVX2. On a newer CPU, a preloaded library hides the rest from every process (`xtask/bench/cpumask.c`), so each
//! engine picks the kernels that it would pick there.

use super::super::parse;
use crate::command::{exists, output, root, run, target_dir};
use anyhow::Result;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A way to run the engines.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Isa {
    pub(super) name: String,
    mask: Option<PathBuf>,
    /// Whether ONNX Runtime's default int8 path saturates.
    pub(super) saturates: bool,
}

impl Isa {
    /// Lets a program see what this way shows.
    pub(super) fn apply(&self, command: &mut Command) {
        match &self.mask {
            Some(mask) => command.env("LD_PRELOAD", mask).env("WHIMBREL_CPU", "avx2"),
            None => command.env_remove("LD_PRELOAD").env_remove("WHIMBREL_CPU"),
        };
    }

    /// This program, started that way.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        self.apply(&mut command);
        command
    }
}

/// The ways that were asked for and that this machine offers, and what was skipped with the reason.
///
/// # Errors
/// Python does not run.
pub(super) fn available(wanted: &[String], python: &Path) -> Result<(Vec<Isa>, Vec<String>)> {
    let mut isas = Vec::new();
    let mut skipped = Vec::new();
    for name in wanted {
        let isa = match name.as_str() {
            "avx2" => masked(python)?,
            _ => {
                let mut native = Isa { name: name.clone(), mask: None, saturates: false };
                native.saturates = saturates(&native, python)?;
                Ok(native)
            }
        };
        match isa {
            Ok(isa) => isas.push(isa),
            Err(why) => skipped.push(format!("--isa {name}: {why}")),
        }
    }
    Ok((isas, skipped))
}

/// The way with AVX2 only, or why there is none.
fn masked(python: &Path) -> Result<Result<Isa, String>> {
    let flags = cpu_flags();
    let has = |flag: &str| flags.split_whitespace().any(|f| f == flag);
    if !has("avx2") {
        return Ok(Err("this CPU has no AVX2".into()));
    }
    if !["avx512f", "avx_vnni", "amx_tile"].into_iter().any(has) {
        return Ok(Err("this CPU has nothing newer than AVX2: native is the same".into()));
    }
    if !has("cpuid_fault") {
        return Ok(Err("this CPU or its hypervisor has no CPUID faulting, which hides what is newer".into()));
    }
    let Some(compiler) = ["cc", "gcc", "clang"].into_iter().find(|name| exists(name)) else {
        return Ok(Err("there is no C compiler to build the library that hides what is newer".into()));
    };
    let mask = target_dir().join("bench/cpumask.so");
    if let Some(folder) = mask.parent() {
        fs::create_dir_all(folder)?;
    }
    run(Command::new(compiler)
        .args(["-O2", "-shared", "-fPIC", "-o"])
        .arg(&mask)
        .arg(root().join("xtask/bench/cpumask.c")))?;
    let mut isa = Isa { name: "avx2".into(), mask: Some(mask), saturates: false };
    isa.saturates = match saturates(&isa, python) {
        Ok(saturates) => saturates,
        Err(e) => return Ok(Err(format!("no process runs with the newer instructions hidden: {e:#}"))),
    };
    if isa.saturates {
        Ok(Ok(isa))
    } else {
        Ok(Err("hiding the newer instructions has no effect on ONNX Runtime".into()))
    }
}

fn saturates(isa: &Isa, python: &Path) -> Result<bool> {
    let text = output(isa.command(python).arg(root().join("xtask/bench/probe.py")))?;
    Ok(parse(&text)?["saturates"] == Value::Bool(true))
}

fn cpu_info(field: &str) -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == field))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn cpu_flags() -> String {
    cpu_info("flags").unwrap_or_default()
}

/// The machine in words, for the tables.
pub(super) fn machine() -> String {
    let name = cpu_info("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{name}, {cores} cores")
}

//! `cargo xtask fuzz`: the targets of tests/fuzz under libFuzzer, on the stable toolchain.
//!
//! The coverage flags are the compiler's stable ones for its LLVM passes; the address sanitizer is not needed, since the
//! crates under test hold no `unsafe`.

use crate::command::{self, apt_install, cargo, exists, output, root, target_dir};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions";
/// Largest input, and the memory that a target may take for it.
const INPUT_BYTES_MAX: u32 = 64 << 10;
const MEMORY_MIB_MAX: u32 = 1024;
/// Longest time that one input may take.
const INPUT_SECONDS_MAX: u32 = 10;

pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let mut wanted = None;
    let mut seconds = 60u32;
    let mut keep = false;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => {
                let value = args.next().context("--seconds: a number must follow")?;
                seconds = value.parse().with_context(|| format!("--seconds: {value:?} is no number"))?;
            }
            "--keep" => keep = true,
            name if !name.starts_with('-') => wanted = Some(name.to_owned()),
            other => {
                eprintln!(
                    "error: reading the options: {other:?} is none\nhint: fuzz [TARGET] [--seconds N] [--keep]"
                );
                return Ok(ExitCode::from(2));
            }
        }
    }
    let corpora = root().join("tests/fuzz/corpus");
    let mut targets = names(&corpora)?;
    if let Some(wanted) = wanted {
        if !targets.contains(&wanted) {
            eprintln!("error: fuzzing {wanted:?}: no such target\nhint: there are {}", targets.join(", "));
            return Ok(ExitCode::from(2));
        }
        targets = vec![wanted];
    }
    let fuzz = build()?;
    for target in targets {
        one(&fuzz, &target, &corpora.join(&target), seconds, keep)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn names(corpora: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(corpora).with_context(|| format!("reading {}", corpora.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Builds the program with coverage, apart from other builds. Naming the machine's own target keeps the flags from
/// build scripts.
fn build() -> Result<PathBuf> {
    if !exists("c++") {
        apt_install(&["g++"])?;
    }
    let host = host()?;
    let dir = target_dir().join("fuzz");
    let mut build = cargo(&[
        "build",
        "--package",
        "whimbrel-fuzz",
        "--features",
        "libfuzzer",
        "--bin",
        "fuzz",
        "--target",
    ]);
    build.arg(&host).arg("--target-dir").arg(&dir).env("RUSTFLAGS", FLAGS).env("CARGO_INCREMENTAL", "0");
    command::run(&mut build)?;
    Ok(dir.join(host).join("debug/fuzz"))
}

fn host() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}

/// Runs one target. New inputs go to a folder of their own; `keep` adds those that reach further to the corpus.
fn one(fuzz: &Path, target: &str, corpus: &Path, seconds: u32, keep: bool) -> Result<()> {
    let work = target_dir().join("fuzz/work").join(target);
    let (found, crashes) = (work.join("found"), work.join("crashes"));
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&crashes)?;
    let log = work.join("log");
    let status = Command::new(fuzz)
        .env("FUZZ_TARGET", target)
        .arg(&found)
        .arg(corpus)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-artifact_prefix={}/", crashes.display()))
        .args(["-print_final_stats=1", "-verbosity=0", "-print_funcs=0"])
        .stderr(fs::File::create(&log).with_context(|| format!("creating {}", log.display()))?)
        .status()
        .with_context(|| format!("starting {}", fuzz.display()))?;
    if !status.success() {
        bail!(
            "{target} failed ({status}); the input is in {}, the log is {}",
            crashes.display(),
            log.display()
        );
    }
    let runs = statistic(&log, "stat::number_of_executed_units:")?;
    println!("{target}: {runs} inputs in {seconds} s, no failure");
    if keep {
        let mut merge = Command::new(fuzz);
        merge.env("FUZZ_TARGET", target).args(["-merge=1", "-verbosity=0"]).arg(corpus).arg(&found);
        command::run(&mut merge)?;
    }
    Ok(())
}

/// A figure that libFuzzer printed at the end.
fn statistic(log: &Path, name: &str) -> Result<u64> {
    let text = fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
    let figure = text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    figure.and_then(|f| f.parse().ok()).with_context(|| format!("{} holds no {name}", log.display()))
}

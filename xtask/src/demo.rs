//! `cargo xtask demo`: builds the three programs, then hands over to `whimbrel demo`.

use crate::command::{self, cargo, root, target_dir};
use anyhow::{Context, Result};
use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

/// The packages whose programs the demo starts.
pub(crate) const PROGRAMS: [&str; 3] = ["whimbrel-agent", "whimbrel-fleet", "whimbrel-cli"];

pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let mut build = cargo(&["build"]);
    for package in PROGRAMS {
        build.args(["--package", package]);
    }
    command::run(&mut build)?;
    // The demo takes this process's place, so that Ctrl-C and the exit code are its own.
    let error = Command::new(target_dir().join("debug/whimbrel"))
        .arg("demo")
        .args(["--examples".into(), root().join("examples")])
        .args(args)
        .exec();
    Err(error).context("starting the demo")
}

//! `cargo xtask miri`: the int8 kernels, AVX2's included, and the threads under Miri, which sees every access out of bounds, every misuse of
//! memory and every data race.
//!
//! It needs a nightly toolchain with Miri and takes minutes; CI does without it. The f32 kernels' sums would take hours.

use crate::command;
use anyhow::Result;
use std::process::{Command, ExitCode};

/// The tests of what holds `unsafe`, or is its twin.
const TESTS: [&str; 2] = ["qconv", "threads"];

pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    command::run(Command::new("rustup").args([
        "toolchain",
        "install",
        "nightly",
        "--profile",
        "minimal",
        "--component",
        "miri,rust-src",
    ]))?;
    let mut miri = Command::new("cargo");
    miri.args(["+nightly", "miri", "test", "--package", "whimbrel-cpu", "--lib", "--"]);
    if args.is_empty() {
        miri.args(TESTS);
    } else {
        miri.args(args);
    }
    miri.current_dir(command::root());
    // A folder of its own: what Miri builds fits nothing else.
    miri.env("CARGO_TARGET_DIR", command::target_dir().join("miri"));
    miri.env("MIRIFLAGS", "-Zmiri-disable-isolation");
    miri.env("RUSTFLAGS", "-Ctarget-feature=+avx2,+fma");
    command::run(&mut miri)?;
    Ok(ExitCode::SUCCESS)
}

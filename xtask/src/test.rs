//! `cargo xtask test`: every test, on real components that it installs and starts itself.

use crate::{
    command::{self, apt_install, cargo, exists, root, target_dir},
    python,
};
use anyhow::Result;
use std::process::ExitCode;

pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    if !exists("cc") {
        apt_install(&["gcc", "libc6-dev"])?;
    }
    let packages = [
        "examples/client-python/requirements.txt",
        "tests/onnx/requirements.txt",
        "tests/tuf/requirements.txt",
    ];
    let python = python::environment("test", &packages.map(|file| root().join(file)))?;
    // The programs first: the end-to-end tests start them as a user would.
    command::run(&mut cargo(&["build", "--workspace", "--bins"]))?;
    let mut test = cargo(&["test", "--workspace"]);
    test.env("WHIMBREL_BIN_DIR", target_dir().join("debug")).env("WHIMBREL_PYTHON", python);
    test.args(args);
    command::run(&mut test)?;
    Ok(ExitCode::SUCCESS)
}

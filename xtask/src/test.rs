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
    // A driver that computes on the processor, for the GPU's tests; without one they say that they are skipped.
    if cfg!(target_os = "linux") && !has_vulkan_driver() {
        apt_install(&["mesa-vulkan-drivers"])
            .unwrap_or_else(|error| eprintln!("no tests of the GPU: {error:#}"));
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

/// Whether some Vulkan driver is registered.
fn has_vulkan_driver() -> bool {
    let folders = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .any(|mut entries| entries.next().is_some())
}

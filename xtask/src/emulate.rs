//! `cargo xtask emulate`: the kernels' tests on the other architectures that ship, under qemu's user emulation.
//!
//! The emulated processor has every extension that kernels exist for, so that a machine of one architecture proves those of all.

use crate::command::{self, apt_install, cargo, exists};
use anyhow::{Result, bail};
use std::process::{Command, ExitCode};

/// An architecture to emulate.
struct Architecture {
    triple: &'static str,
    linker: &'static str,
    emulator: &'static str,
    /// Debian packages of the linker and the libraries.
    packages: [&'static str; 2],
    /// Where the libraries are.
    libraries: &'static str,
}

const ARCHITECTURES: [Architecture; 2] = [
    Architecture {
        triple: "aarch64-unknown-linux-gnu",
        linker: "aarch64-linux-gnu-gcc",
        emulator: "qemu-aarch64-static",
        packages: ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
        libraries: "/usr/aarch64-linux-gnu",
    },
    Architecture {
        triple: "armv7-unknown-linux-gnueabihf",
        linker: "arm-linux-gnueabihf-gcc",
        emulator: "qemu-arm-static",
        packages: ["gcc-arm-linux-gnueabihf", "libc6-dev-armhf-cross"],
        libraries: "/usr/arm-linux-gnueabihf",
    },
];

/// A test that looks at the process's memory: here that is the emulator's.
const OF_MEMORY: &str = "a_budget_holds_before_memory_is_taken";

pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let wanted: Vec<&Architecture> = ARCHITECTURES
        .iter()
        .filter(|a| args.is_empty() || args.iter().any(|arg| a.triple.starts_with(arg.as_str())))
        .collect();
    if wanted.is_empty() {
        let names = ARCHITECTURES.map(|a| a.triple).join(" or ");
        bail!("{args:?} names no architecture: say {names}, or nothing for all");
    }
    for architecture in wanted {
        test(architecture)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn test(architecture: &Architecture) -> Result<()> {
    let Architecture { triple, linker, emulator, packages, libraries } = architecture;
    if !exists(linker) {
        apt_install(packages)?;
    }
    if !exists(emulator) {
        apt_install(&["qemu-user-static"])?;
    }
    command::run(Command::new("rustup").args(["target", "add", triple]))?;
    let variable = |name: &str| format!("CARGO_TARGET_{}_{name}", triple.to_uppercase().replace('-', "_"));
    let mut test =
        cargo(&["test", "--package", "whimbrel-cpu", "--target", triple, "--", "--skip", OF_MEMORY]);
    test.env(variable("LINKER"), linker);
    test.env(variable("RUNNER"), format!("{emulator} -cpu max -L {libraries}"));
    test.env(format!("CC_{}", triple.replace('-', "_")), linker);
    command::run(&mut test)
}

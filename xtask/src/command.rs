//! Starting other programs.

use anyhow::{Context, Result, bail};
use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The folder that holds the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The cargo that started this task, in the workspace's folder.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(args);
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Runs to the end, with this process's terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let what = describe(command);
    let status = command.status().with_context(|| format!("starting `{what}`"))?;
    if !status.success() {
        bail!("`{what}` ended with {status}");
    }
    Ok(())
}

/// Runs to the end and gives its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let what = describe(command);
    let out = command.stderr(Stdio::inherit()).output().with_context(|| format!("starting `{what}`"))?;
    if !out.status.success() {
        bail!("`{what}` ended with {}: {}", out.status, String::from_utf8_lossy(&out.stdout).trim());
    }
    String::from_utf8(out.stdout).with_context(|| format!("output of `{what}`"))
}

/// Whether a program of this name is on the path.
pub(crate) fn exists(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Installs Debian packages where a program or module is missing and this user may install.
pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    let missing = format!("install {} and run again", packages.join(" "));
    if !exists("apt-get") {
        bail!("this machine has no apt-get: {missing}");
    }
    let sudo = output(Command::new("id").arg("-u"))?.trim() != "0";
    if sudo && !exists("sudo") {
        bail!("not root and no sudo: {missing}");
    }
    let apt = |args: &[&str]| {
        let mut command = if sudo { Command::new("sudo") } else { Command::new("apt-get") };
        if sudo {
            command.args(["-n", "apt-get"]);
        }
        command
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    };
    eprintln!("installing {}", packages.join(" "));
    run(&mut apt(&["update", "-qq"]))?;
    let mut args = vec!["install", "-y", "-qq", "--no-install-recommends"];
    args.extend(packages);
    run(&mut apt(&args))
}

fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args().take(8) {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

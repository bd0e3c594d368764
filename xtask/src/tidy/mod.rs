//! `cargo xtask tidy`: what the compiler does not check about the shape of the workspace.

mod arrows;
mod layout;
mod links;
mod source;

use crate::{command::root, target};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

pub(crate) fn run() -> Result<ExitCode> {
    let root = root();
    let files = tracked(&root)?;
    let mut problems = Vec::new();
    problems.extend(layout::check(&root)?);
    problems.extend(arrows::check(&root)?);
    for file in &files {
        let Ok(text) = fs::read_to_string(root.join(file)) else { continue };
        match file.extension().and_then(|e| e.to_str()) {
            Some("rs") => problems.extend(source::check(file, &text)),
            Some("md") => problems.extend(links::check(&root, file, &text)),
            _ => {}
        }
    }
    let boards = root.join("targets");
    for name in target::names(&boards)? {
        problems.extend(target::Target::read(&boards, &name).err().map(|e| format!("{e:#}")));
    }
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    if problems.is_empty() {
        println!("tidy: {} files, no problem", files.len());
        Ok(ExitCode::SUCCESS)
    } else {
        eprintln!("tidy: {} problems", problems.len());
        Ok(ExitCode::FAILURE)
    }
}

/// Every file that is part of the project: tracked, or new and not ignored.
fn tracked(root: &Path) -> Result<Vec<PathBuf>> {
    let out = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("listing the project's files with git")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    Ok(text.split('\0').filter(|p| !p.is_empty() && root.join(p).is_file()).map(PathBuf::from).collect())
}

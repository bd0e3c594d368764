//! What may stand at the top level.

use anyhow::{Context, Result};
use std::{fs, path::Path};

const FOLDERS: [&str; 13] = [
    "agent",
    "cli",
    "cross",
    "docs",
    "examples",
    "fleet-server",
    "targets",
    "tests",
    "updater",
    "wire",
    "xtask",
    ".ci",
    ".cargo",
];
const FILES: [&str; 14] = [
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    "clippy.toml",
    "deny.toml",
    "rust-toolchain.toml",
    "rustfmt.toml",
    ".gitattributes",
];
/// Made by tools, never committed.
const IGNORED: [&str; 4] = [".git", "dist", "target", ".venv"];

pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for entry in fs::read_dir(root).with_context(|| format!("reading {}", root.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let known = if entry.path().is_dir() {
            FOLDERS.contains(&name.as_str())
        } else {
            FILES.contains(&name.as_str())
        };
        if !known && !IGNORED.contains(&name.as_str()) {
            problems.push(format!("{name}: has no place at the top level (docs/ARCHITECTURE.md)"));
        }
    }
    for needed in FOLDERS {
        if !root.join(needed).is_dir() {
            problems.push(format!("{needed}/ is missing"));
        }
    }
    Ok(problems)
}

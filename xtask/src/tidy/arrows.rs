//! Which crate may know which. docs/ARCHITECTURE.md draws these arrows; any other fails.

use anyhow::{Context, Result};
use std::{fs, path::Path};
use toml::{Table, Value};

/// Folder, and the crates of the workspace that its own code may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("updater", &["whimbrel-wire"]),
    ("updater/app", &["whimbrel-updater"]),
    ("agent/infer", &[]),
    ("agent/cpu", &["whimbrel-infer"]),
    ("agent/pipeline", &["whimbrel-infer", "whimbrel-wire"]),
    ("agent/gpu", &["whimbrel-infer"]),
    ("agent/telemetry", &["whimbrel-wire"]),
    ("agent/serve", &["whimbrel-infer", "whimbrel-pipeline", "whimbrel-wire"]),
    (
        "agent/app",
        &[
            "whimbrel-cpu",
            "whimbrel-gpu",
            "whimbrel-infer",
            "whimbrel-pipeline",
            "whimbrel-serve",
            "whimbrel-telemetry",
            "whimbrel-updater",
            "whimbrel-wire",
        ],
    ),
    ("fleet-server", &["whimbrel-updater", "whimbrel-wire"]),
    ("cli", &["whimbrel-infer", "whimbrel-updater", "whimbrel-wire"]),
    ("xtask", &[]),
];
/// Folders that may use anything, since nothing uses them.
const FREE: [&str; 4] = ["tests", "tests/fuzz", "tests/sim", "examples/client-rust"];

/// Packages that one folder alone may name: each is a seam behind which it can be replaced.
const CONFINED: [(&str, &str); 7] = [
    ("serde_cbor", "wire"),
    ("tract-onnx", "agent/infer"),
    ("sled", "agent/telemetry"),
    ("rmqtt", "fleet-server"),
    ("sqlx", "fleet-server"),
    ("fastcdc", "updater"),
    ("wgpu", "agent/gpu"),
];

pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let workspace = read(&root.join("Cargo.toml"))?;
    let members = workspace["workspace"]["members"].as_array().cloned().unwrap_or_default();
    let mut problems = Vec::new();
    for member in members.iter().filter_map(Value::as_str) {
        let manifest = read(&root.join(member).join("Cargo.toml"))?;
        problems.extend(check_member(member, &manifest));
    }
    Ok(problems)
}

fn check_member(member: &str, manifest: &Table) -> Vec<String> {
    let mut problems = Vec::new();
    let free = FREE.contains(&member);
    let allowed = ALLOWED.iter().find(|a| a.0 == member).map(|a| a.1);
    if allowed.is_none() && !free {
        return vec![format!("{member}: not in the table of arrows (xtask/src/tidy/arrows.rs)")];
    }
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(table) = manifest.get(section).and_then(Value::as_table) else { continue };
        for (name, spec) in table {
            if spec.get("workspace").and_then(Value::as_bool) != Some(true) {
                problems.push(format!("{member}: {name} must take its version from the workspace"));
            }
            if section != "dependencies" || free {
                continue;
            }
            let inner = name.starts_with("whimbrel-");
            if inner && !allowed.is_some_and(|a| a.contains(&name.as_str())) {
                problems.push(format!("{member}: must not know {name}"));
            }
            if let Some((_, home)) = CONFINED.iter().find(|c| c.0 == name && c.1 != member) {
                problems.push(format!("{member}: {name} is used in {home} only"));
            }
        }
    }
    if manifest.get("lints").and_then(|l| l.get("workspace")).and_then(Value::as_bool) != Some(true) {
        problems.push(format!("{member}: must take its lints from the workspace"));
    }
    problems
}

fn read(path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    text.parse().with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(member: &str, dependencies: &str) -> Vec<String> {
        let text = format!("[lints]\nworkspace = true\n[dependencies]\n{dependencies}\n");
        check_member(member, &text.parse().expect("TOML"))
    }

    #[test]
    fn allowed_arrows_pass_and_others_are_named() {
        assert!(problems("updater", "whimbrel-wire.workspace = true").is_empty());
        for (member, dependency) in [
            ("wire", "whimbrel-updater.workspace = true"),
            ("updater", "whimbrel-infer.workspace = true"),
            ("agent/infer", "whimbrel-wire.workspace = true"),
            ("fleet-server", "whimbrel-serve.workspace = true"),
            ("cli", "tract-onnx.workspace = true"),
            ("updater", "serde = \"1\""),
            ("agent/other", ""),
        ] {
            assert_eq!(problems(member, dependency).len(), 1, "{member} {dependency}");
        }
    }
}

//! The board descriptions in `targets/`: what `dist` builds for, and what `tidy` checks.

use anyhow::{Context, Result, bail};
use std::{collections::BTreeMap, fs, path::Path};
use toml::{Table, Value};

/// One board, as `targets/NAME.toml` describes it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// Rust's name of the platform.
    pub(crate) triple: String,
    /// What is passed as `-C target-cpu`.
    pub(crate) cpu: String,
    /// The linker of a cross build; the platform's own when absent.
    pub(crate) linker: Option<String>,
}

/// Every key of a description: its place, its type, whether it must be there.
const KEYS: [(&str, &str, bool); 9] = [
    ("description", "string", true),
    ("build.triple", "string", true),
    ("build.cpu", "string", true),
    ("build.linker", "string", false),
    ("device.memory_bytes", "integer", true),
    ("device.disk_bytes", "integer", true),
    ("device.threads", "integer", true),
    ("device.backend", "string", true),
    ("device.notes", "string", false),
];
const TRIPLES: [&str; 6] = [
    "x86_64-unknown-linux-gnu",
    "x86_64-unknown-linux-musl",
    "aarch64-unknown-linux-gnu",
    "aarch64-unknown-linux-musl",
    "armv7-unknown-linux-gnueabihf",
    "riscv64gc-unknown-linux-gnu",
];
const BACKENDS: [&str; 3] = ["auto", "cpu", "gpu"];

impl Target {
    /// Reads and checks `dir/name.toml`.
    pub(crate) fn read(dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(format!("{name}.toml"));
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(name, &text).with_context(|| path.display().to_string())
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        let table: Table = text.parse().context("not TOML")?;
        let values = flatten(&table);
        for (key, value) in &values {
            let Some((_, kind, _)) = KEYS.iter().find(|k| k.0 == key) else { bail!("{key}: no such key") };
            if value.type_str() != *kind {
                bail!("{key}: expected {kind}, found {}", value.type_str());
            }
        }
        if let Some((key, ..)) = KEYS.iter().find(|k| k.2 && !values.contains_key(k.0)) {
            bail!("{key}: missing");
        }
        let text_of = |key: &str| values.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        one_of("build.triple", &text_of("build.triple"), &TRIPLES)?;
        one_of("device.backend", &text_of("device.backend"), &BACKENDS)?;
        for key in ["device.memory_bytes", "device.disk_bytes", "device.threads"] {
            if values.get(key).and_then(|v| v.as_integer()).is_none_or(|n| n <= 0) {
                bail!("{key}: expected a number above 0");
            }
        }
        Ok(Self {
            name: name.to_owned(),
            triple: text_of("build.triple"),
            cpu: text_of("build.cpu"),
            linker: values.contains_key("build.linker").then(|| text_of("build.linker")),
        })
    }
}

/// The names of all descriptions in a folder, sorted.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".toml").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn one_of(key: &str, value: &str, allowed: &[&str]) -> Result<()> {
    if !allowed.contains(&value) {
        bail!("{key}: {value:?}, expected one of {}", allowed.join(", "));
    }
    Ok(())
}

fn flatten(table: &Table) -> BTreeMap<String, &Value> {
    let mut out = BTreeMap::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => {
                out.extend(inner.iter().map(|(k, v)| (format!("{key}.{k}"), v)));
            }
            other => {
                out.insert(key.clone(), other);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "description = 'a board'\n[build]\ntriple = 'aarch64-unknown-linux-gnu'\ncpu = 'generic'\n\
        [device]\nmemory_bytes = 1\ndisk_bytes = 1\nthreads = 1\nbackend = 'auto'\n";

    #[test]
    fn a_description_is_read_and_each_defect_is_named() {
        assert_eq!(Target::parse("b", GOOD).expect("valid").triple, "aarch64-unknown-linux-gnu");
        for (from, to, expected) in [
            ("threads = 1", "threads = 0", "device.threads"),
            ("threads = 1", "threads = 'x'", "device.threads: expected integer"),
            ("threads = 1\n", "", "device.threads: missing"),
            ("'auto'", "'tpu'", "device.backend"),
            ("cpu = ", "cpus = ", "build.cpus: no such key"),
            ("aarch64-unknown-linux-gnu", "avr", "build.triple"),
        ] {
            let error = Target::parse("b", &GOOD.replace(from, to)).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

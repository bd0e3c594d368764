//! What a device fetches when a network changes, beside `zstd --patch-from` and the whole file.

use crate::{
    command::{self, apt_install, cargo, exists, output, root, target_dir},
    python,
};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const CHANGES: [&str; 3] = ["head", "full", "requantised"];
/// Networks of MLPerf Tiny, measured where their folder is beside the checkout; the project's own is measured anywhere.
const OTHERS: [&str; 3] = ["vww_mobilenetv1_025_int8", "ad_autoencoder_int8", "ic_resnet8_int8"];

pub(super) fn run() -> Result<Vec<Value>> {
    if !exists("zstd") {
        apt_install(&["zstd"])?;
    }
    command::run(&mut cargo(&["build", "--package", "whimbrel-cli"]))?;
    let python = python::environment("delta", &[root().join("xtask/bench/delta-requirements.txt")])?;
    let mut rows = Vec::new();
    for (name, model) in models() {
        let dir = target_dir().join("bench/delta").join(&name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        output(Command::new(&python).arg(root().join("xtask/bench/delta.py")).arg(&model).arg(&dir))?;
        pack(&dir, "base", "1.0.0")?;
        for change in CHANGES {
            rows.push(compare(&name, &dir, change)?);
        }
    }
    Ok(rows)
}

fn models() -> Vec<(String, PathBuf)> {
    let mut models = vec![("digits".to_owned(), root().join("examples/digits/v2/model.onnx"))];
    let beside = root().join("../shared/models");
    for name in OTHERS {
        let path = beside.join(format!("{name}.onnx"));
        if path.is_file() {
            models.push((name.to_owned(), path));
        }
    }
    models
}

fn compare(name: &str, dir: &Path, change: &str) -> Result<Value> {
    let new = pack(dir, change, "1.1.0")?;
    let model = dir.join(format!("{change}.onnx"));
    let diff = output(whimbrel().args(["bundle", "diff", "--json"]).arg(dir.join("base.wbundle")).arg(new))?;
    let diff: Value = serde_json::from_str(&diff).context("bundle diff printed no JSON")?;
    let patch = zstd(&model, dir, Some(&dir.join("base.onnx")))?;
    Ok(json!({
        "model": name,
        "change": change,
        "whole_bytes": fs::metadata(&model)?.len(),
        "zstd_bytes": zstd(&model, dir, None)?,
        "moved_bytes": diff["moved_bytes"],
        "patch_bytes": patch,
        "diff": diff,
    }))
}

fn whimbrel() -> Command {
    Command::new(target_dir().join("debug/whimbrel"))
}

/// Packs a network as a bundle with nothing else in it.
fn pack(dir: &Path, change: &str, version: &str) -> Result<PathBuf> {
    let (folder, bundle) = (dir.join(change), dir.join(format!("{change}.wbundle")));
    fs::create_dir_all(&folder)?;
    fs::copy(dir.join(format!("{change}.onnx")), folder.join("model.onnx"))?;
    fs::write(folder.join("golden.npz"), b"none")?;
    let manifest = format!(
        "name = \"m\"\nversion = \"{version}\"\nlicence = \"Apache-2.0\"\nmodel = \"model.onnx\"\n\
         inputs = [{{ name = \"x\", datatype = \"FP32\", shape = [-1] }}]\n\
         outputs = [{{ name = \"y\", datatype = \"FP32\", shape = [-1] }}]\n\
         golden = {{ file = \"golden.npz\", count = 1, tolerance = 0.1 }}\n"
    );
    fs::write(folder.join("bundle.toml"), manifest)?;
    output(whimbrel().args(["bundle", "pack"]).arg(&folder).arg("--out").arg(&bundle))?;
    Ok(bundle)
}

/// Size of a file compressed at level 19, as a patch of another where there is one.
fn zstd(file: &Path, dir: &Path, from: Option<&Path>) -> Result<u64> {
    let out = dir.join("zstd.out");
    let mut zstd = Command::new("zstd");
    zstd.args(["-19", "--quiet", "--force"]);
    if let Some(from) = from {
        zstd.arg(format!("--patch-from={}", from.display()));
    }
    output(zstd.arg(file).arg("-o").arg(&out))?;
    Ok(fs::metadata(&out)?.len())
}

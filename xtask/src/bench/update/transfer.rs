//! A bundle over loopback HTTPS: time beside `curl` and `sha256sum` of the same bytes, memory, and what is fetched again after a kill.

use super::super::{median, parse};
use crate::command::{self, apt_install, cargo, exists, output, target_dir};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

const SIZE_MIB: u64 = 100;
/// A second size, to see that memory does not follow it.
const LARGE_MIB: u64 = 400;
const ROUNDS: usize = 7;

/// The measuring program, a repository in a folder, and a server of it.
struct Bench {
    program: PathBuf,
    dir: PathBuf,
    url: String,
    server: Child,
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Nothing is left to be done where it ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub(super) fn run() -> Result<Value> {
    if !exists("curl") {
        apt_install(&["curl"])?;
    }
    let bench = Bench::start()?;
    let (mut ours, mut peers, mut ratios, mut above) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (mine, said) = bench.update(&format!("round-{round}"), "1.0.0")?;
        let theirs = bench.peer("1.0.0")?;
        above.push(megabytes(&said)?);
        ours.push(mine);
        peers.push(theirs);
        ratios.push(mine / theirs);
    }
    ratios.sort_by(f64::total_cmp);
    let (_, large) = bench.update("large", "2.0.0")?;
    Ok(json!({
        "size_mib": SIZE_MIB,
        "rounds": ROUNDS,
        "peer": "curl, then sha256sum",
        "ours_s": median(&ours),
        "peer_s": median(&peers),
        "ratio": median(&ratios.clone()),
        "ratio_min": ratios.first(),
        "ratio_max": ratios.last(),
        "above_idle_mb": {
            format!("{SIZE_MIB} MiB"): median(&above),
            format!("{LARGE_MIB} MiB"): megabytes(&large)?,
        },
        "resume": bench.killed_at_half()?,
    }))
}

fn megabytes(said: &Value) -> Result<f64> {
    let bytes = said["above_idle_bytes"].as_f64().context("the update printed no above_idle_bytes")?;
    Ok(bytes / 1e6)
}

impl Bench {
    fn start() -> Result<Self> {
        let build = ["build", "--release", "--package", "whimbrel-updater", "--example", "fetch"];
        command::run(&mut cargo(&build))?;
        let program = target_dir().join("release/examples/fetch");
        let dir = target_dir().join("bench/update");
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
        for (version, size) in [("1.0.0", SIZE_MIB), ("2.0.0", LARGE_MIB)] {
            let mut make = Command::new(&program);
            make.args(["make", "--version", version, "--size-mib", &size.to_string(), "--dir"]).arg(&dir);
            // Other bytes in each version, so that nothing of one is a part of the other.
            make.args(["--seed", &size.to_string()]);
            output(&mut make)?;
        }
        let mut serve = Command::new(&program);
        serve.arg("serve").arg("--dir").arg(&dir).stdout(Stdio::piped());
        let mut server = serve.spawn().context("starting the server")?;
        let stdout = server.stdout.take().context("the server has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let Some(url) = line.trim().strip_prefix("listening: ").map(ToOwned::to_owned) else {
            bail!("the server did not start: {line:?}");
        };
        Ok(Self { program, dir, url, server })
    }

    fn command(&self, state: &Path, version: &str) -> Command {
        let mut update = Command::new(&self.program);
        update.arg("update").arg("--dir").arg(&self.dir).args(["--base", &self.url, "--version", version]);
        update.arg("--state-dir").arg(state);
        update
    }

    /// Fetches and installs a version on a new device; seconds of the whole process, and what it printed.
    fn update(&self, device: &str, version: &str) -> Result<(f64, Value)> {
        let state = self.dir.join(device);
        let begun = Instant::now();
        let text = output(&mut self.command(&state, version))?;
        let seconds = begun.elapsed().as_secs_f64();
        fs::remove_dir_all(&state)?;
        Ok((seconds, last(&text)?))
    }

    /// The same bytes with other programs; seconds.
    fn peer(&self, version: &str) -> Result<f64> {
        let file = self.dir.join("peer.bin");
        let begun = Instant::now();
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--cacert"]).arg(self.dir.join("cert.pem"));
        curl.arg("--output").arg(&file).arg(format!("{}/raw/{version}.bin", self.url));
        output(&mut curl)?;
        output(Command::new("sha256sum").arg(&file))?;
        let seconds = begun.elapsed().as_secs_f64();
        fs::remove_file(&file)?;
        Ok(seconds)
    }

    /// Kills an update when half of it has come, and lets another process finish it.
    fn killed_at_half(&self) -> Result<Value> {
        let state = self.dir.join("killed");
        self.requests()?;
        let mut child = self.command(&state, "1.0.0").stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("the update has no output")?;
        let mut half = false;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
            if line.starts_with("progress") && numbers.len() == 2 && numbers[0] * 2 >= numbers[1] {
                half = true;
                break;
            }
        }
        child.kill()?;
        child.wait()?;
        if !half {
            bail!("the update was over before it could be killed");
        }
        let first = self.requests()?;
        let said = last(&output(&mut self.command(&state, "1.0.0"))?)?;
        let second = self.requests()?;
        let again: Vec<&String> = second.iter().filter(|path| first.contains(path)).collect();
        let bytes: u64 = again.iter().map(|path| self.size_bytes(path)).sum();
        fs::remove_dir_all(&state)?;
        Ok(json!({
            "chunks_before": first.len(),
            "chunks_after": second.len(),
            "chunks_again": again.len(),
            "bytes_again": bytes,
            "window_chunks": said["window_chunks"],
        }))
    }

    fn size_bytes(&self, path: &str) -> u64 {
        fs::metadata(self.dir.join(path.trim_start_matches('/'))).map_or(0, |m| m.len())
    }

    /// The chunks that were asked for since the last call.
    fn requests(&self) -> Result<Vec<String>> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--cacert"]).arg(self.dir.join("cert.pem"));
        let text = output(curl.arg(format!("{}/requests", self.url)))?;
        Ok(text.lines().filter(|path| path.starts_with("/chunks/")).map(ToOwned::to_owned).collect())
    }
}

/// The JSON in the last line.
fn last(text: &str) -> Result<Value> {
    parse(text.lines().last().unwrap_or_default())
}

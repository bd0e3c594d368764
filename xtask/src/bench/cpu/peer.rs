//! Another engine in a process of its own, ready between its turns.

use super::{super::parse, catalogue::Network, isa::Isa};
use crate::command::root;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

/// Steps of the wait for a process to come to rest.
const REST_STEP: Duration = Duration::from_millis(2);
const REST_STEPS_MAX: u32 = 250;

/// The other engines: what they are called in figures, and by `peer.py`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Engine {
    Ort,
    OrtExact,
    OpenVino,
    LiteRt,
}

impl Engine {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ort => "onnxruntime",
            Self::OrtExact => "onnxruntime-exact",
            Self::OpenVino => "openvino",
            Self::LiteRt => "litert",
        }
    }

    const fn argument(self) -> &'static str {
        match self {
            Self::Ort => "ort",
            Self::OrtExact => "ort-exact",
            Self::OpenVino => "openvino",
            Self::LiteRt => "litert",
        }
    }

    /// Those that a network is measured beside.
    pub(super) fn of(network: &Network) -> Vec<Self> {
        let mut engines = vec![Self::Ort];
        if network.is_int8() {
            engines.push(Self::OrtExact);
        }
        engines.push(Self::OpenVino);
        if network.tflite.is_some() {
            engines.push(Self::LiteRt);
        }
        engines
    }
}

/// A process that holds a loaded network.
pub(super) struct Peer {
    pub(super) engine: Engine,
    pub(super) version: String,
    pub(super) load_ms: f64,
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts the process and waits until the network is loaded and has run once.
    pub(super) fn start(
        engine: Engine,
        network: &Network,
        threads: u16,
        isa: &Isa,
        python: &Path,
    ) -> Result<Self> {
        let path = match (&network.tflite, engine) {
            (Some(tflite), Engine::LiteRt) => tflite,
            _ => &network.path,
        };
        let mut command = isa.command(python);
        command
            .arg(root().join("xtask/bench/peer.py"))
            .arg(engine.argument())
            .arg(path)
            .arg(threads.to_string());
        let mut child = spawn(&mut command)?;
        let (Some(commands), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the process of {} has no pipes", engine.name());
        };
        let mut peer = Self {
            engine,
            version: String::new(),
            load_ms: 0.0,
            child,
            commands,
            answers: BufReader::new(answers),
        };
        let ready = peer.answer()?;
        peer.version = ready["version"].as_str().unwrap_or_default().to_owned();
        peer.load_ms = ready["load_ms"].as_f64().context("no load_ms")?;
        Ok(peer)
    }

    /// `median_ms` and `min_ms` of runs over at least so many seconds; returns once the process is at rest.
    pub(super) fn run(&mut self, seconds: f64) -> Result<Value> {
        let answer = self.ask(&format!("run {seconds}"))?;
        self.rest();
        Ok(answer)
    }

    /// Waits until all its threads sleep: pools of threads spin for a while before they do.
    fn rest(&self) {
        for _ in 0..REST_STEPS_MAX {
            thread::sleep(REST_STEP);
            if self.tasks("stat").iter().all(|stat| !is_runnable(stat)) {
                return;
            }
        }
    }

    /// `peak_rss_bytes` and `before_load_rss_bytes` of the process.
    pub(super) fn memory(&mut self) -> Result<Value> {
        self.ask("memory")
    }

    /// Nanoseconds that its threads have been on a CPU.
    pub(super) fn cpu_ns(&self) -> u64 {
        let times = self.tasks("schedstat");
        times.iter().filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok()).sum()
    }

    /// This file of each of its threads.
    fn tasks(&self, file: &str) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        tasks.filter_map(|task| fs::read_to_string(task.path().join(file)).ok()).collect()
    }

    fn ask(&mut self, command: &str) -> Result<Value> {
        writeln!(self.commands, "{command}").with_context(|| format!("asking {}", self.engine.name()))?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read =
            self.answers.read_line(&mut line).with_context(|| format!("hearing {}", self.engine.name()))?;
        if read == 0 {
            bail!("the process of {} has ended: {:?}", self.engine.name(), self.child.try_wait());
        }
        parse(&line)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting another engine")
}

/// Whether a thread with this `stat` runs or waits for a CPU. Its state follows its name, which is in parentheses and may contain any.
fn is_runnable(stat: &str) -> bool {
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('R'))
}

#[cfg(test)]
mod tests {
    use super::is_runnable;

    #[test]
    fn the_state_of_a_thread_follows_its_name() {
        assert!(is_runnable("7 (a) S (b) R 1 7 7"));
        assert!(!is_runnable("7 (R) S 1 7 7") && !is_runnable(""));
    }
}

//! Our engine, as `whimbrel-agent bench` measures it.

use super::{super::parse, catalogue::Network, isa::Isa};
use crate::command::output;
use anyhow::{Result, bail};
use serde_json::Value;
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// Share of the measured runs that come before them.
const WARM_UP_SHARE: f64 = 0.2;
const RUNS_MIN: u32 = 5;
const RUNS_MAX: f64 = 1e6;

/// The agent's program.
pub(super) struct Agent {
    pub(super) path: PathBuf,
}

/// How many runs fill a turn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Runs {
    pub(super) warm_up: u32,
    pub(super) measured: u32,
}

impl Runs {
    /// One run, as for memory and loading.
    pub(super) const ONE: Self = Self { warm_up: 0, measured: 1 };
    /// Enough to learn how long one takes.
    pub(super) const FEW: Self = Self { warm_up: 2, measured: RUNS_MIN };

    /// As many as take so many seconds where one takes `run_ms`.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to a range that fits before the cast"
    )]
    pub(super) fn filling(seconds: f64, run_ms: f64) -> Self {
        let runs = (seconds * 1000.0 / run_ms).ceil().clamp(f64::from(RUNS_MIN), RUNS_MAX);
        Self { warm_up: (runs * WARM_UP_SHARE).ceil() as u32, measured: runs as u32 }
    }
}

impl Agent {
    /// What `bench --json` prints, with a positive `median_ms`.
    pub(super) fn bench(&self, network: &Network, threads: u16, runs: Runs, isa: &Isa) -> Result<Value> {
        self.bench_with(network, threads, runs, isa, &[])
    }

    /// The same of one run, with a plan cache in a folder.
    pub(super) fn bench_cached(
        &self,
        network: &Network,
        threads: u16,
        isa: &Isa,
        folder: &Path,
    ) -> Result<Value> {
        self.bench_with(network, threads, Runs::ONE, isa, &[OsStr::new("--plan-cache"), folder.as_os_str()])
    }

    fn bench_with(
        &self,
        network: &Network,
        threads: u16,
        runs: Runs,
        isa: &Isa,
        more: &[&OsStr],
    ) -> Result<Value> {
        let mut command = isa.command(&self.path);
        command.arg("bench").arg(&network.path).args(["--json", "--backend", "cpu"]);
        command.args(["--threads", &threads.to_string()]);
        command
            .args(["--runs", &runs.measured.to_string(), "--warmup", &runs.warm_up.to_string()])
            .args(more);
        let value = parse(&output(&mut command)?)?;
        if value["median_ms"].as_f64().is_none_or(|ms| ms <= 0.0) {
            bail!("whimbrel-agent bench printed no median_ms: {value}");
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_has_enough_runs_and_not_too_many() {
        assert_eq!(Runs::filling(0.15, 1.0), Runs { warm_up: 30, measured: 150 });
        assert_eq!(Runs::filling(0.15, 80.0), Runs { warm_up: 1, measured: 5 });
        assert_eq!(Runs::filling(0.15, 1e-9).measured, 1_000_000);
    }
}

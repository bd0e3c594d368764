//! Time of one inference at batch 1: every engine in turn, round after round, only one of them at work.

use super::{
    super::stats::{Ratio, number},
    Bench,
    agent::Runs,
    catalogue::Network,
    goals,
    isa::Isa,
    peer::{Engine, Peer},
};
use anyhow::Result;
use serde_json::{Value, json};
use std::time::Instant;

/// Share of others' turns that an engine may spend on a CPU before its neighbours' figures are in doubt.
const IDLE_SHARE_MAX: f64 = 0.02;

/// What is measured with.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) bench: &'a Bench,
    pub(super) network: &'a Network,
    pub(super) threads: u16,
    pub(super) isa: &'a Isa,
}

/// A row for each other engine.
pub(super) fn measure(setting: Setting) -> Result<Vec<Value>> {
    let Setting { bench, network, threads, isa } = setting;
    let mut contenders = vec![Contender::of(Runner::ours(setting)?)];
    for engine in Engine::of(network) {
        let peer = Peer::start(engine, network, threads, isa, &bench.python)?;
        contenders.push(Contender::of(Runner::Peer(peer)));
    }
    for round in 0..bench.options.rounds {
        // There and back, so that nobody always follows the same engine.
        for step in 0..contenders.len() {
            let index = if round % 2 == 0 { step } else { contenders.len() - 1 - step };
            take_turn(index, &mut contenders, setting)?;
        }
    }
    let Some((ours, peers)) = contenders.split_first() else { return Ok(Vec::new()) };
    Ok(peers.iter().filter_map(|peer| row(setting, ours, peer)).collect())
}

fn take_turn(index: usize, contenders: &mut [Contender], setting: Setting) -> Result<()> {
    let before: Vec<u64> = contenders.iter().map(Contender::cpu_ns).collect();
    let start = Instant::now();
    let figures = contenders[index].runner.turn(setting)?;
    contenders[index].median_ms.push(number(&figures["median_ms"]));
    contenders[index].min_ms.push(number(&figures["min_ms"]));
    let wall_ns = start.elapsed().as_secs_f64() * 1e9;
    for (other, contender) in contenders.iter_mut().enumerate().filter(|(other, _)| *other != index) {
        #[allow(clippy::cast_precision_loss, reason = "a share for people")]
        let busy_ns = contender.cpu_ns().saturating_sub(before[other]) as f64;
        contender.idle_busy_ns += busy_ns;
        contender.idle_wall_ns += wall_ns;
    }
    Ok(())
}

fn row(setting: Setting, ours: &Contender, peer: &Contender) -> Option<Value> {
    let Setting { bench, network, threads, isa } = setting;
    let Runner::Peer(process) = &peer.runner else { return None };
    let ratio = Ratio::of(&ours.median_ms, &peer.median_ms);
    let goal = goals::speed(network, process.engine);
    let mut row = json!({
        "isa": isa.name,
        "model": network.name,
        "precision": network.precision,
        "threads": threads,
        "peer": process.engine.name(),
        "peer_version": process.version,
        "backend": ours.backend(),
        "rounds": bench.options.rounds,
        "ours_best_ms": ours.best_ms(),
        "peer_best_ms": peer.best_ms(),
        "peer_idle_share": peer.idle_share(),
    });
    if let (Some(row), Value::Object(fields)) = (row.as_object_mut(), ratio.fields("ms", goal)) {
        row.extend(fields);
    }
    eprintln!(
        "  {} threads {threads}: {:.4} ms, {} {:.4} ms, ratio {:.2} ({:.2} to {:.2}){}",
        network.label(),
        ratio.ours,
        process.engine.name(),
        ratio.peer,
        ratio.median,
        ratio.min,
        ratio.max,
        goals::remark(goal, ratio.median),
    );
    if peer.idle_share() > IDLE_SHARE_MAX {
        eprintln!(
            "warning: {} was busy for {:.0} % of others' turns",
            process.engine.name(),
            100.0 * peer.idle_share()
        );
    }
    Some(row)
}

/// An engine and what it did in its turns.
struct Contender {
    runner: Runner,
    /// Of each round.
    median_ms: Vec<f64>,
    min_ms: Vec<f64>,
    /// CPU time during others' turns, and the length of those.
    idle_busy_ns: f64,
    idle_wall_ns: f64,
}

enum Runner {
    /// A new process for each turn: it has the runs that fill a turn from a trial.
    Ours {
        runs: Runs,
        backend: String,
    },
    Peer(Peer),
}

impl Contender {
    const fn of(runner: Runner) -> Self {
        Self { runner, median_ms: Vec::new(), min_ms: Vec::new(), idle_busy_ns: 0.0, idle_wall_ns: 0.0 }
    }

    fn idle_share(&self) -> f64 {
        if self.idle_wall_ns > 0.0 { self.idle_busy_ns / self.idle_wall_ns } else { 0.0 }
    }

    /// The fastest run of all rounds.
    fn best_ms(&self) -> f64 {
        self.min_ms.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn cpu_ns(&self) -> u64 {
        match &self.runner {
            Runner::Ours { .. } => 0,
            Runner::Peer(peer) => peer.cpu_ns(),
        }
    }

    fn backend(&self) -> Option<&str> {
        match &self.runner {
            Runner::Ours { backend, .. } => Some(backend),
            Runner::Peer(_) => None,
        }
    }
}

impl Runner {
    fn ours(setting: Setting) -> Result<Self> {
        let trial = setting.bench.agent.bench(setting.network, setting.threads, Runs::FEW, setting.isa)?;
        let runs = Runs::filling(setting.bench.options.seconds, number(&trial["min_ms"]));
        Ok(Self::Ours { runs, backend: trial["backend"].as_str().unwrap_or_default().to_owned() })
    }

    /// `median_ms` and `min_ms` of the turn.
    fn turn(&mut self, setting: Setting) -> Result<Value> {
        let Setting { bench, network, threads, isa } = setting;
        match self {
            Self::Ours { runs, .. } => bench.agent.bench(network, threads, *runs, isa),
            Self::Peer(peer) => peer.run(bench.options.seconds),
        }
    }
}

//! Rollouts: who is asked to update, and when. Pure: no clock, no database, no network.
//!
//! # Rules
//! - Devices are ordered by a hash of their id. A stage of `p` percent is the first `ceil(n * p / 100)` of the `n` matching
//!   devices, so a preview is the execution, and the same devices go first in every rollout.
//! - A stage's gate looks at the devices asked in that stage: it passes when at least `success_percent_min` percent of
//!   them run the version confirmed; it fails as soon as so many of them have failed that it cannot pass. A device that
//!   says nothing counts for neither: without data nothing goes on.
//! - A passed gate must hold for `soak_s` seconds before the next stage.
//! - Pause asks nobody. Resume asks the devices that failed again, with a higher attempt.
//! - Abort keeps confirmed devices; every other asked device gets back what it was asked to run before. A device that
//!   confirms at that very moment goes back too.
//! - Rollback gives every asked device back what it was asked to run before; offline ones find it when they return.
//! - A version that the device refused or took back is never given back to it: the one before that is.
//! - Of several rollouts of one model that match a device, the newest that is running, paused or done has it. A done
//!   rollout goes on to ask matching devices that have no version of the model at all: those that enrolled later.

mod describe;
mod plan;
mod preview;
#[cfg(test)]
mod properties;

pub(crate) use describe::{Facts, Waiting, why};
pub(crate) use plan::plan;
pub(crate) use preview::{Candidate, Costs, preview, to_compare};

use sha2::{Digest as _, Sha256};
use whimbrel_wire::{
    DeviceId,
    api::{NewRollout, OnFailure, RolloutCounts, RolloutState},
};

/// Most stages.
pub(crate) const STAGES_MAX: usize = 32;

/// What of a rollout the plan depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rollout {
    /// Share of the fleet after each stage, in percent.
    pub(crate) stages: Vec<u8>,
    /// Share of a stage's devices that must confirm, in percent.
    pub(crate) success_percent_min: u8,
    /// What a failed gate does.
    pub(crate) on_failure: OnFailure,
    /// Milliseconds between a passed gate and the next stage.
    pub(crate) soak_ms: i64,
    /// Where it stands.
    pub(crate) state: RolloutState,
    /// The stage that runs, from 0.
    pub(crate) stage: u32,
    /// When the stage's gate passed and has held since, milliseconds since 1970 UTC.
    pub(crate) passed_ms: Option<i64>,
}

/// One device that matches a rollout or was asked by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observation {
    /// Which device.
    pub(crate) device: DeviceId,
    /// Whether the rollout's selector matches it now.
    pub(crate) matches: bool,
    /// What became of it, when this rollout has asked it.
    pub(crate) asked: Option<Asked>,
    /// Whether a newer rollout has it; then this one asks it no more.
    pub(crate) taken: bool,
    /// Whether any version of the model is asked of it.
    pub(crate) has_version: bool,
}

/// A device that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// In which stage.
    pub(crate) stage: u32,
    /// What became of it.
    pub(crate) outcome: Outcome,
    /// Whether what is asked of it now still comes from this rollout.
    pub(crate) holds: bool,
}

/// What became of a device that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing final was heard.
    Pending,
    /// It runs the version, confirmed.
    Active,
    /// It refused it.
    Rejected,
    /// It took it back after it served.
    RolledBack,
}

impl Outcome {
    /// Whether the device tried and did not keep the version.
    pub(crate) const fn failed(self) -> bool {
        matches!(self, Self::Rejected | Self::RolledBack)
    }
}

/// What an operator asks of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// Ask nobody until resumed.
    Pause,
    /// Go on; ask failed devices again.
    Resume,
    /// Give up; keep confirmed devices.
    Abort,
    /// Give up; every asked device goes back.
    RollBack,
}

/// What to do now. All of it is stored in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Devices to ask, or to ask again.
    pub(crate) ask: Vec<DeviceId>,
    /// Devices that get back what they were asked to run before.
    pub(crate) give_back: Vec<DeviceId>,
    /// Where the rollout stands afterwards, when that changes.
    pub(crate) moved: Option<Move>,
}

/// Where a rollout stands after a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    /// Its state.
    pub(crate) state: RolloutState,
    /// Its stage.
    pub(crate) stage: u32,
    /// Since when its gate holds.
    pub(crate) passed_ms: Option<i64>,
    /// Why, one sentence.
    pub(crate) reason: String,
}

impl Decision {
    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.ask.is_empty() && self.give_back.is_empty() && self.moved.is_none()
    }
}

/// Why a command cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rollout is {state}: it cannot be {asked}")]
pub(crate) struct Refused {
    state: &'static str,
    asked: &'static str,
}

/// Carries out an operator's command. Asking for the state it is in already changes nothing.
///
/// # Errors
/// [`Refused`] when the command makes no sense in the rollout's state.
pub(crate) fn command(
    rollout: &Rollout,
    devices: &[Observation],
    command: Command,
    by: &str,
) -> Result<Decision, Refused> {
    use RolloutState as S;
    let (state, asked, from): (_, _, &[S]) = match command {
        Command::Pause => (S::Paused, "paused", &[S::Running]),
        Command::Resume => (S::Running, "resumed", &[S::Paused]),
        Command::Abort => (S::Aborted, "aborted", &[S::Running, S::Paused]),
        Command::RollBack => (S::RolledBack, "rolled back", &[S::Running, S::Paused, S::Done, S::Aborted]),
    };
    if rollout.state == state {
        return Ok(Decision::default());
    }
    if !from.contains(&rollout.state) {
        return Err(Refused { state: state_name(rollout.state), asked });
    }
    let pick = |f: fn(&Observation, Outcome) -> bool| {
        let held = |d: &&Observation| d.asked.is_some_and(|a| a.holds && f(d, a.outcome));
        devices.iter().filter(held).map(|d| d.device.clone()).collect()
    };
    let moved = Move { state, stage: rollout.stage, passed_ms: None, reason: format!("{asked} by {by}") };
    let mut decision = Decision { moved: Some(moved), ..Decision::default() };
    match command {
        Command::Pause => {}
        Command::Resume => decision.ask = pick(|d, o| !d.taken && o.failed()),
        Command::Abort => decision.give_back = pick(|_, o| o != Outcome::Active),
        Command::RollBack => decision.give_back = pick(|_, _| true),
    }
    Ok(decision)
}

/// How many devices of a rollout stand where.
pub(crate) fn counts(devices: &[Observation]) -> RolloutCounts {
    let outcome = |wanted| count(devices, |d| d.asked.is_some_and(|a| a.outcome == wanted));
    RolloutCounts {
        matched: count(devices, |d| d.asked.is_some() || (d.matches && !d.taken)),
        asked: count(devices, |d| d.asked.is_some()),
        active: outcome(Outcome::Active),
        rejected: outcome(Outcome::Rejected),
        rolled_back: outcome(Outcome::RolledBack),
    }
}

/// Checks a new rollout's numbers.
///
/// # Errors
/// A sentence naming the field and the rule.
pub(crate) fn validate(new: &NewRollout) -> Result<(), String> {
    if new.stages.is_empty() || new.stages.len() > STAGES_MAX {
        return Err(format!("stages: {} of them, expected 1 to {STAGES_MAX}", new.stages.len()));
    }
    if new.stages[0] == 0 || new.stages.windows(2).any(|w| w[0] >= w[1]) || new.stages.last() != Some(&100) {
        return Err(format!(
            "stages: {:?}, expected ascending percentages of which the last is 100",
            new.stages
        ));
    }
    if !(1..=100).contains(&new.success_percent_min) {
        return Err(format!("success_percent_min: {}, expected 1 to 100", new.success_percent_min));
    }
    if new.tags.len() > 16 || new.tags.iter().any(|t| t.is_empty() || t.len() > 64) {
        return Err("tags: expected at most 16 of 1 to 64 bytes".into());
    }
    Ok(())
}

/// The place of a device in every rollout.
pub(crate) fn rank(device: &DeviceId) -> u64 {
    let hash: [u8; 32] = Sha256::digest(device.as_str()).into();
    u64::from_be_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]])
}

/// A state as people read it.
pub(crate) const fn state_name(state: RolloutState) -> &'static str {
    match state {
        RolloutState::Running => "running",
        RolloutState::Paused => "paused",
        RolloutState::Done => "done",
        RolloutState::Aborted => "aborted",
        RolloutState::RolledBack => "rolled back",
    }
}

fn count(devices: &[Observation], f: impl Fn(&Observation) -> bool) -> u64 {
    devices.iter().filter(|d| f(d)).count() as u64
}

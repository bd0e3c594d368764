//! The planner: what to do next, from what is known now.

use super::{Decision, Move, Observation, Outcome, Rollout, rank};
use whimbrel_wire::{
    DeviceId,
    api::{OnFailure, RolloutState},
};

/// What to do next. `devices` are those that match the rollout or were asked by it. The same arguments give the same
/// decision; carrying it out and calling again gives nothing to do until something changes or time passes.
pub(crate) fn plan(rollout: &Rollout, devices: &[Observation], now_ms: i64) -> Decision {
    match rollout.state {
        RolloutState::Running => running(rollout, devices, now_ms),
        RolloutState::Done => done(devices),
        RolloutState::Paused | RolloutState::Aborted | RolloutState::RolledBack => Decision::default(),
    }
}

/// How many of `matched` devices a share of `percent` is: rounded up, so that the first stage is never empty.
pub(super) fn share(matched: usize, percent: u8) -> usize {
    (matched * usize::from(percent.min(100))).div_ceil(100)
}

/// The gate over the devices asked in one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Not enough was heard.
    Open,
    /// Enough confirmed.
    Passed,
    /// So many failed that it cannot pass.
    Failed {
        /// Devices that failed.
        failed: usize,
        /// Devices asked in the stage.
        of: usize,
    },
}

pub(super) fn gate(success_percent_min: u8, stage: impl Iterator<Item = Outcome>) -> Gate {
    let (mut of, mut active, mut failed) = (0usize, 0usize, 0usize);
    for outcome in stage {
        of += 1;
        active += usize::from(outcome == Outcome::Active);
        failed += usize::from(outcome.failed());
    }
    let needed = share(of, success_percent_min);
    if failed > of - needed {
        Gate::Failed { failed, of }
    } else if active >= needed {
        Gate::Passed
    } else {
        Gate::Open
    }
}

fn running(rollout: &Rollout, devices: &[Observation], now_ms: i64) -> Decision {
    let ours: Vec<&Observation> =
        devices.iter().filter(|d| !d.taken && (d.matches || d.asked.is_some())).collect();
    if ours.is_empty() {
        return if devices.iter().any(|d| d.taken) { superseded(rollout) } else { Decision::default() };
    }
    let in_stage = ours.iter().filter_map(|d| d.asked).filter(|a| a.stage == rollout.stage);
    let gate = gate(rollout.success_percent_min, in_stage.map(|a| a.outcome));
    if let Gate::Failed { failed, of } = gate {
        return failed_gate(rollout, devices, failed, of);
    }
    let ask = to_ask(rollout, &ours);
    if !ask.is_empty() {
        // New devices in the stage: its gate is judged again once they have answered.
        let moved = rollout.passed_ms.map(|_| stay(rollout, None, "more devices joined the stage".into()));
        return Decision { ask, moved, ..Decision::default() };
    }
    match (gate, rollout.passed_ms) {
        (Gate::Passed, None) if rollout.soak_ms > 0 => {
            let reason = format!("stage {} passed its gate, soaking", rollout.stage + 1);
            Decision { moved: Some(stay(rollout, Some(now_ms), reason)), ..Decision::default() }
        }
        (Gate::Passed, None) => next(rollout),
        (Gate::Passed, Some(since)) if now_ms.saturating_sub(since) >= rollout.soak_ms => next(rollout),
        (Gate::Open, Some(_)) => {
            let reason = format!("stage {} no longer passes its gate", rollout.stage + 1);
            Decision { moved: Some(stay(rollout, None, reason)), ..Decision::default() }
        }
        _ => Decision::default(),
    }
}

/// Devices of the stage that were not asked yet, in order, never more than the stage allows in all.
fn to_ask(rollout: &Rollout, ours: &[&Observation]) -> Vec<DeviceId> {
    let percent = rollout.stages.get(rollout.stage as usize).copied().unwrap_or(100);
    let asked = ours.iter().filter(|d| d.asked.is_some()).count();
    let room = share(ours.len(), percent).saturating_sub(asked);
    let mut free: Vec<&DeviceId> =
        ours.iter().filter(|d| d.asked.is_none() && d.matches).map(|d| &d.device).collect();
    free.sort_by_key(|d| (rank(d), d.as_str()));
    free.into_iter().take(room).cloned().collect()
}

fn next(rollout: &Rollout) -> Decision {
    let passed = rollout.stage + 1;
    let moved = if passed as usize >= rollout.stages.len() {
        let reason = format!("all {passed} stages passed");
        Move { state: RolloutState::Done, stage: rollout.stage, passed_ms: None, reason }
    } else {
        let reason =
            format!("stage {passed} passed, stage {} of {} started", passed + 1, rollout.stages.len());
        Move { state: RolloutState::Running, stage: passed, passed_ms: None, reason }
    };
    Decision { moved: Some(moved), ..Decision::default() }
}

fn failed_gate(rollout: &Rollout, devices: &[Observation], failed: usize, of: usize) -> Decision {
    let why = format!(
        "the gate of stage {} failed: {failed} of {of} devices did not keep the version, {} % must",
        rollout.stage + 1,
        rollout.success_percent_min
    );
    let moved = |state, what: &str| {
        Some(Move { state, stage: rollout.stage, passed_ms: None, reason: format!("{what}: {why}") })
    };
    match rollout.on_failure {
        OnFailure::Pause => Decision { moved: moved(RolloutState::Paused, "paused"), ..Decision::default() },
        OnFailure::RollBack => Decision {
            give_back: devices
                .iter()
                .filter(|d| d.asked.is_some_and(|a| a.holds))
                .map(|d| d.device.clone())
                .collect(),
            moved: moved(RolloutState::RolledBack, "rolled back"),
            ..Decision::default()
        },
    }
}

fn superseded(rollout: &Rollout) -> Decision {
    let reason = "a newer rollout of the model has every device of this one".into();
    let moved = Move { state: RolloutState::Aborted, stage: rollout.stage, passed_ms: None, reason };
    Decision { moved: Some(moved), ..Decision::default() }
}

/// A finished rollout is the version for devices that have none.
fn done(devices: &[Observation]) -> Decision {
    let fresh = devices.iter().filter(|d| d.matches && !d.taken && d.asked.is_none() && !d.has_version);
    Decision { ask: fresh.map(|d| d.device.clone()).collect(), ..Decision::default() }
}

fn stay(rollout: &Rollout, passed_ms: Option<i64>, reason: String) -> Move {
    Move { state: rollout.state, stage: rollout.stage, passed_ms, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::Asked;

    fn rollout(stages: &[u8]) -> Rollout {
        Rollout {
            stages: stages.to_vec(),
            success_percent_min: 80,
            on_failure: OnFailure::Pause,
            soak_ms: 0,
            state: RolloutState::Running,
            stage: 0,
            passed_ms: None,
        }
    }

    fn devices(n: usize) -> Vec<Observation> {
        (0..n)
            .map(|i| Observation {
                device: format!("d{i}").parse().expect("valid"),
                matches: true,
                asked: None,
                taken: false,
                has_version: false,
            })
            .collect()
    }

    fn answer(devices: &mut [Observation], decision: &Decision, stage: u32, outcome: Outcome) {
        for d in devices.iter_mut().filter(|d| decision.ask.contains(&d.device)) {
            d.asked = Some(Asked { stage, outcome, holds: true });
        }
    }

    #[test]
    fn stages_grow_only_after_the_gate_and_end_in_done() {
        let mut r = rollout(&[10, 100]);
        let mut fleet = devices(20);
        let first = plan(&r, &fleet, 0);
        assert_eq!(first.ask.len(), 2);
        answer(&mut fleet, &first, 0, Outcome::Pending);
        assert!(plan(&r, &fleet, 1).is_empty(), "goes on without data");
        answer(&mut fleet, &first, 0, Outcome::Active);
        let moved = plan(&r, &fleet, 2).moved.expect("moves");
        assert_eq!((moved.state, moved.stage), (RolloutState::Running, 1));
        r.stage = 1;
        let second = plan(&r, &fleet, 3);
        assert_eq!(second.ask.len(), 18);
        answer(&mut fleet, &second, 1, Outcome::Active);
        assert_eq!(plan(&r, &fleet, 4).moved.map(|m| m.state), Some(RolloutState::Done));
    }

    #[test]
    fn a_failed_gate_pauses_or_rolls_back() {
        let mut r = rollout(&[100]);
        let mut fleet = devices(4);
        let first = plan(&r, &fleet, 0);
        answer(&mut fleet, &first, 0, Outcome::Active);
        fleet[1].asked = Some(Asked { stage: 0, outcome: Outcome::Rejected, holds: true });
        let paused = plan(&r, &fleet, 1);
        assert_eq!(paused.moved.map(|m| m.state), Some(RolloutState::Paused));
        assert!(paused.give_back.is_empty());
        r.on_failure = OnFailure::RollBack;
        let back = plan(&r, &fleet, 1);
        assert_eq!(back.moved.map(|m| m.state), Some(RolloutState::RolledBack));
        assert_eq!(back.give_back.len(), 4);
    }

    #[test]
    fn a_gate_must_hold_while_it_soaks() {
        let mut r = rollout(&[100]);
        r.soak_ms = 1000;
        let mut fleet = devices(1);
        let first = plan(&r, &fleet, 0);
        answer(&mut fleet, &first, 0, Outcome::Active);
        let soaking = plan(&r, &fleet, 10).moved.expect("moves");
        assert_eq!((soaking.state, soaking.passed_ms), (RolloutState::Running, Some(10)));
        r.passed_ms = soaking.passed_ms;
        assert!(plan(&r, &fleet, 1009).is_empty());
        assert_eq!(plan(&r, &fleet, 1010).moved.map(|m| m.state), Some(RolloutState::Done));
        fleet[0].asked = Some(Asked { stage: 0, outcome: Outcome::Pending, holds: true });
        assert_eq!(plan(&r, &fleet, 1010).moved.map(|m| m.passed_ms), Some(None));
    }

    #[test]
    fn nothing_happens_without_devices_and_a_taken_over_rollout_ends() {
        let r = rollout(&[100]);
        assert!(plan(&r, &[], 0).is_empty());
        let mut fleet = devices(1);
        fleet[0].taken = true;
        assert_eq!(plan(&r, &fleet, 0).moved.map(|m| m.state), Some(RolloutState::Aborted));
    }

    #[test]
    fn a_done_rollout_serves_only_devices_without_a_version() {
        let mut r = rollout(&[100]);
        r.state = RolloutState::Done;
        let mut fleet = devices(3);
        fleet[0].has_version = true;
        fleet[1].taken = true;
        assert_eq!(plan(&r, &fleet, 0).ask, vec![fleet[2].device.clone()]);
    }
}

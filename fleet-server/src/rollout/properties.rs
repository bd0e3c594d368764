//! Properties of rollouts over random fleets and histories.

use super::{
    Asked, Command, Decision, Observation, Outcome, Rollout, command,
    plan::{plan, share},
};
use proptest::prelude::*;
use whimbrel_wire::{
    DeviceId,
    api::{OnFailure, RolloutState},
};

/// What happens between two looks at the fleet.
#[derive(Debug, Clone)]
enum Happening {
    Answer { device: usize, outcome: Outcome },
    Join,
    Taken { device: usize },
    Wait { ms: i64 },
    Operator(Command),
}

fn happening() -> impl Strategy<Value = Happening> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Active),
        1 => Just(Outcome::Pending),
        1 => Just(Outcome::Rejected),
        1 => Just(Outcome::RolledBack),
    ];
    let operator = prop_oneof![
        3 => Just(Command::Pause),
        3 => Just(Command::Resume),
        1 => Just(Command::Abort),
        1 => Just(Command::RollBack)
    ];
    prop_oneof![
        20 => (0usize..64, outcome).prop_map(|(device, outcome)| Happening::Answer { device, outcome }),
        1 => Just(Happening::Join),
        1 => (0usize..64).prop_map(|device| Happening::Taken { device }),
        5 => (0i64..5000).prop_map(|ms| Happening::Wait { ms }),
        1 => operator.prop_map(Happening::Operator),
    ]
}

fn a_rollout() -> impl Strategy<Value = Rollout> {
    let stages = proptest::collection::btree_set(1u8..100, 0..4).prop_map(|set| {
        let mut stages: Vec<u8> = set.into_iter().collect();
        stages.push(100);
        stages
    });
    (stages, 1u8..=100, any::<bool>(), 0i64..3000).prop_map(|(stages, min, back, soak_ms)| Rollout {
        stages,
        success_percent_min: min,
        on_failure: if back { OnFailure::RollBack } else { OnFailure::Pause },
        soak_ms,
        state: RolloutState::Running,
        stage: 0,
        passed_ms: None,
    })
}

fn device(i: usize) -> Observation {
    let device = format!("device-{i}").parse().expect("valid");
    Observation { device, matches: true, asked: None, taken: false, has_version: false }
}

/// What the store does with a decision.
fn apply(rollout: &mut Rollout, fleet: &mut [Observation], decision: &Decision) {
    for d in fleet.iter_mut() {
        if decision.ask.contains(&d.device) {
            let stage = d.asked.map_or(rollout.stage, |a| a.stage);
            d.asked = Some(Asked { stage, outcome: Outcome::Pending, holds: true });
            d.has_version = true;
        }
        if decision.give_back.contains(&d.device) {
            d.has_version = false;
            d.asked = d.asked.map(|a| Asked { holds: false, ..a });
        }
    }
    if let Some(moved) = &decision.moved {
        (rollout.state, rollout.stage, rollout.passed_ms) = (moved.state, moved.stage, moved.passed_ms);
    }
}

fn invariant_never_beyond_the_stage(rollout: &Rollout, fleet: &[Observation], decision: &Decision) {
    let ours: Vec<_> = fleet.iter().filter(|d| !d.taken).collect();
    let asked = ours.iter().filter(|d| d.asked.is_some()).count();
    let new =
        decision.ask.iter().filter(|id| ours.iter().any(|d| d.device == **id && d.asked.is_none())).count();
    let allowed = share(ours.len(), rollout.stages[rollout.stage as usize]);
    assert!(new == 0 || asked + new <= allowed, "{asked} + {new} of {allowed}");
}

fn invariant_moves_on_only_with_enough_confirmed(
    rollout: &Rollout,
    fleet: &[Observation],
    decision: &Decision,
) {
    let Some(moved) = &decision.moved else { return };
    if moved.stage == rollout.stage && moved.state != RolloutState::Done {
        return;
    }
    let stage =
        fleet.iter().filter(|d| !d.taken).filter_map(|d| d.asked).filter(|a| a.stage == rollout.stage);
    let outcomes: Vec<_> = stage.map(|a| a.outcome).collect();
    let active = outcomes.iter().filter(|o| **o == Outcome::Active).count();
    assert!(active * 100 >= outcomes.len() * usize::from(rollout.success_percent_min));
    assert!(moved.stage <= rollout.stage + 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_history_keeps_the_promises(
        mut rollout in a_rollout(),
        size in 0usize..40,
        history in proptest::collection::vec(happening(), 0..150),
    ) {
        let mut fleet: Vec<_> = (0..size).map(device).collect();
        let mut now_ms = 0i64;
        for happening in history {
            match happening {
                Happening::Answer { device, outcome } => {
                    if let Some(asked) = fleet.get_mut(device).and_then(|d| d.asked.as_mut()) {
                        asked.outcome = outcome;
                    }
                }
                Happening::Join => fleet.push(device(fleet.len())),
                Happening::Taken { device } => {
                    if let Some(d) = fleet.get_mut(device) {
                        d.taken = true;
                        d.asked = d.asked.map(|a| Asked { holds: false, ..a });
                    }
                }
                Happening::Wait { ms } => now_ms += ms,
                Happening::Operator(what) => {
                    let before = rollout.clone();
                    if let Ok(decision) = command(&rollout, &fleet, what, "test") {
                        if what == Command::Pause { prop_assert!(decision.ask.is_empty()); }
                        apply(&mut rollout, &mut fleet, &decision);
                        if what == Command::RollBack && before.state != RolloutState::RolledBack {
                            let kept = fleet.iter().any(|d| d.asked.is_some_and(|a| a.holds));
                            prop_assert!(!kept, "a device was left on the version");
                        }
                    }
                }
            }
            let decision = plan(&rollout, &fleet, now_ms);
            prop_assert_eq!(&decision, &plan(&rollout, &fleet, now_ms), "not deterministic");
            let taken = |id: &DeviceId| fleet.iter().any(|d| d.device == *id && d.taken);
            prop_assert!(!decision.ask.iter().chain(&decision.give_back).any(taken));
            match rollout.state {
                RolloutState::Running => {
                    invariant_never_beyond_the_stage(&rollout, &fleet, &decision);
                    invariant_moves_on_only_with_enough_confirmed(&rollout, &fleet, &decision);
                }
                RolloutState::Done => prop_assert!(decision.moved.is_none() && decision.give_back.is_empty()),
                _ => prop_assert!(decision.is_empty(), "acts while stopped"),
            }
            apply(&mut rollout, &mut fleet, &decision);
        }
    }
}

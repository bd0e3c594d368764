//! From what the database holds about one model to what the planner looks at. Pure.

use crate::{
    rollout::{Asked, Observation},
    store::rollouts::{FleetDevice, ModelFleet, StoredRollout},
};
use whimbrel_wire::api::RolloutState;

/// The devices that matter to the rollout at `index` of `fleet.rollouts`.
pub(super) fn observe(fleet: &ModelFleet, index: usize) -> Vec<Observation> {
    let Some(stored) = fleet.rollouts.get(index) else { return Vec::new() };
    let newer = &fleet.rollouts[index + 1..];
    let name = stored.name();
    fleet
        .devices
        .iter()
        .filter_map(|device| {
            let matches = selects(stored, device);
            let asked = fleet.asked.get(&(stored.id, device.device.clone())).map(|a| Asked {
                stage: a.stage,
                outcome: a.outcome,
                holds: device.held_by.as_deref() == Some(&name),
            });
            (matches || asked.is_some()).then(|| Observation {
                device: device.device.clone(),
                matches,
                asked,
                taken: newer.iter().any(|n| takes(n, stored, device)),
                has_version: device.held_by.is_some(),
            })
        })
        .collect()
}

/// Whether a rollout's selector matches a device.
pub(super) fn selects(stored: &StoredRollout, device: &FleetDevice) -> bool {
    has_tags(&stored.spec.tags, device)
}

/// Whether a device has all of some tags.
pub(super) fn has_tags(tags: &[String], device: &FleetDevice) -> bool {
    tags.iter().all(|tag| device.tags.contains(tag))
}

/// Whether a newer rollout has a device, as seen from an older one. One that still runs has every device it matches; seen
/// from a finished one, which only serves devices without a version, only those it has asked.
fn takes(newer: &StoredRollout, older: &StoredRollout, device: &FleetDevice) -> bool {
    let is_live =
        matches!(newer.rollout.state, RolloutState::Running | RolloutState::Paused | RolloutState::Done);
    if !is_live {
        return false;
    }
    let holds = device.held_by.as_deref() == Some(&newer.name());
    let has_all = newer.rollout.state == RolloutState::Done || older.rollout.state != RolloutState::Done;
    holds || (has_all && selects(newer, device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        rollout::{Outcome, Rollout, plan},
        store::rollouts::FleetAsked,
    };
    use whimbrel_wire::api::{NewRollout, OnFailure};

    fn stored(id: i64, state: RolloutState, tags: &[&str]) -> StoredRollout {
        let spec = NewRollout {
            model: "digits".parse().expect("valid"),
            version: semver::Version::new(u64::try_from(id).expect("positive"), 0, 0),
            stages: vec![50, 100],
            tags: tags.iter().map(ToString::to_string).collect(),
            success_percent_min: 100,
            on_failure: OnFailure::Pause,
            soak_s: 0,
        };
        let rollout = Rollout {
            stages: spec.stages.clone(),
            success_percent_min: 100,
            on_failure: OnFailure::Pause,
            soak_ms: 0,
            state,
            stage: 0,
            passed_ms: None,
        };
        let target = format!("digits/{id}.0.0.wbi");
        StoredRollout { id, spec, target, rollout, reason: String::new(), created_ms: 0 }
    }

    fn device(name: &str, tags: &[&str], held_by: Option<&str>) -> FleetDevice {
        FleetDevice {
            device: name.parse().expect("valid"),
            tags: tags.iter().map(ToString::to_string).collect(),
            held_by: held_by.map(str::to_owned),
        }
    }

    #[test]
    fn a_new_device_gets_the_finished_version_while_a_newer_one_starts_elsewhere() {
        let fleet = ModelFleet {
            devices: vec![device("old", &[], Some("r-2")), device("new", &[], None)],
            rollouts: vec![stored(1, RolloutState::Done, &[]), stored(2, RolloutState::Running, &[])],
            asked: [((2, "old".parse().expect("valid")), FleetAsked { stage: 0, outcome: Outcome::Pending })]
                .into(),
        };
        let done = plan(&fleet.rollouts[0].rollout, &observe(&fleet, 0), 0);
        assert_eq!(done.ask, vec!["new".parse().expect("valid")]);
        assert!(plan(&fleet.rollouts[1].rollout, &observe(&fleet, 1), 0).ask.is_empty());
    }

    #[test]
    fn the_newest_running_rollout_has_the_devices_it_matches() {
        let fleet = ModelFleet {
            devices: vec![device("a", &["beta"], None), device("b", &[], None)],
            rollouts: vec![
                stored(1, RolloutState::Running, &[]),
                stored(2, RolloutState::Running, &["beta"]),
            ],
            asked: [].into(),
        };
        assert_eq!(
            plan(&fleet.rollouts[0].rollout, &observe(&fleet, 0), 0).ask,
            vec!["b".parse().expect("valid")]
        );
        assert_eq!(
            plan(&fleet.rollouts[1].rollout, &observe(&fleet, 1), 0).ask,
            vec!["a".parse().expect("valid")]
        );
    }

    #[test]
    fn an_aborted_rollout_takes_nothing() {
        let fleet = ModelFleet {
            devices: vec![device("a", &[], None)],
            rollouts: vec![stored(1, RolloutState::Running, &[]), stored(2, RolloutState::Aborted, &[])],
            asked: [].into(),
        };
        assert_eq!(plan(&fleet.rollouts[0].rollout, &observe(&fleet, 0), 0).ask.len(), 1);
    }
}

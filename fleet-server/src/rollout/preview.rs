//! What a rollout would do, before it is started: whom each stage would ask, and what they would fetch. Pure.

use super::{plan::share, rank};
use std::collections::HashMap;
use whimbrel_wire::{
    DeviceId, Digest,
    api::{FetchPlan, NewRollout, RolloutPlan, SourcePlan, StagePlan},
    report::Installed,
};

/// Most bundles that are compared with the new one; devices with rarer ones count as if they had nothing.
pub(crate) const SOURCES_COMPARED_MAX: usize = 32;
/// Most lines of a plan about what devices have: the total has the rest too.
const SOURCES_SHOWN_MAX: usize = 100;
/// Devices of a stage that a plan names.
const DEVICES_NAMED_MAX: usize = 100;

/// A device that the rollout would ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Which.
    pub(crate) device: DeviceId,
    /// What it runs of the model, as it last said.
    pub(crate) active: Option<Installed>,
}

/// What devices fetch of the new bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Costs {
    /// Bytes that a device with nothing fetches.
    pub(crate) whole_bytes: u64,
    /// Bytes that one with this bundle fetches.
    pub(crate) moved_bytes: HashMap<Digest, u64>,
}

impl Costs {
    fn of(&self, active: Option<&Installed>) -> Option<u64> {
        match active {
            None => Some(self.whole_bytes),
            Some(active) => self.moved_bytes.get(&active.bundle).copied(),
        }
    }

    fn add(&self, fetch: &mut FetchPlan, active: Option<&Installed>) {
        *fetch = fetch.and(self.of(active).unwrap_or(self.whole_bytes), self.whole_bytes);
    }
}

/// The bundles that are worth comparing with the new one: those that most devices have, at most [`SOURCES_COMPARED_MAX`].
pub(crate) fn to_compare(candidates: &[Candidate]) -> Vec<Digest> {
    let mut frequent: Vec<(Digest, u64)> =
        frequencies(candidates.iter().filter_map(|c| c.active.as_ref().map(|a| a.bundle)))
            .into_iter()
            .collect();
    frequent.sort_by_key(|(bundle, devices)| (std::cmp::Reverse(*devices), *bundle));
    frequent.into_iter().take(SOURCES_COMPARED_MAX).map(|(bundle, _)| bundle).collect()
}

/// The plan of a new rollout, whose selector matches `candidates`. Every one of them is its own: it would be the newest
/// rollout of the model.
pub(crate) fn preview(new: &NewRollout, mut candidates: Vec<Candidate>, costs: &Costs) -> RolloutPlan {
    candidates.sort_by_cached_key(|c| (rank(&c.device), c.device.clone()));
    let mut total = FetchPlan::default();
    for candidate in &candidates {
        costs.add(&mut total, candidate.active.as_ref());
    }
    RolloutPlan {
        spec: new.clone(),
        stages: stages(&new.stages, &candidates, costs),
        sources: sources(&candidates, costs),
        total,
    }
}

/// The stages as the planner runs them where every device confirms and none comes or goes.
fn stages(percents: &[u8], candidates: &[Candidate], costs: &Costs) -> Vec<StagePlan> {
    let mut rest = candidates;
    let stage = |percent: &u8| {
        let before = candidates.len() - rest.len();
        let asked = share(candidates.len(), *percent).saturating_sub(before).min(rest.len());
        let (these, others) = rest.split_at(asked);
        rest = others;
        let mut fetch = FetchPlan::default();
        for candidate in these {
            costs.add(&mut fetch, candidate.active.as_ref());
        }
        let first = these.iter().take(DEVICES_NAMED_MAX).map(|c| c.device.clone()).collect();
        StagePlan { percent: *percent, first, fetch }
    };
    percents.iter().map(stage).collect()
}

fn sources(candidates: &[Candidate], costs: &Costs) -> Vec<SourcePlan> {
    let mut sources: HashMap<Option<&Installed>, FetchPlan> = HashMap::new();
    for candidate in candidates {
        let active = candidate.active.as_ref();
        costs.add(sources.entry(active).or_default(), active);
    }
    let mut sources: Vec<SourcePlan> = sources
        .into_iter()
        .map(|(active, fetch)| SourcePlan {
            active: active.cloned(),
            compared: costs.of(active).is_some(),
            fetch,
        })
        .collect();
    sources.sort_by(|a, b| {
        let key = |s: &SourcePlan| s.active.as_ref().map(|i| (i.version.clone(), i.bundle));
        (b.fetch.devices, key(b)).cmp(&(a.fetch.devices, key(a)))
    });
    sources.truncate(SOURCES_SHOWN_MAX);
    sources
}

fn frequencies<T: std::hash::Hash + Eq>(items: impl Iterator<Item = T>) -> HashMap<T, u64> {
    let mut counts = HashMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::{Asked, Observation, Outcome, Rollout, plan};
    use whimbrel_wire::api::{OnFailure, RolloutState};

    fn new(stages: &[u8]) -> NewRollout {
        NewRollout {
            model: "digits".parse().expect("valid"),
            version: semver::Version::new(3, 0, 0),
            stages: stages.to_vec(),
            tags: Vec::new(),
            success_percent_min: 100,
            on_failure: OnFailure::Pause,
            soak_s: 0,
        }
    }

    fn bundle(n: u64) -> Digest {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        Digest::new(bytes)
    }

    fn candidate(i: usize, active: Option<u64>) -> Candidate {
        let installed = |n| Installed { version: semver::Version::new(n, 0, 0), bundle: bundle(n) };
        Candidate { device: format!("cam-{i}").parse().expect("valid"), active: active.map(installed) }
    }

    /// Whom the planner asks stage by stage, where every device confirms.
    fn executed(stages: &[u8], candidates: &[Candidate]) -> Vec<Vec<DeviceId>> {
        let mut rollout = Rollout {
            stages: stages.to_vec(),
            success_percent_min: 100,
            on_failure: OnFailure::Pause,
            soak_ms: 0,
            state: RolloutState::Running,
            stage: 0,
            passed_ms: None,
        };
        let unasked = |c: &Candidate| Observation {
            device: c.device.clone(),
            matches: true,
            asked: None,
            taken: false,
            has_version: false,
        };
        let mut devices: Vec<_> = candidates.iter().map(unasked).collect();
        let mut asked = vec![Vec::new(); stages.len()];
        while rollout.state == RolloutState::Running {
            let decision = plan(&rollout, &devices, 0);
            assert!(!decision.is_empty(), "it stands still");
            for device in devices.iter_mut().filter(|d| decision.ask.contains(&d.device)) {
                device.asked = Some(Asked { stage: rollout.stage, outcome: Outcome::Active, holds: true });
            }
            asked[rollout.stage as usize].extend(decision.ask);
            if let Some(moved) = decision.moved {
                (rollout.state, rollout.stage) = (moved.state, moved.stage);
            }
        }
        asked
    }

    #[test]
    fn a_preview_is_the_execution() {
        for (size, stages) in [(1, &[10, 50, 100][..]), (7, &[1, 2, 100]), (40, &[10, 50, 100]), (9, &[100])]
        {
            let candidates: Vec<_> = (0..size).map(|i| candidate(i, None)).collect();
            let planned = preview(&new(stages), candidates.clone(), &Costs::default());
            let first: Vec<_> = planned.stages.iter().map(|s| s.first.clone()).collect();
            assert_eq!(first, executed(stages, &candidates), "{size} devices, {stages:?}");
            assert_eq!(planned.total.devices, size as u64);
        }
    }

    #[test]
    fn every_device_fetches_by_what_it_has() {
        let candidates = vec![
            candidate(0, Some(1)),
            candidate(1, Some(1)),
            candidate(2, None),
            // The new bundle itself, and one of which the server has no index.
            candidate(3, Some(3)),
            candidate(4, Some(2)),
            candidate(5, Some(1)),
        ];
        let costs = Costs { whole_bytes: 100, moved_bytes: [(bundle(1), 10), (bundle(3), 0)].into() };
        let planned = preview(&new(&[50, 100]), candidates, &costs);
        let lines: Vec<_> = planned
            .sources
            .iter()
            .map(|s| (s.active.as_ref().map(|a| a.version.major), s.compared, s.fetch))
            .collect();
        let fetch = |devices, moved_bytes, whole_bytes| FetchPlan { devices, moved_bytes, whole_bytes };
        assert_eq!(
            lines,
            [
                (Some(1), true, fetch(3, 30, 300)),
                (Some(3), true, fetch(1, 0, 100)),
                (Some(2), false, fetch(1, 100, 100)),
                (None, true, fetch(1, 100, 100)),
            ]
        );
        assert_eq!(planned.total, fetch(6, 230, 600));
        let by_stage: u64 = planned.stages.iter().map(|s| s.fetch.moved_bytes).sum();
        assert_eq!((planned.stages[0].fetch.devices, by_stage), (3, 230));
    }

    #[test]
    fn a_fleet_of_very_many_bundles_is_still_bounded() {
        let many = SOURCES_SHOWN_MAX + 50;
        let mut candidates: Vec<_> = (0..many).map(|i| candidate(i, Some(i as u64))).collect();
        candidates.push(candidate(many, Some(7)));
        let compared = to_compare(&candidates);
        assert_eq!((compared.len(), compared[0]), (SOURCES_COMPARED_MAX, bundle(7)));
        let planned = preview(&new(&[100]), candidates, &Costs { whole_bytes: 5, ..Costs::default() });
        assert_eq!(planned.sources.len(), SOURCES_SHOWN_MAX);
        assert_eq!(planned.stages[0].first.len(), DEVICES_NAMED_MAX);
        assert_eq!(
            (planned.total.devices, planned.total.moved_bytes),
            (many as u64 + 1, 5 * (many as u64 + 1))
        );
    }

    #[test]
    fn a_fleet_without_a_device_has_a_plan_of_nothing() {
        let planned = preview(&new(&[10, 100]), Vec::new(), &Costs::default());
        assert_eq!((planned.total, planned.sources.len()), (FetchPlan::default(), 0));
        assert!(planned.stages.iter().all(|s| s.first.is_empty()));
        assert_eq!(planned.stages.len(), 2);
    }
}

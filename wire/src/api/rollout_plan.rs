//! What a rollout would do, before it is started.

use super::NewRollout;
use crate::{id::DeviceId, report::Installed};
use serde::{Deserialize, Serialize};

/// Answer to `POST /api/v1/rollouts/plan`, which starts nothing: whom a [`NewRollout`] would ask, and what they would fetch.
///
/// The figures are what is known at this moment. A device that holds more than the active bundle of the model (the one before
/// it, bundles of other models, chunks of an update that broke off) fetches less.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutPlan {
    /// What was asked about.
    pub spec: NewRollout,
    /// The stages in order.
    pub stages: Vec<StagePlan>,
    /// By what is active on the devices now, the most frequent first.
    pub sources: Vec<SourcePlan>,
    /// Over all devices.
    pub total: FetchPlan,
}

/// The devices that a stage would ask, beside those of the stages before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagePlan {
    /// Share of the fleet after the stage, in percent.
    pub percent: u8,
    /// The first of its devices, in the order in which they are asked.
    pub first: Vec<DeviceId>,
    /// All of its devices.
    pub fetch: FetchPlan,
}

/// Devices that have the same bundle of the model active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePlan {
    /// That bundle; none where the model is not active.
    pub active: Option<Installed>,
    /// Whether the server compared it with the new one. It could not when it does not hold the bundle's index, and does not
    /// when there are very many bundles: then the new one counts whole.
    pub compared: bool,
    /// All of these devices.
    pub fetch: FetchPlan,
}

/// What some devices fetch, all together. Sizes are those of chunks as they are stored and moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchPlan {
    /// How many devices.
    pub devices: u64,
    /// Bytes that they fetch.
    pub moved_bytes: u64,
    /// Bytes that they would fetch if they had nothing.
    pub whole_bytes: u64,
}

impl FetchPlan {
    /// With one more device, which fetches `moved_bytes` of `whole_bytes`.
    #[must_use]
    pub const fn and(self, moved_bytes: u64, whole_bytes: u64) -> Self {
        Self {
            devices: self.devices.saturating_add(1),
            moved_bytes: self.moved_bytes.saturating_add(moved_bytes),
            whole_bytes: self.whole_bytes.saturating_add(whole_bytes),
        }
    }

    /// How much less is moved than the whole, in percent; 0 where there is nothing to move.
    #[must_use]
    pub fn saved_percent(&self) -> f64 {
        if self.whole_bytes == 0 {
            return 0.0;
        }
        100.0 * self.whole_bytes.saturating_sub(self.moved_bytes) as f64 / self.whole_bytes as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_a_share_of_the_whole() {
        assert!(FetchPlan::default().saved_percent().abs() < f64::EPSILON);
        let fetch = FetchPlan::default().and(25, 100).and(0, 100);
        assert_eq!((fetch.devices, fetch.moved_bytes, fetch.whole_bytes), (2, 25, 200));
        assert!((fetch.saved_percent() - 87.5).abs() < f64::EPSILON);
        assert_eq!(fetch.and(u64::MAX, u64::MAX).moved_bytes, u64::MAX);
    }
}

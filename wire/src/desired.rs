//! What the server wants a device to run. It chooses among signed targets; it can never make an unsigned one run.

use crate::{cbor::Message, id::ModelName, manifest::limit};
use semver::Version;
use serde::{Deserialize, Serialize};

/// Most models on one device.
pub const MODELS_MAX: usize = 64;

/// Retained on `…/desired`, and the answer to `GET /api/v1/device/desired`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredState {
    /// Grows with each change for this device; an older one than already seen is ignored.
    pub serial: u64,
    /// The models to run. A model that is not listed is left as it is.
    pub models: Vec<DesiredModel>,
    /// Seconds between polls, where the device polls.
    pub poll_s: u32,
}

/// One model to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredModel {
    /// Which model.
    pub name: ModelName,
    /// Which version of it.
    pub version: Version,
    /// The target that holds it, as the signed metadata names it.
    pub target: String,
    /// Counts offers of this version; a higher one than last tried makes the device try a failed version again.
    pub attempt: u32,
    /// The rollout that asks for it, for reports; empty when set by hand.
    #[serde(default)]
    pub rollout: String,
}

impl Message for DesiredState {
    const NAME: &'static str = "desired state";
    const SIZE_BYTES_MAX: usize = 64 << 10;
    const ITEMS_MAX: usize = 2000;

    fn validate(&self) -> Result<(), String> {
        limit("models", self.models.len(), MODELS_MAX)?;
        for (i, model) in self.models.iter().enumerate() {
            limit("target", model.target.len(), 255)?;
            limit("rollout", model.rollout.len(), 64)?;
            if self.models[..i].iter().any(|m| m.name == model.name) {
                return Err(format!("models: {} is listed twice", model.name));
            }
        }
        if self.poll_s == 0 { Err("poll_s: must be above 0".into()) } else { Ok(()) }
    }
}

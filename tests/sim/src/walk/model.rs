//! The reference model of a life.

use crate::{process::Process, release::Quality};
use semver::Version;
use std::collections::{BTreeMap, BTreeSet};

/// What the device may do, worked out from the events alone.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) released: BTreeMap<Version, Quality>,
    pub(super) attempts: BTreeMap<Version, u32>,
    /// What may serve: the version confirmed last, and all that were asked for since.
    pub(super) may_serve: BTreeSet<Version>,
    /// The version confirmed last, as far as that is certain to be on disk.
    pub(super) active: Option<Version>,
    /// The floor that the device had acted upon when it was listened to last.
    pub(super) floor: Option<Version>,
    /// A version that was confirmed below it.
    pub(super) below_floor: Option<Version>,
    /// The disk refused something, so that what was said may not be written down.
    pub(super) unsure: bool,
}

impl Model {
    /// Once a version was confirmed something serves, and only what may.
    pub(super) fn invariant_allowed_serves(&self, process: &Process) -> Option<String> {
        let serving = process.host.serving();
        let holds = match &serving {
            Some(serving) => self.may_serve.contains(&serving.version),
            None => self.active.is_none(),
        };
        (!holds).then(|| format!("serves: {serving:?}, allowed {:?}", self.may_serve))
    }

    /// Nothing is confirmed that fails, nor anything below a floor that the device acted upon before.
    pub(super) fn invariant_only_good_versions_are_confirmed(&self) -> Option<String> {
        if let Some(version) = &self.below_floor {
            return Some(format!("confirmed: {version} is below the floor"));
        }
        let active = self.active.as_ref()?;
        let quality = self.released.get(active);
        (quality != Some(&Quality::Good)).then(|| format!("confirmed: {active} is {quality:?}"))
    }
}

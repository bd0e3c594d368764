//! What must hold whatever happened. Each function returns what does not.

use crate::{
    device::{Device, STATE_DIR},
    disk::SimDisk,
    host::Serving,
    process::Process,
    release::model,
    server::Acted,
};
use semver::Version;
use std::{path::Path, sync::Arc};
use whimbrel_updater::{journal::Journal, tuf::Role};
use whimbrel_wire::report::Installed;

/// All that must hold as soon as a process has begun, before it had any network.
#[must_use]
pub fn after_start(device: &Device, process: &Process) -> Vec<String> {
    let mut broken = process.host.violations();
    broken.extend(invariant_old_or_new_serves(device, process));
    broken.extend(invariant_trust_never_goes_back(device));
    broken
}

/// All that must hold once nothing is under way.
#[must_use]
pub fn at_rest(device: &Device, process: &Process) -> Vec<String> {
    let mut broken = process.host.violations();
    broken.extend(invariant_confirmed_serves_alone(device, process));
    broken.extend(invariant_trust_never_goes_back(device));
    broken.extend(invariant_no_garbage(&device.disk));
    broken
}

/// The version that was confirmed serves, or a newer one that was asked for: never neither.
#[must_use]
pub fn invariant_old_or_new_serves(device: &Device, process: &Process) -> Option<String> {
    let said = &device.said;
    let wished = device.wish.as_ref().map(|wish| &wish.version).filter(|v| said.refused.as_ref() != Some(v));
    let active = process.report().and_then(|report| report.active).map(|active| active.version);
    let serving = process.host.serving();
    let holds = match (&said.active, &serving) {
        (None, None) => true,
        (Some(_), None) => false,
        (confirmed, Some(Serving { version, fallback })) => {
            let is_old = confirmed.as_ref() == Some(version);
            let is_new = wished == Some(version) || said.candidate.as_ref() == Some(version);
            let has_passed = fallback.is_none() && active.as_ref() == Some(version);
            is_old || is_new && (fallback == confirmed || has_passed)
        }
    };
    let report_holds = active == said.active || active.as_ref() == wished;
    (!holds || !report_holds).then(|| {
        format!("old or new: {serving:?} serves and {active:?} is said to be active, before: {said:?}, asked for {wished:?}")
    })
}

/// At rest the confirmed version serves, with nothing behind it.
#[must_use]
pub fn invariant_confirmed_serves_alone(device: &Device, process: &Process) -> Option<String> {
    let serving = process.host.serving();
    let expected = device.said.active.clone().map(|version| Serving { version, fallback: None });
    (serving != expected).then(|| format!("serves alone: {serving:?}, expected {expected:?}"))
}

/// No version or floor is lower than one that the device acted upon, and no file is damaged.
#[must_use]
pub fn invariant_trust_never_goes_back(device: &Device) -> Option<String> {
    if !device.said.enrolled {
        return None;
    }
    let trust = match device.trust() {
        Ok(trust) => trust,
        Err(error) => return Some(format!("trust: {error}")),
    };
    let trusted = trust.trusted();
    let found = Acted {
        root: trusted.root().body().version(),
        timestamp: trusted.timestamp().map_or(0, |t| t.body().version()),
        snapshot: trusted.snapshot().map_or(0, |s| s.body().version()),
        targets: trusted.targets().map_or(0, |t| t.body().version()),
        floor: trust.floor(&model()).cloned(),
    };
    let acted = device.server.acted_under(found.root);
    let lower = found.root < acted.root
        || found.timestamp < acted.timestamp
        || found.snapshot < acted.snapshot
        || found.targets < acted.targets
        || found.floor < acted.floor;
    lower.then(|| format!("trust: found {found:?}, acted upon {acted:?}"))
}

/// Only the journal, the trusted metadata and the confirmed bundles are on disk.
#[must_use]
pub fn invariant_no_garbage(disk: &SimDisk) -> Option<String> {
    let kept = match confirmed(disk) {
        Ok(kept) => kept,
        Err(error) => return Some(format!("garbage: {error}")),
    };
    let keep: Vec<String> =
        kept.iter().map(|i| format!("{STATE_DIR}/models/{}/{}/", model(), i.bundle)).collect();
    let stray = |path: &String| {
        let hidden = path.split('/').any(|part| part.starts_with('.'));
        let known = path.starts_with(&format!("{STATE_DIR}/trust/"))
            || *path == format!("{STATE_DIR}/journal/{}.journal", model())
            || keep.iter().any(|dir| path.starts_with(dir));
        hidden || !known
    };
    let garbage: Vec<String> = disk.files().into_iter().filter(stray).collect();
    (!garbage.is_empty()).then(|| format!("garbage: {garbage:?}"))
}

/// The confirmed bundles that the journal names.
fn confirmed(disk: &SimDisk) -> Result<Vec<Installed>, String> {
    let journal = Journal::open(Arc::new(disk.clone()), &Path::new(STATE_DIR).join("journal"));
    let record = journal.map_err(|e| e.to_string())?.read(&model()).map_err(|e| e.to_string())?;
    let record = record.unwrap_or_default();
    Ok([record.active, record.previous].into_iter().flatten().collect())
}

/// Whether a version is the one that serves.
#[must_use]
pub fn serves(process: &Process, version: &Version) -> bool {
    process.host.serving().is_some_and(|serving| serving.version == *version)
}

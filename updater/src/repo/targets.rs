//! The targets role: what may be installed.

use super::{
    RepoError,
    draft::{Draft, inner, invalid},
};
use crate::tuf::{Floors, Targets};
use serde_json::{Value, json};
use time::OffsetDateTime;
use whimbrel_wire::{Digest, index::target_path, manifest::Manifest};

const WHAT: &str = "targets metadata";

/// A target to release.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTarget {
    /// Its path.
    pub path: String,
    /// Its size.
    pub length_bytes: u64,
    /// Its hash.
    pub sha256: Digest,
    /// What is said about it: an object, or null.
    pub custom: Value,
}

impl NewTarget {
    /// The entry of a bundle: its index, with model and version said in the open.
    #[must_use]
    pub fn bundle(manifest: &Manifest, length_bytes: u64, sha256: Digest) -> Self {
        let about = json!({"model": manifest.name, "version": manifest.version});
        Self { path: target_path(manifest), length_bytes, sha256, custom: json!({"whimbrel": about}) }
    }
}

/// Changes to the targets role.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TargetsEdit {
    /// Targets to add, or to replace.
    pub add: Vec<NewTarget>,
    /// Paths to take away.
    pub remove: Vec<String>,
    /// Floors to set.
    pub floors: Floors,
}

/// Targets version 1, empty, without signatures.
///
/// # Errors
/// When the date cannot be written.
pub fn new_targets(expires: OffsetDateTime) -> Result<Vec<u8>, RepoError> {
    let mut draft = Draft::first::<Targets>(expires)?;
    draft.set("targets", json!({}));
    draft.finish::<Targets>()
}

/// The targets after `old` with `edit` applied, without signatures.
///
/// # Errors
/// When `old` is no targets metadata, or a path to remove is not in it.
pub fn next_targets(old: &[u8], edit: &TargetsEdit, expires: OffsetDateTime) -> Result<Vec<u8>, RepoError> {
    let mut draft = Draft::next::<Targets>(old, expires)?;
    let targets = draft.object("targets")?;
    for path in &edit.remove {
        if targets.remove(path).is_none() {
            return Err(invalid(WHAT, format!("{path:?} is not among the targets")));
        }
    }
    for target in &edit.add {
        let mut entry = json!({"length": target.length_bytes, "hashes": {"sha256": target.sha256}});
        if !target.custom.is_null() {
            entry["custom"] = target.custom.clone();
        }
        targets.insert(target.path.clone(), entry);
    }
    if !edit.floors.is_empty() {
        let floors = inner(draft.object("custom")?, "whimbrel").and_then(|own| inner(own, "floors"));
        let floors = floors.ok_or_else(|| invalid(WHAT, "custom.whimbrel.floors is no object"))?;
        for (model, version) in &edit.floors {
            floors.insert(model.to_string(), json!(version));
        }
    }
    draft.finish::<Targets>()
}

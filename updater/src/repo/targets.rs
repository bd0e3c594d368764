//! Targets roles, the top-level one and delegated ones: what may be installed.

use super::{
    Delegation, RepoError, delegations,
    draft::{Draft, inner, invalid},
};
use crate::tuf::{Downgrade, Downgrades, Floors, Targets};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use whimbrel_wire::{Digest, ModelName, index::target_path, manifest::Manifest};

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

/// Changes to a targets role.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TargetsEdit {
    /// Targets to add, or to replace.
    pub add: Vec<NewTarget>,
    /// Paths to take away.
    pub remove: Vec<String>,
    /// Floors to set.
    pub floors: Floors,
    /// Floors to lower.
    pub downgrades: Downgrades,
    /// Roles to delegate to; one of a known name is replaced.
    pub delegate: Vec<Delegation>,
    /// Names of roles not to delegate to any more.
    pub undelegate: Vec<String>,
}

/// Targets version 1, empty, without signatures; of the top-level role or of a delegated one.
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
/// When `old` is no targets metadata, a path to remove or a role to undelegate is not in it, a delegation breaks a rule, or
/// the number of a downgrade is not the next one.
pub fn next_targets(old: &[u8], edit: &TargetsEdit, expires: OffsetDateTime) -> Result<Vec<u8>, RepoError> {
    apply(Draft::next::<Targets>(old, expires)?, edit)
}

/// The unpublished targets `draft` with `edit` applied, without signatures; their version stays.
///
/// # Errors
/// As [`next_targets`].
pub fn amend_targets(
    draft: &[u8],
    edit: &TargetsEdit,
    expires: OffsetDateTime,
) -> Result<Vec<u8>, RepoError> {
    apply(Draft::again::<Targets>(draft, expires)?, edit)
}

const FLOORS: &str = "floors";
const DOWNGRADES: &str = "downgrades";

fn apply(mut draft: Draft, edit: &TargetsEdit) -> Result<Vec<u8>, RepoError> {
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
    let lowered = edit.downgrades.iter().map(|(model, downgrade)| (model, &downgrade.floor));
    for (model, version) in edit.floors.iter().chain(lowered) {
        own_object(&mut draft, FLOORS)?.insert(model.to_string(), json!(version));
    }
    for (model, Downgrade { number, floor }) in &edit.downgrades {
        let statements = own_object(&mut draft, DOWNGRADES)?;
        let last = number_of(statements, model)?;
        if last.checked_add(1) != Some(*number) {
            let reason = format!("downgrade {number} of {model}: the last one has the number {last}");
            return Err(invalid(WHAT, reason));
        }
        statements.insert(model.to_string(), json!({"number": number, "floor": floor}));
    }
    delegations::edit(&mut draft, &edit.delegate, &edit.undelegate)?;
    draft.finish::<Targets>()
}

/// An object of ours in the custom part, made when absent.
fn own_object<'a>(draft: &'a mut Draft, field: &str) -> Result<&'a mut Map<String, Value>, RepoError> {
    let own = inner(draft.object("custom")?, "whimbrel").and_then(|own| inner(own, field));
    own.ok_or_else(|| invalid(WHAT, format!("custom.whimbrel.{field} is no object")))
}

fn number_of(statements: &Map<String, Value>, model: &ModelName) -> Result<u64, RepoError> {
    let Some(statement) = statements.get(model.as_str()) else { return Ok(0) };
    let number = statement.get("number").and_then(Value::as_u64);
    number.ok_or_else(|| invalid(WHAT, format!("the downgrade of {model} has no number")))
}

//! What is signed with online keys: by a fleet server, or by whoever keeps a static repository fresh.

use super::{
    RepoError, SigningKey,
    draft::{Draft, date, inner, invalid},
    sign,
};
use crate::{
    hash::sha256,
    tuf::{Role, Signed, Snapshot, Targets, Timestamp},
};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// A targets role of which a snapshot is to name new metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedRole<'a> {
    /// Its name; `targets` for the top-level one.
    pub role: &'a str,
    /// Its file.
    pub metadata: &'a [u8],
}

/// The snapshot after `old` (version 1 without one) that names `targets`, signed. What `old` says about delegated roles stays.
///
/// # Errors
/// When one of the two files is not what it should be.
pub fn snapshot(
    old: Option<&[u8]>,
    targets: &[u8],
    key: &SigningKey,
    expires: OffsetDateTime,
) -> Result<Vec<u8>, RepoError> {
    let named = NamedRole { role: Targets::NAME.as_str(), metadata: targets };
    sign(&next_snapshot(old, &[named], expires)?, key)
}

/// The snapshot after `old` (version 1 without one) that names these files, without signatures. What `old` says about others
/// stays: a role that a snapshot once named is named for ever, or clients refuse the snapshot.
///
/// # Errors
/// When one of the files is not what it should be.
pub fn next_snapshot(
    old: Option<&[u8]>,
    named: &[NamedRole<'_>],
    expires: OffsetDateTime,
) -> Result<Vec<u8>, RepoError> {
    let mut draft = draft_after::<Snapshot>(old, expires)?;
    let meta = draft.object("meta")?;
    for NamedRole { role, metadata } in named {
        meta.insert(format!("{role}.json"), about::<Targets>(metadata)?);
    }
    draft.finish::<Snapshot>()
}

/// The timestamp after `old` (version 1 without one) that names `snapshot`, signed at `signed_at`, which it says, in whole
/// seconds: devices without a clock take it as the earliest time that it can be.
///
/// # Errors
/// When one of the two files is not what it should be.
pub fn timestamp(
    old: Option<&[u8]>,
    snapshot: &[u8],
    key: &SigningKey,
    signed_at: OffsetDateTime,
    expires: OffsetDateTime,
) -> Result<Vec<u8>, RepoError> {
    sign(&next_timestamp(old, snapshot, signed_at, expires)?, key)
}

/// As [`timestamp`], without signatures.
///
/// # Errors
/// When one of the two files is not what it should be.
pub fn next_timestamp(
    old: Option<&[u8]>,
    snapshot: &[u8],
    signed_at: OffsetDateTime,
    expires: OffsetDateTime,
) -> Result<Vec<u8>, RepoError> {
    const WHAT: &str = "timestamp metadata";
    let mut draft = draft_after::<Timestamp>(old, expires)?;
    draft.object("meta")?.insert(Snapshot::NAME.file(), about::<Snapshot>(snapshot)?);
    let own = inner(draft.object("custom")?, "whimbrel");
    let own = own.ok_or_else(|| invalid(WHAT, "custom.whimbrel is no object"))?;
    own.insert("signed_at".to_owned(), json!(date(WHAT, signed_at)?));
    draft.finish::<Timestamp>()
}

fn draft_after<T: Role>(old: Option<&[u8]>, expires: OffsetDateTime) -> Result<Draft, RepoError> {
    match old {
        Some(old) => Draft::next::<T>(old, expires),
        None => Draft::first::<T>(expires),
    }
}

fn about<T: Role>(metadata: &[u8]) -> Result<Value, RepoError> {
    let version = Signed::<T>::parse(metadata)?.body().version();
    Ok(json!({"version": version, "length": metadata.len(), "hashes": {"sha256": sha256(metadata)}}))
}

//! What the fleet server signs with its own key.

use super::{RepoError, SigningKey, draft::Draft, sign};
use crate::{
    hash::sha256,
    tuf::{Role, Signed, Snapshot, Targets, Timestamp},
};
use serde_json::json;
use time::OffsetDateTime;

/// The snapshot after `old` (version 1 without one) that names `targets`, signed.
///
/// # Errors
/// When one of the two files is not what it should be.
pub fn snapshot(
    old: Option<&[u8]>,
    targets: &[u8],
    key: &SigningKey,
    expires: OffsetDateTime,
) -> Result<Vec<u8>, RepoError> {
    next_naming::<Snapshot, Targets>(old, targets, key, expires)
}

/// The timestamp after `old` (version 1 without one) that names `snapshot`, signed.
///
/// # Errors
/// When one of the two files is not what it should be.
pub fn timestamp(
    old: Option<&[u8]>,
    snapshot: &[u8],
    key: &SigningKey,
    expires: OffsetDateTime,
) -> Result<Vec<u8>, RepoError> {
    next_naming::<Timestamp, Snapshot>(old, snapshot, key, expires)
}

fn next_naming<T: Role, Named: Role>(
    old: Option<&[u8]>,
    named: &[u8],
    key: &SigningKey,
    expires: OffsetDateTime,
) -> Result<Vec<u8>, RepoError> {
    let version = Signed::<Named>::parse(named)?.body().version();
    let mut draft = match old {
        Some(old) => Draft::next::<T>(old, expires)?,
        None => Draft::first::<T>(expires)?,
    };
    let about = json!({"version": version, "length": named.len(), "hashes": {"sha256": sha256(named)}});
    draft.object("meta")?.insert(Named::NAME.file(), about);
    sign(&draft.finish::<T>()?, key)
}

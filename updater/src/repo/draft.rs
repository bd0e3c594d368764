//! Metadata being edited. What this build does not know in a file stays in it.

use super::{KeyFileError, SigningKey};
use crate::tuf::{
    KeyError, Role, Root, Signed, Snapshot, Targets, Timestamp, TufError, canonical::canonical,
};
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

const SPEC_VERSION: &str = "1.0.34";
/// The one form of a date in metadata: whole seconds, UTC.
const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

/// Why metadata could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// What was to be edited or signed is not trusted or not metadata.
    #[error(transparent)]
    Tuf(#[from] TufError),
    /// A public key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A private key cannot be used.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The request breaks a rule.
    #[error("make {what}: {reason}")]
    Invalid {
        /// Which metadata.
        what: &'static str,
        /// Which rule.
        reason: String,
    },
}

pub(super) fn invalid(what: &'static str, reason: impl ToString) -> RepoError {
    RepoError::Invalid { what, reason: reason.to_string() }
}

/// The signed part of a file being edited.
pub(super) struct Draft {
    what: &'static str,
    signed: Map<String, Value>,
}

impl Draft {
    /// Version 1 of a role.
    pub(super) fn first<T: Role>(expires: OffsetDateTime) -> Result<Self, RepoError> {
        let mut draft = Self { what: T::NAME.as_str(), signed: Map::new() };
        draft.set("_type", json!(T::NAME.as_str()));
        draft.set("spec_version", json!(SPEC_VERSION));
        draft.set("version", json!(1));
        draft.expires(expires)?;
        Ok(draft)
    }

    /// The version after `old`, with all that is in it.
    pub(super) fn next<T: Role>(old: &[u8], expires: OffsetDateTime) -> Result<Self, RepoError> {
        let what = T::NAME.as_str();
        let version = Signed::<T>::parse(old)?.body().version();
        let version = version.checked_add(1).ok_or_else(|| invalid(what, "no higher version is left"))?;
        let mut draft = Self::again::<T>(old, expires)?;
        draft.set("version", json!(version));
        Ok(draft)
    }

    /// The same version once more, with all that is in it: for a file that nobody was given yet.
    pub(super) fn again<T: Role>(unpublished: &[u8], expires: OffsetDateTime) -> Result<Self, RepoError> {
        let what = T::NAME.as_str();
        Signed::<T>::parse(unpublished)?;
        let mut file = value(what, unpublished)?;
        let Some(Value::Object(signed)) = file.get_mut("signed").map(Value::take) else {
            return Err(invalid(what, "no \"signed\" object"));
        };
        let mut draft = Self { what, signed };
        draft.expires(expires)?;
        Ok(draft)
    }

    pub(super) fn set(&mut self, field: &str, value: Value) {
        self.signed.insert(field.to_owned(), value);
    }

    pub(super) fn remove(&mut self, field: &str) {
        self.signed.remove(field);
    }

    /// The object in a field, made when absent.
    pub(super) fn object(&mut self, field: &str) -> Result<&mut Map<String, Value>, RepoError> {
        inner(&mut self.signed, field).ok_or_else(|| invalid(self.what, format!("{field} is no object")))
    }

    /// The file, without signatures. It is read back, so that nothing leaves that nobody would accept.
    pub(super) fn finish<T: Role>(self) -> Result<Vec<u8>, RepoError> {
        let bytes = write(self.what, &json!({"signatures": [], "signed": self.signed}))?;
        Signed::<T>::parse(&bytes)?;
        Ok(bytes)
    }

    fn expires(&mut self, expires: OffsetDateTime) -> Result<(), RepoError> {
        let text = date(self.what, expires)?;
        self.set("expires", json!(text));
        Ok(())
    }
}

/// A date as metadata carries it.
pub(super) fn date(what: &'static str, at: OffsetDateTime) -> Result<String, RepoError> {
    let text = at.to_offset(time::UtcOffset::UTC).format(&DATE);
    text.map_err(|e| invalid(what, format!("a date: {e}")))
}

/// The object in a field of another, made when absent; `None` when something else is there.
pub(super) fn inner<'a>(
    object: &'a mut Map<String, Value>,
    field: &str,
) -> Option<&'a mut Map<String, Value>> {
    object.entry(field).or_insert_with(|| json!({})).as_object_mut()
}

/// Adds the key's signature to metadata of any role, in place of an older one by the same key. Several operators sign one after
/// another, until the role's threshold is met (see [`super::standing`]).
///
/// # Errors
/// When the bytes are no metadata.
pub fn sign(metadata: &[u8], key: &SigningKey) -> Result<Vec<u8>, RepoError> {
    const WHAT: &str = "a signature";
    readable(metadata)?;
    let mut file = value(WHAT, metadata)?;
    let message = canonical(&file["signed"]).map_err(|e| invalid(WHAT, e))?;
    let keyid = key.public().id()?;
    let signature = json!({"keyid": keyid, "sig": hex::encode(key.sign(&message))});
    let list = file.get_mut("signatures").and_then(Value::as_array_mut);
    let list = list.ok_or_else(|| invalid(WHAT, "no list of signatures"))?;
    list.retain(|old| old["keyid"] != keyid.as_str());
    list.push(signature);
    write(WHAT, &file)
}

/// Checks that the bytes are metadata of one of the four roles, within the limits.
fn readable(metadata: &[u8]) -> Result<(), TufError> {
    let as_root = match Signed::<Root>::parse(metadata) {
        Ok(_) => return Ok(()),
        Err(e) => e,
    };
    let other = Signed::<Targets>::parse(metadata).is_ok()
        || Signed::<Snapshot>::parse(metadata).is_ok()
        || Signed::<Timestamp>::parse(metadata).is_ok();
    if other { Ok(()) } else { Err(as_root) }
}

fn value(what: &'static str, bytes: &[u8]) -> Result<Value, RepoError> {
    serde_json::from_slice(bytes).map_err(|e| invalid(what, e))
}

fn write(what: &'static str, value: &Value) -> Result<Vec<u8>, RepoError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|e| invalid(what, e))?;
    bytes.push(b'\n');
    Ok(bytes)
}

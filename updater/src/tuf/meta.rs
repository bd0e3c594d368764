//! The four top-level roles, read from the signed part of their files.

use super::{Key, TufError};
use crate::hash::{sha256, sha512};
use semver::Version;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use whimbrel_wire::{Digest, ModelName};

/// Most models with a floor.
const FLOORS_MAX: usize = 10_000;

/// A top-level role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleName {
    /// Lists the keys of every role.
    Root,
    /// Names the newest snapshot.
    Timestamp,
    /// Names the newest targets.
    Snapshot,
    /// Names what may be installed.
    Targets,
}

impl RoleName {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Root, Self::Timestamp, Self::Snapshot, Self::Targets];

    /// Its name in metadata.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
        }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The signed part of one role.
pub trait Role: Sized {
    /// Which role.
    const NAME: RoleName;
    /// Largest accepted file.
    const SIZE_BYTES_MAX: u64;

    /// Reads the signed part.
    ///
    /// # Errors
    /// A sentence saying what is wrong.
    fn from_signed(signed: &Value) -> Result<Self, String>;

    /// The file's version.
    fn version(&self) -> u64;

    /// When it ends.
    fn expires(&self) -> OffsetDateTime;

    /// Checks that it has not ended at `now`.
    ///
    /// # Errors
    /// [`TufError::Expired`].
    fn check_expiry(&self, now: OffsetDateTime) -> Result<(), TufError> {
        if now < self.expires() {
            return Ok(());
        }
        Err(TufError::Expired { role: Self::NAME, expires: self.expires().to_string() })
    }
}

macro_rules! role {
    ($type:ident, $size:expr) => {
        impl Role for $type {
            const NAME: RoleName = RoleName::$type;
            const SIZE_BYTES_MAX: u64 = $size;
            fn from_signed(signed: &Value) -> Result<Self, String> {
                let (version, expires) = header(Self::NAME, signed)?;
                Self::read(version, expires, signed)
            }
            fn version(&self) -> u64 {
                self.version
            }
            fn expires(&self) -> OffsetDateTime {
                self.expires
            }
        }
    };
}
role!(Root, 512_000);
role!(Timestamp, 16_384);
role!(Snapshot, 2_000_000);
role!(Targets, 5_000_000);

/// Which keys may sign for a role, and how many must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleKeys {
    /// Ids of the keys.
    pub keyids: BTreeSet<String>,
    /// How many distinct ones must sign.
    pub threshold: u64,
}

/// `root`: the keys of every role.
#[derive(Debug, Clone, PartialEq)]
pub struct Root {
    /// Counts the files of this role.
    pub version: u64,
    /// When it ends.
    pub expires: OffsetDateTime,
    /// Whether snapshot and targets are fetched by version, targets by hash.
    pub consistent_snapshot: bool,
    /// Every key, by its id.
    pub keys: BTreeMap<String, Key>,
    roles: BTreeMap<RoleName, RoleKeys>,
}

/// `timestamp`: the newest snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Timestamp {
    /// Counts the files of this role.
    pub version: u64,
    /// When it ends.
    pub expires: OffsetDateTime,
    /// About the snapshot's file.
    pub snapshot: FileMeta,
}

/// `snapshot`: the newest file of every targets role.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Counts the files of this role.
    pub version: u64,
    /// When it ends.
    pub expires: OffsetDateTime,
    /// About each file, by its name without version.
    pub files: BTreeMap<String, FileMeta>,
}

/// `targets`: what may be installed.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    /// Counts the files of this role.
    pub version: u64,
    /// When it ends.
    pub expires: OffsetDateTime,
    /// Every target, by its path.
    pub targets: BTreeMap<String, Target>,
    /// The lowest version of each model that may be installed.
    pub floors: Floors,
}

/// The lowest version of each model that may be installed.
pub type Floors = BTreeMap<ModelName, Version>;

/// What is signed about another metadata file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMeta {
    /// Its version.
    pub version: u64,
    /// Its size, where stated.
    pub length_bytes: Option<u64>,
    /// Its hashes, where stated.
    pub hashes: Option<Hashes>,
}

/// One target.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its path.
    pub path: String,
    /// Its size.
    pub length_bytes: u64,
    /// Its hashes.
    pub hashes: Hashes,
    /// What the signer said about it.
    pub custom: Value,
}

/// Hashes of one file. At least one is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    /// SHA-256.
    pub sha256: Option<Digest>,
    /// SHA-512.
    pub sha512: Option<[u8; 64]>,
}

impl Root {
    fn read(version: u64, expires: OffsetDateTime, signed: &Value) -> Result<Self, String> {
        let keys = object(signed, "keys")?
            .iter()
            .map(|(id, value)| Ok((id.clone(), Key::from_value(value).map_err(|e| e.to_string())?)))
            .collect::<Result<_, String>>()?;
        let listed = object(signed, "roles")?;
        let mut roles = BTreeMap::new();
        for name in RoleName::ALL {
            let role = listed.get(name.as_str()).ok_or_else(|| format!("no keys for the role {name}"))?;
            roles.insert(name, role_keys(role).map_err(|e| format!("role {name}: {e}"))?);
        }
        let consistent_snapshot = signed.get("consistent_snapshot").and_then(Value::as_bool).unwrap_or(false);
        Ok(Self { version, expires, consistent_snapshot, keys, roles })
    }

    /// The keys of a role.
    #[must_use]
    pub fn role(&self, name: RoleName) -> &RoleKeys {
        // Filled for every name when it was read.
        &self.roles[&name]
    }
}

impl Timestamp {
    fn read(version: u64, expires: OffsetDateTime, signed: &Value) -> Result<Self, String> {
        let meta = object(signed, "meta")?.get("snapshot.json").ok_or("nothing about snapshot.json")?;
        Ok(Self { version, expires, snapshot: FileMeta::read(meta)? })
    }
}

impl Snapshot {
    fn read(version: u64, expires: OffsetDateTime, signed: &Value) -> Result<Self, String> {
        let files = object(signed, "meta")?
            .iter()
            .map(|(name, meta)| Ok((name.clone(), FileMeta::read(meta).map_err(|e| format!("{name}: {e}"))?)))
            .collect::<Result<_, String>>()?;
        Ok(Self { version, expires, files })
    }
}

impl Targets {
    fn read(version: u64, expires: OffsetDateTime, signed: &Value) -> Result<Self, String> {
        let targets = object(signed, "targets")?
            .iter()
            .map(|(path, entry)| {
                Ok((path.clone(), Target::read(path, entry).map_err(|e| format!("target {path:?}: {e}"))?))
            })
            .collect::<Result<_, String>>()?;
        let floors = match signed.pointer("/custom/whimbrel/floors") {
            Some(floors) => Floors::deserialize(floors).map_err(|e| format!("floors: {e}"))?,
            None => Floors::new(),
        };
        if floors.len() > FLOORS_MAX {
            return Err(format!("{} floors, at most {FLOORS_MAX} are accepted", floors.len()));
        }
        Ok(Self { version, expires, targets, floors })
    }
}

impl FileMeta {
    fn read(value: &Value) -> Result<Self, String> {
        let version = value.get("version").and_then(Value::as_u64).filter(|v| *v > 0);
        Ok(Self {
            version: version.ok_or("no version above 0")?,
            length_bytes: value.get("length").map(|v| v.as_u64().ok_or("length is no number")).transpose()?,
            hashes: value.get("hashes").map(Hashes::read).transpose()?,
        })
    }

    /// Checks the stated length and hashes.
    pub(super) fn check(&self, what: &str, bytes: &[u8]) -> Result<(), TufError> {
        match self.length_bytes {
            Some(length) if length != bytes.len() as u64 => Err(length_error(what, length, bytes)),
            _ => self.hashes.as_ref().map_or(Ok(()), |hashes| hashes.check(what, bytes)),
        }
    }
}

impl Target {
    fn read(path: &str, entry: &Value) -> Result<Self, String> {
        Ok(Self {
            path: path.to_owned(),
            length_bytes: entry.get("length").and_then(Value::as_u64).ok_or("no length")?,
            hashes: Hashes::read(entry.get("hashes").ok_or("no hashes")?)?,
            custom: entry.get("custom").cloned().unwrap_or(Value::Null),
        })
    }

    /// Its name on a server with consistent snapshots: `dir/HASH.file`.
    #[must_use]
    pub fn file(&self) -> String {
        let hash = match (&self.hashes.sha256, &self.hashes.sha512) {
            (Some(sha256), _) => sha256.to_string(),
            (None, Some(sha512)) => hex::encode(sha512),
            (None, None) => return self.path.clone(),
        };
        match self.path.rsplit_once('/') {
            Some((dir, file)) => format!("{dir}/{hash}.{file}"),
            None => format!("{hash}.{}", self.path),
        }
    }

    /// Checks that `bytes` are this target.
    ///
    /// # Errors
    /// [`TufError::Corrupt`].
    pub fn check(&self, bytes: &[u8]) -> Result<(), TufError> {
        if self.length_bytes != bytes.len() as u64 {
            return Err(length_error(&self.path, self.length_bytes, bytes));
        }
        self.hashes.check(&self.path, bytes)
    }

    /// The model and version that the signer says the target holds, where it says so.
    #[must_use]
    pub fn model(&self) -> Option<(ModelName, Version)> {
        let about = self.custom.get("whimbrel")?;
        let name = ModelName::from_str(about.get("model")?.as_str()?).ok()?;
        Some((name, Version::parse(about.get("version")?.as_str()?).ok()?))
    }
}

impl Hashes {
    /// Both hashes of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha256: Some(sha256(bytes)), sha512: Some(sha512(bytes)) }
    }

    fn read(value: &Value) -> Result<Self, String> {
        let text = |name: &str| value.get(name).map(|v| v.as_str().ok_or(format!("{name} is no text")));
        let sha256 = match text("sha256").transpose()? {
            Some(text) => Some(Digest::from_str(text).map_err(|e| e.to_string())?),
            None => None,
        };
        let sha512 = match text("sha512").transpose()? {
            Some(text) => {
                let mut bytes = [0; 64];
                hex::decode_to_slice(text, &mut bytes).map_err(|e| format!("sha512: {e}"))?;
                Some(bytes)
            }
            None => None,
        };
        if sha256.is_none() && sha512.is_none() {
            return Err("neither sha256 nor sha512 among the hashes".into());
        }
        Ok(Self { sha256, sha512 })
    }

    fn check(&self, what: &str, bytes: &[u8]) -> Result<(), TufError> {
        let sha256_ok = self.sha256.is_none_or(|digest| digest == sha256(bytes));
        let sha512_ok = self.sha512.is_none_or(|digest| digest == sha512(bytes));
        if sha256_ok && sha512_ok {
            return Ok(());
        }
        Err(TufError::Corrupt { what: what.to_owned(), reason: "its hash is not the signed one".into() })
    }
}

fn length_error(what: &str, length: u64, bytes: &[u8]) -> TufError {
    TufError::Corrupt { what: what.to_owned(), reason: format!("{} bytes, {length} are signed", bytes.len()) }
}

fn header(role: RoleName, signed: &Value) -> Result<(u64, OffsetDateTime), String> {
    let text = |field: &str| signed.get(field).and_then(Value::as_str).ok_or(format!("no text in {field:?}"));
    if text("_type")? != role.as_str() {
        return Err(format!("_type is {:?}", text("_type")?));
    }
    if !text("spec_version")?.starts_with("1.") {
        return Err(format!("spec_version {:?}, this build reads 1.x", text("spec_version")?));
    }
    let version = signed.get("version").and_then(Value::as_u64).filter(|v| *v > 0);
    let version = version.ok_or("no version above 0")?;
    let expires = OffsetDateTime::parse(text("expires")?, &Rfc3339).map_err(|e| format!("expires: {e}"))?;
    Ok((version, expires))
}

fn role_keys(value: &Value) -> Result<RoleKeys, String> {
    let threshold = value.get("threshold").and_then(Value::as_u64).filter(|t| *t > 0);
    let list = value.get("keyids").and_then(Value::as_array).ok_or("no list of keyids")?;
    let mut keyids = BTreeSet::new();
    for id in list {
        let id = id.as_str().ok_or("a keyid that is no text")?;
        if !keyids.insert(id.to_owned()) {
            return Err(format!("keyid {id:?} is listed twice"));
        }
    }
    Ok(RoleKeys { keyids, threshold: threshold.ok_or("no threshold above 0")? })
}

fn object<'a>(signed: &'a Value, field: &str) -> Result<&'a serde_json::Map<String, Value>, String> {
    signed.get(field).and_then(Value::as_object).ok_or(format!("no object in {field:?}"))
}

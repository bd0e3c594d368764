//! The roles, read from the signed part of their files.

use super::{Delegations, Downgrades, FileMeta, Floors, Key, Target, TufError, delegation::read_keys, own};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

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
        Err(TufError::Expired {
            role: Self::NAME,
            expires: self.expires().to_string(),
            clock: now.to_string(),
        })
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
    /// When it was signed, where it says so.
    pub signed_at: Option<OffsetDateTime>,
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

/// `targets`, or a role that it delegates to: what may be installed.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    /// Counts the files of this role.
    pub version: u64,
    /// When it ends.
    pub expires: OffsetDateTime,
    /// Every target, by its path.
    pub targets: BTreeMap<String, Target>,
    /// Other roles that may sign some targets.
    pub delegations: Option<Delegations>,
    /// The lowest version of each model that may be installed. Heeded in the top-level role only.
    pub floors: Floors,
    /// Statements that lower a floor. Heeded in the top-level role only.
    pub downgrades: Downgrades,
}

impl Root {
    fn read(version: u64, expires: OffsetDateTime, signed: &Value) -> Result<Self, String> {
        let keys = read_keys(object(signed, "keys")?)?;
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
        let snapshot = FileMeta::read(meta).map_err(|e| format!("snapshot.json: {e}"))?;
        Ok(Self { version, expires, snapshot, signed_at: own::signed_at(signed)? })
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
        let delegations = signed.get("delegations").map(Delegations::read).transpose();
        Ok(Self {
            version,
            expires,
            targets,
            delegations: delegations.map_err(|e| format!("delegations: {e}"))?,
            floors: own::floors(signed)?,
            downgrades: own::downgrades(signed)?,
        })
    }
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

pub(super) fn role_keys(value: &Value) -> Result<RoleKeys, String> {
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

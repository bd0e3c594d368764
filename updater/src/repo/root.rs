//! The root role: which keys may sign what.

use super::{
    RepoError,
    draft::{Draft, invalid},
};
use crate::tuf::{Key, RoleName, Root, Signed};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

const WHAT: &str = "root metadata";

/// The keys of one role.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleSpec {
    /// Public keys.
    pub keys: Vec<Key>,
    /// How many distinct ones must sign.
    pub threshold: u64,
}

/// The keys of every role.
#[derive(Debug, Clone, PartialEq)]
pub struct RootSpec {
    /// Who may change all of this.
    pub root: RoleSpec,
    /// Who may release.
    pub targets: RoleSpec,
    /// The fleet server's key.
    pub snapshot: RoleSpec,
    /// The fleet server's key.
    pub timestamp: RoleSpec,
}

impl RootSpec {
    /// What a root says.
    ///
    /// # Errors
    /// When it is no root, or names a key that it does not hold.
    pub fn read(root: &[u8]) -> Result<Self, RepoError> {
        let root = Signed::<Root>::parse(root)?;
        let root = root.body();
        let spec = |name| {
            let role = root.role(name);
            let key = |id: &String| {
                root.keys.get(id).cloned().ok_or_else(|| invalid(WHAT, format!("no key {id} for {name}")))
            };
            let keys = role.keyids.iter().map(key).collect::<Result<_, _>>()?;
            Ok::<_, RepoError>(RoleSpec { keys, threshold: role.threshold })
        };
        Ok(Self {
            root: spec(RoleName::Root)?,
            targets: spec(RoleName::Targets)?,
            snapshot: spec(RoleName::Snapshot)?,
            timestamp: spec(RoleName::Timestamp)?,
        })
    }

    fn roles(&self) -> [(RoleName, &RoleSpec); 4] {
        [
            (RoleName::Root, &self.root),
            (RoleName::Targets, &self.targets),
            (RoleName::Snapshot, &self.snapshot),
            (RoleName::Timestamp, &self.timestamp),
        ]
    }

    fn write(&self, draft: &mut Draft) -> Result<(), RepoError> {
        let (mut keys, mut roles) = (Map::new(), Map::new());
        for (name, role) in self.roles() {
            let mut ids = Vec::new();
            for key in &role.keys {
                let id = key.id()?;
                if ids.contains(&id) {
                    return Err(invalid(WHAT, format!("{name} lists key {id} twice")));
                }
                keys.insert(id.clone(), key.to_value());
                ids.push(id);
            }
            if role.threshold == 0 || role.threshold > ids.len() as u64 {
                let reason = format!("{name}: threshold {} of {} keys", role.threshold, ids.len());
                return Err(invalid(WHAT, reason));
            }
            roles.insert(name.to_string(), json!({"keyids": ids, "threshold": role.threshold}));
        }
        draft.set("keys", Value::Object(keys));
        draft.set("roles", Value::Object(roles));
        draft.set("consistent_snapshot", json!(true));
        Ok(())
    }
}

/// Root version 1, without signatures.
///
/// # Errors
/// When a threshold cannot be met, or a key is listed twice.
pub fn new_root(spec: &RootSpec, expires: OffsetDateTime) -> Result<Vec<u8>, RepoError> {
    let mut draft = Draft::first::<Root>(expires)?;
    spec.write(&mut draft)?;
    draft.finish::<Root>()
}

/// The root after `old`, without signatures: it must be signed as `old` demands *and* as it demands itself.
///
/// # Errors
/// When `old` is no root, a threshold cannot be met, or a key is listed twice.
pub fn next_root(old: &[u8], spec: &RootSpec, expires: OffsetDateTime) -> Result<Vec<u8>, RepoError> {
    let mut draft = Draft::next::<Root>(old, expires)?;
    spec.write(&mut draft)?;
    draft.finish::<Root>()
}

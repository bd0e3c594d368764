//! The root role: which keys may sign what.

use super::{
    RepoError,
    draft::{Draft, invalid},
};
use crate::tuf::{Key, Role, RoleKeys, RoleName, Root, Signed, Standing};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
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

impl RoleSpec {
    /// The ids of the keys, if `threshold` distinct ones of them can sign.
    pub(super) fn ids(&self, what: &'static str, name: &str) -> Result<Vec<String>, RepoError> {
        let mut ids = Vec::with_capacity(self.keys.len());
        for (index, key) in self.keys.iter().enumerate() {
            let id = key.id()?;
            if self.keys.iter().take(index).any(|earlier| earlier.is_same(key)) {
                return Err(invalid(what, format!("{name:?} lists key {id} twice")));
            }
            ids.push(id);
        }
        if self.threshold == 0 || self.threshold > ids.len() as u64 {
            let reason = format!("{name:?}: threshold {} of {} keys", self.threshold, ids.len());
            return Err(invalid(what, reason));
        }
        Ok(ids)
    }

    /// How many of these keys signed a metadata file of a role.
    ///
    /// # Errors
    /// When the file is not of that role.
    pub fn standing<T: Role>(&self, metadata: &[u8]) -> Result<Standing, RepoError> {
        let ids = self.keys.iter().map(Key::id).collect::<Result<Vec<_>, _>>()?;
        let keys: BTreeMap<String, Key> = ids.iter().cloned().zip(self.keys.iter().cloned()).collect();
        let role = RoleKeys { keyids: ids.into_iter().collect(), threshold: self.threshold };
        Ok(Signed::<T>::parse(metadata)?.standing(&role, &keys))
    }
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

    /// The keys of a role.
    #[must_use]
    pub const fn role(&self, name: RoleName) -> &RoleSpec {
        match name {
            RoleName::Root => &self.root,
            RoleName::Targets => &self.targets,
            RoleName::Snapshot => &self.snapshot,
            RoleName::Timestamp => &self.timestamp,
        }
    }

    /// The keys of a role, to change them.
    pub const fn role_mut(&mut self, name: RoleName) -> &mut RoleSpec {
        match name {
            RoleName::Root => &mut self.root,
            RoleName::Targets => &mut self.targets,
            RoleName::Snapshot => &mut self.snapshot,
            RoleName::Timestamp => &mut self.timestamp,
        }
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
            let ids = role.ids(WHAT, name.as_str())?;
            keys.extend(ids.iter().cloned().zip(role.keys.iter().map(Key::to_value)));
            roles.insert(name.to_string(), json!({"keyids": ids, "threshold": role.threshold}));
        }
        draft.set("keys", Value::Object(keys));
        draft.set("roles", Value::Object(roles));
        draft.set("consistent_snapshot", json!(true));
        Ok(())
    }
}

/// The unpublished root `draft` with other keys, without signatures; its version stays.
///
/// # Errors
/// As [`next_root`].
pub fn amend_root(draft: &[u8], spec: &RootSpec, expires: OffsetDateTime) -> Result<Vec<u8>, RepoError> {
    let mut draft = Draft::again::<Root>(draft, expires)?;
    spec.write(&mut draft)?;
    draft.finish::<Root>()
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

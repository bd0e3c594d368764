//! Who may sign a role's metadata: the root's keys for the four top-level roles, the delegator's for every other.

use super::{
    File, ROOT, Repository, SNAPSHOT, TARGETS, TIMESTAMP,
    key::{repo_failure, tuf_failure},
};
use crate::error::Failure;
use serde::Serialize;
use std::collections::BTreeSet;
use whimbrel_updater::{
    repo::{Delegation, RoleSpec, RootSpec},
    tuf::{self, RoleName, Root, Signed, Snapshot, Standing, Targets, Timestamp, TufError},
};

/// Most delegated roles that are followed.
const ROLES_MAX: usize = 10_000;

/// Keys of which enough must have signed a file.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    /// Who lists them.
    pub(crate) by: String,
    /// The keys.
    pub(crate) signers: RoleSpec,
}

/// How far one authority's keys have signed a file.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Signatures {
    /// Who lists the keys.
    pub(crate) by: String,
    /// How many of them signed.
    pub(crate) valid: u64,
    /// How many must.
    pub(crate) threshold: u64,
    /// Ids of those that did not.
    pub(crate) missing: Vec<String>,
}

impl Signatures {
    /// Whether enough signed.
    pub(crate) const fn is_met(&self) -> bool {
        self.valid >= self.threshold
    }
}

/// A delegated role and where it comes from.
#[derive(Debug, Clone)]
pub(super) struct Delegated {
    /// The role that delegates to it.
    pub(super) delegator: String,
    /// What that one says.
    pub(super) delegation: Delegation,
}

/// Which files are asked about roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// The newest of each role, even those that wait for signatures: what operators work on.
    Newest,
    /// Only those with all their signatures: what clients see.
    Signed,
}

impl Repository {
    /// Everything that is delegated, in the order of search, from the top.
    pub(super) fn delegated(&self, view: View) -> Result<Vec<Delegated>, Failure> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::from([TARGETS.to_owned()]);
        // The next to be asked is at the end: pre-order, as clients search.
        let mut ahead = self.delegated_by(TARGETS, view)?;
        ahead.reverse();
        while let Some(next) = ahead.pop() {
            if found.len() == ROLES_MAX {
                let why = format!("more than {ROLES_MAX} delegated roles");
                return Err(Failure::usage("following the delegations", why));
            }
            if seen.insert(next.delegation.name.clone()) {
                let mut below = self.delegated_by(&next.delegation.name, view)?;
                below.reverse();
                ahead.extend(below);
                found.push(next);
            }
        }
        Ok(found)
    }

    fn delegated_by(&self, role: &str, view: View) -> Result<Vec<Delegated>, Failure> {
        let file = match view {
            View::Newest => self.newest(role)?,
            View::Signed => self.signed(role)?,
        };
        let Some(File { bytes, .. }) = file else { return Ok(Vec::new()) };
        let all = Delegation::read_all(&bytes)
            .map_err(|e| repo_failure(&format!("reading what {role} delegates"), &e))?;
        Ok(all.into_iter().map(|delegation| Delegated { delegator: role.to_owned(), delegation }).collect())
    }

    /// Everybody of whose keys enough must sign the role's next file.
    ///
    /// # Errors
    /// Bad input when there is no such role.
    pub(super) fn authorities(&self, role: &str, view: View) -> Result<Vec<Authority>, Failure> {
        let attempted = format!("looking up who signs {role}");
        let spec = |file: &File| RootSpec::read(&file.bytes).map_err(|e| repo_failure(&attempted, &e));
        if role == ROOT {
            // A new root is signed by the keys of the one before it as well.
            let roots = [self.signed(ROOT)?, self.staged(ROOT)?];
            let authority = |file: &File| {
                Ok(Authority { by: format!("root {}", file.version), signers: spec(file)?.root })
            };
            return roots.iter().flatten().map(authority).collect();
        }
        if let Some(name) = top_level(role) {
            let root = self.current_root()?;
            let signers = spec(&root)?.role(name).clone();
            return Ok(vec![Authority { by: format!("root {}", root.version), signers }]);
        }
        let found = self.delegated(view)?.into_iter().find(|d| d.delegation.name == role);
        let Some(Delegated { delegator, delegation }) = found else {
            return Err(Failure::usage(attempted, "nobody delegates to a role of that name")
                .hint("`whimbrel repo status` shows the roles, `whimbrel repo delegate` adds one"));
        };
        Ok(vec![Authority { by: delegator, signers: delegation.signers }])
    }

    /// How far a file of a role is signed, by every authority.
    pub(super) fn standings(&self, role: &str, file: &[u8], view: View) -> Result<Vec<Signatures>, Failure> {
        self.authorities(role, view)?.iter().map(|authority| authority.standing(role, file)).collect()
    }
}

impl Authority {
    /// Whether it lists the key.
    pub(super) fn lists(&self, key: &tuf::Key) -> bool {
        self.signers.keys.iter().any(|k| k.is_same(key))
    }

    fn standing(&self, role: &str, file: &[u8]) -> Result<Signatures, Failure> {
        let failure = |e: &_| repo_failure(&format!("counting the signatures of {role}"), e);
        let Standing { valid, threshold } = count(&self.signers, role, file).map_err(|e| failure(&e))?;
        let mut missing = Vec::new();
        for key in &self.signers.keys {
            let alone = RoleSpec { keys: vec![key.clone()], threshold: 1 };
            if !count(&alone, role, file).map_err(|e| failure(&e))?.is_met() {
                missing.push(key.id().map_err(|e| Failure::failed("naming a key", e))?);
            }
        }
        Ok(Signatures { by: self.by.clone(), valid: valid as u64, threshold, missing })
    }
}

fn count(spec: &RoleSpec, role: &str, file: &[u8]) -> Result<Standing, whimbrel_updater::repo::RepoError> {
    match top_level(role) {
        Some(RoleName::Root) => spec.standing::<Root>(file),
        Some(RoleName::Snapshot) => spec.standing::<Snapshot>(file),
        Some(RoleName::Timestamp) => spec.standing::<Timestamp>(file),
        _ => spec.standing::<Targets>(file),
    }
}

/// The top-level role of that name.
pub(super) fn top_level(role: &str) -> Option<RoleName> {
    match role {
        ROOT => Some(RoleName::Root),
        TARGETS => Some(RoleName::Targets),
        SNAPSHOT => Some(RoleName::Snapshot),
        TIMESTAMP => Some(RoleName::Timestamp),
        _ => None,
    }
}

/// When a file of a role ends.
pub(super) fn expiry(role: &str, file: &[u8]) -> Result<time::OffsetDateTime, Failure> {
    use tuf::Role;
    fn of<T: Role>(file: &[u8]) -> Result<time::OffsetDateTime, TufError> {
        Ok(Signed::<T>::parse(file)?.body().expires())
    }
    let ends = match top_level(role) {
        Some(RoleName::Root) => of::<Root>(file),
        Some(RoleName::Snapshot) => of::<Snapshot>(file),
        Some(RoleName::Timestamp) => of::<Timestamp>(file),
        _ => of::<Targets>(file),
    };
    ends.map_err(|e| tuf_failure(&format!("reading the metadata of {role}"), &e))
}

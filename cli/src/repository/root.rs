//! The root of trust: which keys may sign what, and its rotation.

use super::{Given, Key, ROOT, Repository, RoleView, authority::top_level, key::repo_failure};
use crate::error::Failure;
use std::path::Path;
use time::{Duration, OffsetDateTime};
use whimbrel_updater::{
    repo::{self, RoleSpec, RootSpec},
    tuf,
};

/// How long a root is good for: long, because signing one takes people and offline keys.
const ROOT_LIFE: Duration = Duration::days(730);

/// Whose keys a first root lists.
#[derive(Debug)]
pub(crate) struct RootPlan {
    /// Keys of the root role, and how many of them must sign.
    pub(crate) root: RoleSpec,
    /// Keys that sign releases, and how many of them must.
    pub(crate) targets: RoleSpec,
    /// The key for snapshot and timestamp: the fleet server's, or that of a static repository.
    pub(crate) online: tuf::Key,
}

/// Changes to who may sign what.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    /// Keys to add, by role.
    pub(crate) add: Vec<(String, tuf::Key)>,
    /// Ids, or their beginnings, of keys to remove, by role.
    pub(crate) remove: Vec<(String, String)>,
    /// Thresholds to set, by role.
    pub(crate) thresholds: Vec<(String, u64)>,
    /// The key that alone signs snapshot and timestamp from now on.
    pub(crate) online: Option<tuf::Key>,
}

impl Repository {
    /// Makes a folder with version 1 of the root, signed with the keys at hand.
    ///
    /// # Errors
    /// Bad input when there is a root already, or a threshold cannot be met.
    pub(crate) fn init(
        dir: &Path,
        plan: &RootPlan,
        signers: &[&Key],
        now: OffsetDateTime,
    ) -> Result<Self, Failure> {
        let attempted = format!("making the root of trust in {}", dir.display());
        std::fs::create_dir_all(dir).map_err(|e| Failure::failed(attempted.as_str(), e))?;
        let repository = Self { dir: dir.to_owned() };
        if repository.newest(ROOT)?.is_some() {
            return Err(Failure::usage(attempted, "there is one already"));
        }
        let online = RoleSpec { keys: vec![plan.online.clone()], threshold: 1 };
        let spec = RootSpec {
            root: plan.root.clone(),
            targets: plan.targets.clone(),
            snapshot: online.clone(),
            timestamp: online,
        };
        let root = repo::new_root(&spec, now + ROOT_LIFE).map_err(|e| repo_failure(&attempted, &e))?;
        repository.stage(&attempted, ROOT, 1, root, signers)?;
        Ok(repository)
    }

    /// Makes the next root with other keys or thresholds, or changes the one that waits for signatures. It counts once enough
    /// keys of the old root and of the new one have signed it.
    ///
    /// # Errors
    /// Bad input when a key to remove is not there, or a threshold cannot be met; refused when a key is no root key.
    pub(crate) fn rotate(&self, rotation: &Rotation, given: Given<'_>) -> Result<RoleView, Failure> {
        const ATTEMPTED: &str = "rotating the root";
        let failure = |e: repo::RepoError| repo_failure(ATTEMPTED, &e);
        let (draft, signed) = (self.staged(ROOT)?, self.signed(ROOT)?);
        let base = self.newest(ROOT)?.ok_or_else(|| Failure::usage(ATTEMPTED, "there is no root yet"))?;
        let mut spec = RootSpec::read(&base.bytes).map_err(failure)?;
        rotation.apply(&mut spec)?;
        let expires = given.expires(ROOT_LIFE);
        let (version, root) = match (draft, signed) {
            (Some(draft), _) => (draft.version, repo::amend_root(&draft.bytes, &spec, expires)),
            (None, _) => (base.version + 1, repo::next_root(&base.bytes, &spec, expires)),
        };
        self.stage(ATTEMPTED, ROOT, version, root.map_err(failure)?, given.keys)
    }
}

impl Rotation {
    fn apply(&self, spec: &mut RootSpec) -> Result<(), Failure> {
        for (role, id) in &self.remove {
            remove_key(role_mut(spec, role)?, role, id)?;
        }
        for (role, key) in &self.add {
            let listed = &mut role_mut(spec, role)?.keys;
            if listed.iter().any(|k| k.is_same(key)) {
                return Err(Failure::usage(format!("adding a key to {role}"), "it lists the key already"));
            }
            listed.push(key.clone());
        }
        if let Some(online) = &self.online {
            for role in [&mut spec.snapshot, &mut spec.timestamp] {
                *role = RoleSpec { keys: vec![online.clone()], threshold: 1 };
            }
        }
        for (role, threshold) in &self.thresholds {
            role_mut(spec, role)?.threshold = *threshold;
        }
        Ok(())
    }
}

fn role_mut<'a>(spec: &'a mut RootSpec, role: &str) -> Result<&'a mut RoleSpec, Failure> {
    let name = top_level(role).ok_or_else(|| {
        Failure::usage(format!("changing the keys of {role}"), "the root does not list them").hint(
            "root, targets, snapshot and timestamp are in the root; `whimbrel repo delegate` changes others",
        )
    })?;
    Ok(spec.role_mut(name))
}

fn remove_key(role: &mut RoleSpec, name: &str, id: &str) -> Result<(), Failure> {
    let attempted = || format!("removing key {id} from {name}");
    let matching: Vec<usize> = role
        .keys
        .iter()
        .enumerate()
        .filter(|(_, key)| key.id().is_ok_and(|found| !id.is_empty() && found.starts_with(id)))
        .map(|(index, _)| index)
        .collect();
    match matching[..] {
        [index] => {
            drop(role.keys.remove(index));
            Ok(())
        }
        [] => Err(Failure::usage(attempted(), "it lists no such key")
            .hint("`whimbrel repo status` shows the ids of the keys")),
        _ => Err(Failure::usage(attempted(), "more than one of its keys begins so")),
    }
}

//! The root of trust: which keys may sign what.

use super::{
    Key, Repository,
    key::{repo_failure, tuf_failure},
};
use crate::error::Failure;
use serde::Serialize;
use std::path::Path;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use whimbrel_updater::{
    hash::sha256,
    repo::{self, RoleSpec, RootSpec},
    tuf::{self, RoleName, Root, Signed},
};
use whimbrel_wire::Digest;

/// How long a root is good for: long, because signing one takes people and offline keys.
const ROOT_LIFE: Duration = Duration::days(730);

/// Whose keys a first root lists.
#[derive(Debug)]
pub(crate) struct RootPlan {
    /// Keys of the root role.
    pub(crate) root: Vec<tuf::Key>,
    /// How many of them must sign.
    pub(crate) threshold: u64,
    /// Keys that sign releases; one of them suffices.
    pub(crate) targets: Vec<tuf::Key>,
    /// The server's key for snapshot and timestamp.
    pub(crate) online: tuf::Key,
}

/// How far a root is signed.
#[derive(Debug, Serialize)]
pub(crate) struct RootView {
    /// Its file in the folder.
    pub(crate) file: String,
    /// When it ends, RFC 3339.
    pub(crate) expires: String,
    /// Root keys that it lists.
    pub(crate) keys: usize,
    /// Distinct root keys that signed it.
    pub(crate) signatures: u64,
    /// How many must.
    pub(crate) threshold: u64,
    /// SHA-256 of the file: what enrolment tokens carry.
    pub(crate) sha256: Digest,
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
        if repository.newest("root")?.is_some() {
            return Err(Failure::usage(attempted, "there is one already"));
        }
        let online = RoleSpec { keys: vec![plan.online.clone()], threshold: 1 };
        let spec = RootSpec {
            root: RoleSpec { keys: plan.root.clone(), threshold: plan.threshold },
            targets: RoleSpec { keys: plan.targets.clone(), threshold: 1 },
            snapshot: online.clone(),
            timestamp: online,
        };
        let failure = |e| repo_failure(&attempted, &e);
        let mut root = repo::new_root(&spec, now + ROOT_LIFE).map_err(failure)?;
        for key in signers {
            root = repo::sign(&root, key.signing()).map_err(failure)?;
        }
        repository.write("1.root.json", &root)?;
        Ok(repository)
    }

    /// Adds a signature to the newest root.
    ///
    /// # Errors
    /// Refused when the key is none of the root keys.
    pub(crate) fn sign_root(&self, key: &Key) -> Result<(), Failure> {
        let version = self.root_version()?;
        let attempted = format!("signing {version}.root.json");
        let root = self.newest_root()?;
        // A new root is signed by the keys of the one before it as well.
        let mut listed = RootSpec::read(&root).map_err(|e| repo_failure(&attempted, &e))?.root.keys;
        if version > 1 {
            let before =
                RootSpec::read(&self.root(version - 1)?).map_err(|e| repo_failure(&attempted, &e))?;
            listed.extend(before.root.keys);
        }
        if !listed.iter().any(|k| k.is_same(&key.public())) {
            return Err(Failure::refused(attempted, format!("key {} is none of its root keys", key.id()?)));
        }
        let signed = repo::sign(&root, key.signing()).map_err(|e| repo_failure(&attempted, &e))?;
        self.write(&format!("{version}.root.json"), &signed)
    }

    /// How far the newest root is signed.
    ///
    /// # Errors
    /// When it is not metadata.
    pub(crate) fn root_view(&self) -> Result<RootView, Failure> {
        let file = format!("{}.root.json", self.root_version()?);
        let failure = |e| tuf_failure(&format!("reading {file}"), &e);
        let bytes = self.newest_root()?;
        let root = Signed::<Root>::parse(&bytes).map_err(failure)?;
        let standing = repo::standing::<Root>(&bytes, &bytes).map_err(failure)?;
        Ok(RootView {
            expires: root.body().expires.format(&Rfc3339).unwrap_or_default(),
            keys: root.body().role(RoleName::Root).keyids.len(),
            signatures: standing.valid as u64,
            threshold: standing.threshold,
            sha256: sha256(&bytes),
            file,
        })
    }
}

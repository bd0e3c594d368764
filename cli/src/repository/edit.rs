//! Signing releases: each change is one more version of the targets role.

use super::{
    Key, Repository,
    key::{repo_failure, tuf_failure},
};
use crate::error::Failure;
use semver::Version;
use time::{Duration, OffsetDateTime};
use whimbrel_updater::{
    bundle::Packed,
    repo::{self, NewTarget, RootSpec, TargetsEdit},
    tuf::{Signed, Targets},
};
use whimbrel_wire::ModelName;

/// How long a list of releases is good for. Every publication renews it.
const TARGETS_LIFE: Duration = Duration::days(365);

impl Repository {
    /// Signs that a bundle may be installed, where that is not signed yet; gives the version of the targets that says so.
    ///
    /// # Errors
    /// Refused when a key is not one for releases, or the version was signed with other content.
    pub(crate) fn sign_bundle(
        &self,
        bundle: &Packed,
        keys: &[&Key],
        now: OffsetDateTime,
    ) -> Result<u64, Failure> {
        let path = bundle.target_path();
        let attempted = format!("signing {path}");
        let (version, targets) = self.newest_targets(&attempted, keys, now)?;
        if let Some(known) = targets.targets.get(&path) {
            if known.check(bundle.index_bytes()).is_err() {
                return Err(Failure::refused(attempted, "this version was signed before with other content")
                    .hint("a version never changes; raise it in bundle.toml and pack again"));
            }
            self.add_signatures(&attempted, version, keys)?;
            return Ok(version);
        }
        let manifest = &bundle.index().manifest;
        if let Some(floor) = targets.floors.get(&manifest.name).filter(|floor| manifest.version < **floor) {
            return Err(Failure::refused(
                attempted,
                format!("no device may install a version below {floor}"),
            ));
        }
        let size = bundle.index_bytes().len() as u64;
        let target = NewTarget::bundle(manifest, size, bundle.digest());
        let edit = TargetsEdit { add: vec![target], ..TargetsEdit::default() };
        self.edit(&attempted, version, &edit, keys, now)
    }

    /// Signs that no device may install a lower version of the model; gives the version of the targets that says so.
    ///
    /// # Errors
    /// Refused when a key is not one for releases, or the floor is lower than the signed one.
    pub(crate) fn set_floor(
        &self,
        model: &ModelName,
        floor: &Version,
        keys: &[&Key],
        now: OffsetDateTime,
    ) -> Result<u64, Failure> {
        let attempted = format!("signing {floor} as the lowest version of {model}");
        let (version, targets) = self.newest_targets(&attempted, keys, now)?;
        match targets.floors.get(model) {
            Some(signed) if signed == floor => {
                self.add_signatures(&attempted, version, keys)?;
                return Ok(version);
            }
            Some(signed) if signed > floor => {
                let why = format!("it is {signed} already, and devices never go back below it");
                return Err(Failure::refused(attempted, why));
            }
            _ => {}
        }
        let mut edit = TargetsEdit::default();
        edit.floors.insert(model.clone(), floor.clone());
        self.edit(&attempted, version, &edit, keys, now)
    }

    /// The newest targets; version 1, which is empty, is made where there is none.
    fn newest_targets(
        &self,
        attempted: &str,
        keys: &[&Key],
        now: OffsetDateTime,
    ) -> Result<(u64, Targets), Failure> {
        self.check_release_keys(attempted, keys)?;
        let version = match self.targets_version()? {
            Some(version) => version,
            None => {
                need_a_key(attempted, keys)?;
                let empty = repo::new_targets(now + TARGETS_LIFE).map_err(|e| repo_failure(attempted, &e))?;
                self.sign_and_write(attempted, 1, empty, keys)?;
                1
            }
        };
        let targets =
            Signed::<Targets>::parse(&self.targets(version)?).map_err(|e| tuf_failure(attempted, &e))?;
        Ok((version, targets.body().clone()))
    }

    fn edit(
        &self,
        attempted: &str,
        version: u64,
        edit: &TargetsEdit,
        keys: &[&Key],
        now: OffsetDateTime,
    ) -> Result<u64, Failure> {
        need_a_key(attempted, keys)?;
        let next = repo::next_targets(&self.targets(version)?, edit, now + TARGETS_LIFE);
        self.sign_and_write(attempted, version + 1, next.map_err(|e| repo_failure(attempted, &e))?, keys)?;
        Ok(version + 1)
    }

    /// Another operator's signatures, where the targets lack some that the root demands.
    fn add_signatures(&self, attempted: &str, version: u64, keys: &[&Key]) -> Result<(), Failure> {
        let targets = self.targets(version)?;
        let standing = repo::standing::<Targets>(&self.newest_root()?, &targets);
        if keys.is_empty() || standing.map_err(|e| tuf_failure(attempted, &e))?.is_met() {
            return Ok(());
        }
        self.sign_and_write(attempted, version, targets, keys)
    }

    fn sign_and_write(
        &self,
        attempted: &str,
        version: u64,
        mut targets: Vec<u8>,
        keys: &[&Key],
    ) -> Result<(), Failure> {
        for key in keys {
            targets = repo::sign(&targets, key.signing()).map_err(|e| repo_failure(attempted, &e))?;
        }
        self.write(&format!("{version}.targets.json"), &targets)
    }

    fn check_release_keys(&self, attempted: &str, keys: &[&Key]) -> Result<(), Failure> {
        let listed =
            RootSpec::read(&self.newest_root()?).map_err(|e| repo_failure(attempted, &e))?.targets.keys;
        for key in keys {
            if !listed.iter().any(|k| k.is_same(&key.public())) {
                let why = format!("key {} may not sign releases: the root does not list it", key.id()?);
                return Err(Failure::refused(attempted, why));
            }
        }
        Ok(())
    }
}

fn need_a_key(attempted: &str, keys: &[&Key]) -> Result<(), Failure> {
    if keys.is_empty() {
        return Err(Failure::usage(attempted, "it is not signed yet, and no key was given")
            .hint("give the release key with --targets-key"));
    }
    Ok(())
}

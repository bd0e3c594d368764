//! Metadata that comes from the server, checked before it is kept, and what is put into bundles.

use super::{
    Repository, SNAPSHOT, TARGETS,
    authority::{Signatures, View},
    key::{repo_failure, tuf_failure},
};
use crate::error::Failure;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use whimbrel_updater::{
    hash::sha256,
    repo::{self, Delegation, file_name},
    tuf::{FileMeta, Role as _, Signed, Snapshot, Targets, Timestamp, Trusted},
};

/// The server's newest files, as they came.
#[derive(Debug)]
pub(crate) struct Online {
    pub(crate) timestamp: Vec<u8>,
    pub(crate) snapshot: Vec<u8>,
    pub(crate) targets: Vec<u8>,
    /// Those of delegated roles, by name, each after the one that delegates to it.
    pub(crate) delegated: Vec<(String, Vec<u8>)>,
}

impl Repository {
    /// Keeps the root after the newest one, if it is signed as both demand; gives its file name.
    ///
    /// # Errors
    /// Refused when it does not verify.
    pub(crate) fn adopt_root(&self, bytes: &[u8]) -> Result<String, Failure> {
        let old = self.signed(super::ROOT)?;
        let file = file_name(super::ROOT, Some(old.as_ref().map_or(1, |f| f.version + 1)));
        let root = repo::check_root(old.as_ref().map(|f| &f.bytes[..]), bytes);
        root.map_err(|e| tuf_failure(&format!("checking the server's {file}"), &e))?;
        self.write(&file, bytes)?;
        Ok(file)
    }

    /// Checks the server's newest files against the folder's root and keeps those that are new; gives their names.
    ///
    /// # Errors
    /// Refused when they do not verify, or when the server holds other metadata of a version than this folder.
    pub(crate) fn adopt(&self, online: &Online, now: OffsetDateTime) -> Result<Vec<String>, Failure> {
        let failure = |e| tuf_failure("checking the server's metadata", &e);
        let root = self.signed(super::ROOT)?.ok_or_else(|| {
            Failure::refused("checking the server's metadata", "the folder's root has not all its signatures")
        })?;
        let mut trusted = Trusted::new(&root.bytes).map_err(failure)?;
        trusted.finish_root(now).map_err(failure)?;
        trusted.update_timestamp(&online.timestamp, now).map_err(failure)?;
        trusted.update_snapshot(&online.snapshot, now).map_err(failure)?;
        trusted.update_targets(&online.targets, now).map_err(failure)?;
        let snapshot = Signed::<Snapshot>::parse(&online.snapshot).map_err(failure)?;
        let mut files = vec![(named(TARGETS, &online.targets)?, &online.targets)];
        for (role, bytes) in check_delegated(online, snapshot.body(), now)? {
            files.push((named(role, bytes)?, bytes));
        }
        for (file, bytes) in &files {
            if self.path(file).is_file() && self.read(file)? != **bytes {
                let why = "the server has another file of that name: someone else published meanwhile";
                return Err(Failure::refused(format!("comparing {file} with the server's"), why)
                    .hint("move the folder's file away, run `whimbrel repo pull`, then sign again"));
            }
        }
        files.push((file_name(SNAPSHOT, Some(snapshot.body().version)), &online.snapshot));
        let mut adopted = Vec::new();
        // The timestamp names the others, so it comes last.
        for (file, bytes) in files.into_iter().chain([("timestamp.json".to_owned(), &online.timestamp)]) {
            if !self.path(&file).is_file() || self.read(&file)? != *bytes {
                match repo::parse_file_name(&file) {
                    Some((version, role)) => self.publish_file(&role, version, bytes)?,
                    None => self.write(&file, bytes)?,
                }
                adopted.push(file);
            }
        }
        Ok(adopted)
    }

    /// Everything with which a device without a network can verify a bundle: all roots, the timestamp, and the snapshot,
    /// targets and delegated roles that it leads to. Without a timestamp, the newest targets.
    ///
    /// # Errors
    /// When the folder cannot be read, or holds something else.
    pub(crate) fn for_bundle(&self) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
        let mut files = Vec::new();
        for version in 1..=self.root_version()? {
            files.push(file_name(super::ROOT, Some(version)));
        }
        if self.path("timestamp.json").is_file() {
            let failure = |e| tuf_failure("reading timestamp.json", &e);
            let bytes = self.read("timestamp.json")?;
            let snapshot = Signed::<Timestamp>::parse(&bytes).map_err(failure)?.body().snapshot.version;
            let snapshot = file_name(SNAPSHOT, Some(snapshot));
            let bytes = self.read(&snapshot)?;
            let parsed = Signed::<Snapshot>::parse(&bytes).map_err(failure)?;
            for role in self.targets_roles()? {
                if let Some(named) = parsed.body().files.get(&format!("{role}.json")) {
                    files.push(file_name(&role, Some(named.version)));
                }
            }
            files.extend([snapshot, "timestamp.json".to_owned()]);
        } else if let Some(targets) = self.version(TARGETS)? {
            files.push(file_name(TARGETS, Some(targets)));
        }
        files.into_iter().map(|file| Ok((file.clone(), self.read(&file)?))).collect()
    }

    /// The first version of a targets role after `published` that names the bundle; `None` when none does.
    ///
    /// # Errors
    /// When a file is not there or is not metadata.
    pub(crate) fn first_with(
        &self,
        role: &str,
        path: &str,
        index: &[u8],
        published: u64,
    ) -> Result<Option<u64>, Failure> {
        for version in published + 1..=self.version(role)?.unwrap_or(0) {
            let file = file_name(role, Some(version));
            let targets = Signed::<Targets>::parse(&self.read(&file)?)
                .map_err(|e| tuf_failure(&format!("reading {file}"), &e))?;
            if targets.body().targets.get(path).is_some_and(|t| t.check(index).is_ok()) {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    /// Checks that the roots have all their signatures, so that a server's refusal is foreseen.
    ///
    /// # Errors
    /// Refused when one waits for more.
    pub(crate) fn check_complete(&self) -> Result<(), Failure> {
        let Some(staged) = self.staged(super::ROOT)? else { return Ok(()) };
        let standing = self.standings(super::ROOT, &staged.bytes, View::Newest)?;
        let standing: Vec<String> = standing
            .iter()
            .map(|Signatures { by, valid, threshold, .. }| {
                format!("{valid} of {threshold} signatures by {by}")
            })
            .collect();
        Err(Failure::refused(format!("checking root {}", staged.version), standing.join(", "))
            .hint("add one with `whimbrel repo sign root`"))
    }
}

fn named(role: &str, targets: &[u8]) -> Result<String, Failure> {
    let parsed =
        Signed::<Targets>::parse(targets).map_err(|e| tuf_failure("reading the server's metadata", &e))?;
    Ok(file_name(role, Some(parsed.body().version())))
}

/// Checks the files of delegated roles: named by the snapshot, signed as their delegators demand, not expired.
fn check_delegated<'a>(
    online: &'a Online,
    snapshot: &Snapshot,
    now: OffsetDateTime,
) -> Result<Vec<(&'a str, &'a Vec<u8>)>, Failure> {
    const ATTEMPTED: &str = "checking the server's metadata";
    let mut known: Vec<Delegation> =
        Delegation::read_all(&online.targets).map_err(|e| repo_failure(ATTEMPTED, &e))?;
    let mut checked = Vec::new();
    for (role, bytes) in &online.delegated {
        let refused = |why: &str| Failure::refused(ATTEMPTED, format!("{role}: {why}"));
        let delegation =
            known.iter().find(|d| d.name == *role).ok_or_else(|| refused("nobody delegates to it"))?;
        let standing =
            delegation.signers.standing::<Targets>(bytes).map_err(|e| repo_failure(ATTEMPTED, &e))?;
        if !standing.is_met() {
            return Err(refused(&format!(
                "signed by {} of its keys, {} are needed",
                standing.valid, standing.threshold
            )));
        }
        let meta = snapshot
            .files
            .get(&format!("{role}.json"))
            .ok_or_else(|| refused("the snapshot does not name it"))?;
        let parsed = Signed::<Targets>::parse(bytes).map_err(|e| tuf_failure(ATTEMPTED, &e))?;
        parsed.body().check_expiry(now).map_err(|e| tuf_failure(ATTEMPTED, &e))?;
        if !is_named(meta, parsed.body().version, bytes) {
            return Err(refused("not the file that the snapshot names"));
        }
        known.extend(Delegation::read_all(bytes).map_err(|e| repo_failure(ATTEMPTED, &e))?);
        checked.push((role.as_str(), bytes));
    }
    Ok(checked)
}

fn is_named(meta: &FileMeta, version: u64, bytes: &[u8]) -> bool {
    let hash = meta.hashes.as_ref().and_then(|hashes| hashes.sha256);
    meta.version == version
        && meta.length_bytes.is_none_or(|length| length == bytes.len() as u64)
        && hash.is_none_or(|hash| hash == sha256(bytes))
}

//! Metadata that comes from the server, checked before it is kept, and what is put into bundles.

use super::{Repository, key::tuf_failure};
use crate::error::Failure;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use whimbrel_updater::{
    repo,
    tuf::{Role as _, Root, Signed, Snapshot, Targets, Timestamp, Trusted},
};

/// The server's newest files, as they came.
#[derive(Debug)]
pub(crate) struct Online {
    pub(crate) timestamp: Vec<u8>,
    pub(crate) snapshot: Vec<u8>,
    pub(crate) targets: Vec<u8>,
}

impl Repository {
    /// Keeps the root after the newest one, if it is signed as both demand; gives its file name.
    ///
    /// # Errors
    /// Refused when it does not verify.
    pub(crate) fn adopt_root(&self, bytes: &[u8]) -> Result<String, Failure> {
        let file = format!("{}.root.json", self.root_version()? + 1);
        let root = repo::check_root(Some(&self.newest_root()?), bytes);
        root.map_err(|e| tuf_failure(&format!("checking the server's {file}"), &e))?;
        self.write(&file, bytes)?;
        Ok(file)
    }

    /// Checks the server's newest files against the folder's root and keeps those that are new; gives their names.
    ///
    /// # Errors
    /// Refused when they do not verify, or when the server holds other targets of a version than this folder.
    pub(crate) fn adopt(&self, online: &Online, now: OffsetDateTime) -> Result<Vec<String>, Failure> {
        let failure = |e| tuf_failure("checking the server's metadata", &e);
        let mut trusted = Trusted::new(&self.newest_root()?).map_err(failure)?;
        trusted.finish_root(now).map_err(failure)?;
        trusted.update_timestamp(&online.timestamp, now).map_err(failure)?;
        trusted.update_snapshot(&online.snapshot, now).map_err(failure)?;
        trusted.update_targets(&online.targets, now).map_err(failure)?;
        let version = |bytes: &[u8]| Signed::<Snapshot>::parse(bytes).map(|s| s.body().version());
        let snapshot = format!("{}.snapshot.json", version(&online.snapshot).map_err(failure)?);
        let targets = Signed::<Targets>::parse(&online.targets).map_err(failure)?.body().version();
        let targets = format!("{targets}.targets.json");
        if self.path(&targets).is_file() && self.read(&targets)? != online.targets {
            let why = "the server has another file of that name: someone else published meanwhile";
            return Err(Failure::refused(format!("comparing {targets} with the server's"), why)
                .hint("move the folder's file away, run `whimbrel repo pull`, then sign again"));
        }
        let mut adopted = Vec::new();
        // The timestamp names the others, so it comes last.
        let files = [(targets, &online.targets), (snapshot, &online.snapshot)];
        for (file, bytes) in files.into_iter().chain([("timestamp.json".to_owned(), &online.timestamp)]) {
            if !self.path(&file).is_file() || self.read(&file)? != *bytes {
                self.write(&file, bytes)?;
                adopted.push(file);
            }
        }
        Ok(adopted)
    }

    /// Everything with which a device without a network can verify a bundle: all roots, the timestamp, and the snapshot and
    /// targets that it leads to. Without a timestamp, the newest targets.
    ///
    /// # Errors
    /// When the folder cannot be read, or holds something else.
    pub(crate) fn for_bundle(&self) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
        let mut files = Vec::new();
        for version in 1..=self.root_version()? {
            files.push(format!("{version}.root.json"));
        }
        if self.path("timestamp.json").is_file() {
            let failure = |e| tuf_failure("reading timestamp.json", &e);
            let bytes = self.read("timestamp.json")?;
            let snapshot = Signed::<Timestamp>::parse(&bytes).map_err(failure)?.body().snapshot.version;
            let snapshot = format!("{snapshot}.snapshot.json");
            let bytes = self.read(&snapshot)?;
            let named = Signed::<Snapshot>::parse(&bytes).map_err(failure)?;
            if let Some(targets) = named.body().files.get("targets.json") {
                files.push(format!("{}.targets.json", targets.version));
            }
            files.extend([snapshot, "timestamp.json".to_owned()]);
        } else if let Some(targets) = self.targets_version()? {
            files.push(format!("{targets}.targets.json"));
        }
        files.into_iter().map(|file| Ok((file.clone(), self.read(&file)?))).collect()
    }

    /// The first version of the targets after `published` that names the bundle; `None` when none does.
    ///
    /// # Errors
    /// When a file is not there or is not metadata.
    pub(crate) fn first_targets_with(
        &self,
        path: &str,
        index: &[u8],
        published: u64,
    ) -> Result<Option<u64>, Failure> {
        for version in published + 1..=self.targets_version()?.unwrap_or(0) {
            let targets = Signed::<Targets>::parse(&self.targets(version)?)
                .map_err(|e| tuf_failure(&format!("reading {version}.targets.json"), &e))?;
            if targets.body().targets.get(path).is_some_and(|t| t.check(index).is_ok()) {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    /// Checks that enough keys signed a root or targets, so that a server's refusal is foreseen.
    ///
    /// # Errors
    /// Refused when not.
    pub(crate) fn check_complete(&self) -> Result<(), Failure> {
        let root = self.newest_root()?;
        let failure = |e| tuf_failure("checking the newest root", &e);
        let standing = repo::standing::<Root>(&root, &root).map_err(failure)?;
        if standing.is_met() {
            return Ok(());
        }
        let why = format!("{} of {} signatures", standing.valid, standing.threshold);
        Err(Failure::refused("checking the newest root", why).hint("add one with `whimbrel repo sign-root`"))
    }
}

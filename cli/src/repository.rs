//! The operator's folder of signed metadata: `N.root.json` and `N.targets.json` as signed here, `timestamp.json` and
//! `N.snapshot.json` as last brought from the server. It holds no secret.

mod edit;
mod key;
mod metadata;
mod root;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use key::{Key, public_key, tuf_failure};
pub(crate) use metadata::Online;
pub(crate) use root::{RootPlan, RootView};

use crate::{error::Failure, files};
use std::path::{Path, PathBuf};

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    dir: PathBuf,
}

impl Repository {
    /// Opens a folder that `repo init` made.
    ///
    /// # Errors
    /// Bad input when there is no root in it.
    pub(crate) fn open(dir: &Path) -> Result<Self, Failure> {
        let repository = Self { dir: dir.to_owned() };
        if repository.path("1.root.json").is_file() {
            return Ok(repository);
        }
        let why = "there is no 1.root.json in it";
        Err(Failure::usage(format!("opening the repository {}", dir.display()), why)
            .hint("`whimbrel repo init` makes one"))
    }

    /// The bytes of `N.root.json`.
    ///
    /// # Errors
    /// Bad input when it is not there.
    pub(crate) fn root(&self, version: u64) -> Result<Vec<u8>, Failure> {
        self.read(&format!("{version}.root.json"))
    }

    /// The bytes of `N.targets.json`.
    ///
    /// # Errors
    /// Bad input when it is not there.
    pub(crate) fn targets(&self, version: u64) -> Result<Vec<u8>, Failure> {
        self.read(&format!("{version}.targets.json"))
    }

    /// The newest root's version.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn root_version(&self) -> Result<u64, Failure> {
        Ok(self.newest("root")?.unwrap_or(1))
    }

    /// The newest targets' version; `None` before the first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn targets_version(&self) -> Result<Option<u64>, Failure> {
        self.newest("targets")
    }

    fn newest_root(&self) -> Result<Vec<u8>, Failure> {
        self.root(self.root_version()?)
    }

    /// The highest N of the files `N.{role}.json`.
    fn newest(&self, role: &str) -> Result<Option<u64>, Failure> {
        let failed = |e| Failure::failed(format!("reading the folder {}", self.dir.display()), e);
        let suffix = format!(".{role}.json");
        let mut newest = None;
        for entry in std::fs::read_dir(&self.dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let version = name.to_str().and_then(|n| n.strip_suffix(&suffix)).and_then(|n| n.parse().ok());
            newest = newest.max(version);
        }
        Ok(newest)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    fn read(&self, file: &str) -> Result<Vec<u8>, Failure> {
        files::read(&self.path(file), files::FILE_BYTES_MAX)
    }

    fn write(&self, file: &str, bytes: &[u8]) -> Result<(), Failure> {
        files::write(&self.path(file), bytes)
    }
}

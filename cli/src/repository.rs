//! The operator's folder of signed metadata, which is also a complete static TUF repository that any web server can serve:
//! `N.ROLE.json` and `timestamp.json` beside each other, targets below `targets/`, chunks of bundles in `chunks/`. Metadata that
//! waits for signatures lies in `staged/`, where no client looks. The folder holds no secret.

mod authority;
mod content;
mod edit;
mod key;
mod metadata;
mod online;
mod root;
mod stage;
mod status;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use edit::Given;
pub(crate) use key::{Key, public_key, tuf_failure};
pub(crate) use metadata::Online;
pub(crate) use root::{RootPlan, Rotation};
pub(crate) use stage::RoleView;
pub(crate) use status::{RoleStatus, Status};

use crate::{error::Failure, files};
use std::path::{Path, PathBuf};
use whimbrel_updater::repo::{file_name, parse_file_name};

/// The role of every repository that lists the keys of the others.
pub(crate) const ROOT: &str = "root";
/// The role at the top of all targets.
pub(crate) const TARGETS: &str = "targets";
const SNAPSHOT: &str = "snapshot";
const TIMESTAMP: &str = "timestamp";
const STAGED: &str = "staged";

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    dir: PathBuf,
}

/// One metadata file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) version: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Repository {
    /// Opens a folder that `repo init` made.
    ///
    /// # Errors
    /// Bad input when there is no root in it.
    pub(crate) fn open(dir: &Path) -> Result<Self, Failure> {
        let repository = Self { dir: dir.to_owned() };
        let first = file_name(ROOT, Some(1));
        if repository.path(&first).is_file() || repository.path(STAGED).join(&first).is_file() {
            return Ok(repository);
        }
        let why = format!("there is no {first} in it");
        Err(Failure::usage(format!("opening the repository {}", dir.display()), why)
            .hint("`whimbrel repo init` makes one"))
    }

    /// The bytes of `N.root.json`.
    ///
    /// # Errors
    /// Bad input when it is not there.
    pub(crate) fn root(&self, version: u64) -> Result<Vec<u8>, Failure> {
        self.file(ROOT, version)
    }

    /// The bytes of `N.ROLE.json`.
    ///
    /// # Errors
    /// Bad input when it is not there.
    pub(crate) fn file(&self, role: &str, version: u64) -> Result<Vec<u8>, Failure> {
        self.read(&file_name(role, Some(version)))
    }

    /// The version of the newest file of a role that is signed as it must be; `None` before the first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn version(&self, role: &str) -> Result<Option<u64>, Failure> {
        self.newest_in(&self.dir, role)
    }

    /// The newest root's version; 0 where none has all its signatures.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn root_version(&self) -> Result<u64, Failure> {
        Ok(self.version(ROOT)?.unwrap_or(0))
    }

    /// The newest file of a role that is signed as it must be.
    pub(crate) fn signed(&self, role: &str) -> Result<Option<File>, Failure> {
        let Some(version) = self.version(role)? else { return Ok(None) };
        Ok(Some(File { version, bytes: self.file(role, version)? }))
    }

    /// The file of a role that waits for signatures.
    pub(crate) fn staged(&self, role: &str) -> Result<Option<File>, Failure> {
        let dir = self.path(STAGED);
        let Some(version) = self.newest_in(&dir, role)? else { return Ok(None) };
        let bytes = files::read(&dir.join(file_name(role, Some(version))), files::FILE_BYTES_MAX)?;
        Ok(Some(File { version, bytes }))
    }

    /// The newest file of a role, whether or not it still waits for signatures.
    pub(crate) fn newest(&self, role: &str) -> Result<Option<File>, Failure> {
        Ok(self.staged(role)?.or(self.signed(role)?))
    }

    /// The root that tells who may sign: the newest with all its signatures, or the first while it waits for them.
    fn current_root(&self) -> Result<File, Failure> {
        let root = self.signed(ROOT)?.or(self.staged(ROOT)?);
        root.ok_or_else(|| {
            Failure::usage(format!("reading {}", self.dir.display()), "there is no root in it")
        })
    }

    /// The highest N of the files `N.ROLE.json` in a folder.
    fn newest_in(&self, dir: &Path, role: &str) -> Result<Option<u64>, Failure> {
        let failed = |e| Failure::failed(format!("reading the folder {}", dir.display()), e);
        let entries = match std::fs::read_dir(dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && dir != self.dir => return Ok(None),
            entries => entries.map_err(failed)?,
        };
        let mut newest = None;
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let found = name.to_str().and_then(parse_file_name).filter(|(_, of)| of == role);
            newest = newest.max(found.map(|(version, _)| version));
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

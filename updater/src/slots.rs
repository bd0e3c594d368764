//! Installed bundles: `models/NAME/SHA256/`, immutable after the rename that puts them there, and those being put together
//! beside them. Together they are all the chunks that the device has.

mod collect;
mod layout;
mod outline;
mod partial;

pub use layout::Layout;
pub(crate) use outline::{ContentFile, Contents};
pub use partial::{Partial, SignedIndex};

use outline::Outline;

use crate::{
    disk::{Disk, DiskError, Files},
    hash::{Sha256, sha256},
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};
use whimbrel_wire::{DecodeError, Digest, Message, ModelName, decode, index::Index, manifest::Manifest};

/// The index inside an installed bundle's folder.
pub const INDEX_FILE: &str = "bundle.wbi";
/// How much of a file is held in memory while it is checked.
const READ_BYTES: usize = 256 << 10;

/// A bundle on disk whose every file was verified when it was put there.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InstalledBundle {
    /// About the model.
    pub manifest: Manifest,
    /// The folder with its files, to be read only.
    pub dir: PathBuf,
    /// SHA-256 of its index.
    pub digest: Digest,
}

/// Why a bundle could not be installed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The disk said no.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// No such bundle is installed.
    #[error("open bundle {}: it is not installed", dir.display())]
    Absent {
        /// Where it would be.
        dir: PathBuf,
    },
    /// A file is not as it was installed.
    #[error("open bundle {}: {reason}", dir.display())]
    Damaged {
        /// The bundle's folder.
        dir: PathBuf,
        /// What differs.
        reason: String,
    },
    /// The index is not one.
    #[error("install bundle {digest}: {source}")]
    Index {
        /// Its hash.
        digest: Digest,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The index breaks a rule that only installing knows.
    #[error("install bundle {digest}: {reason}")]
    Unfit {
        /// Its hash.
        digest: Digest,
        /// Which rule.
        reason: String,
    },
    /// Not every chunk of a file is in its place.
    #[error("install bundle {digest}: {file:?} is not whole")]
    Incomplete {
        /// The bundle.
        digest: Digest,
        /// The file.
        file: String,
    },
}

impl InstalledBundle {
    /// Opens an installed bundle's folder and checks every file in it.
    ///
    /// # Errors
    /// When it is not one, or a file differs from the index.
    pub fn open(dir: &Path) -> Result<Self, SlotError> {
        let (bundle, index) = read_slot(&Files, dir)?;
        check_files(&Files, dir, &index)?;
        Ok(bundle)
    }
}

/// The folder `models/`.
#[derive(Debug, Clone)]
pub struct Slots {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Slots {
    /// The slots below `dir`.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, dir: dir.to_owned() }
    }

    /// Where a bundle is, or would be.
    #[must_use]
    pub fn path(&self, model: &ModelName, digest: Digest) -> PathBuf {
        self.dir.join(model.as_str()).join(digest.to_string())
    }

    /// Opens an installed bundle: its index has the hash, its files are there and have their size.
    ///
    /// # Errors
    /// When it is not installed, or differs.
    pub fn open(&self, model: &ModelName, digest: Digest) -> Result<InstalledBundle, SlotError> {
        let (bundle, index) = self.read(model, digest)?;
        for file in &index.files {
            let found = self.disk.size_bytes(&bundle.dir.join(&file.path))?;
            if found != Some(file.size_bytes) {
                return Err(damaged(&bundle.dir, format!("{} is missing or of another size", file.path)));
            }
        }
        Ok(bundle)
    }

    /// Opens an installed bundle and checks every byte.
    ///
    /// # Errors
    /// When it is not installed, or differs.
    pub fn verify(&self, model: &ModelName, digest: Digest) -> Result<InstalledBundle, SlotError> {
        let (bundle, index) = self.read(model, digest)?;
        check_files(&*self.disk, &bundle.dir, &index)?;
        Ok(bundle)
    }

    /// What content lies where in a folder of [`Slots::folders`].
    ///
    /// # Errors
    /// When its index cannot be read.
    pub(crate) fn contents_of(&self, folder: &Path) -> Result<Contents, SlotError> {
        Ok(read_index(&*self.disk, folder)?.0)
    }

    fn read(&self, model: &ModelName, digest: Digest) -> Result<(InstalledBundle, Outline), SlotError> {
        let dir = self.path(model, digest);
        let (bundle, index) = read_slot(&*self.disk, &dir)?;
        if bundle.digest != digest || bundle.manifest.name != *model {
            return Err(damaged(&dir, format!("{INDEX_FILE} is that of another bundle")));
        }
        Ok((bundle, index))
    }
}

fn read_slot(disk: &dyn Disk, dir: &Path) -> Result<(InstalledBundle, Outline), SlotError> {
    let (outline, digest): (Outline, Digest) = read_index(disk, dir)?;
    Ok((InstalledBundle { manifest: outline.manifest.clone(), dir: dir.to_owned(), digest }, outline))
}

/// Reads the index in a folder, or a part of it; also the hash that it has.
fn read_index<M: Message>(disk: &dyn Disk, dir: &Path) -> Result<(M, Digest), SlotError> {
    let bytes = disk.read(&dir.join(INDEX_FILE), M::SIZE_BYTES_MAX as u64)?;
    let bytes = bytes.ok_or_else(|| SlotError::Absent { dir: dir.to_owned() })?;
    Ok((decode(&bytes).map_err(|e| damaged(dir, e))?, sha256(&bytes)))
}

fn check_files(disk: &dyn Disk, dir: &Path, outline: &Outline) -> Result<(), SlotError> {
    for file in &outline.files {
        if !check_file(disk, &dir.join(&file.path), file.size_bytes, file.sha256)? {
            return Err(damaged(dir, format!("{} differs from what was installed", file.path)));
        }
    }
    Ok(())
}

/// Whether a file has the size and the hash that the index states.
fn check_file(disk: &dyn Disk, path: &Path, size_bytes: u64, sha256: Digest) -> Result<bool, DiskError> {
    if disk.size_bytes(path)? != Some(size_bytes) {
        return Ok(false);
    }
    let mut hash = Sha256::default();
    let mut offset = 0;
    while offset < size_bytes {
        let len = usize::try_from(size_bytes - offset).unwrap_or(READ_BYTES).min(READ_BYTES);
        hash.update(&disk.read_at(path, offset, len)?);
        offset += len as u64;
    }
    Ok(hash.finish() == sha256)
}

fn damaged(dir: &Path, reason: impl ToString) -> SlotError {
    SlotError::Damaged { dir: dir.to_owned(), reason: reason.to_string() }
}

/// The folders above a file, outermost first.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

/// Every folder of a bundle, inner ones last.
fn folders(index: &Index) -> BTreeSet<&str> {
    index.files.iter().flat_map(|file| parents(&file.path)).collect()
}

#[cfg(test)]
mod tests;

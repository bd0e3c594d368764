//! Installed bundles: `models/NAME/SHA256/`, immutable after the rename that puts them there.

use crate::{
    bundle::chunk,
    disk::{Disk, DiskError, Files, create_dirs},
    hash::{Sha256, sha256},
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};
use whimbrel_wire::{
    DecodeError, Digest, Message, ModelName, decode,
    index::{Chunk, FileEntry, Index},
    manifest::Manifest,
};

/// The index inside an installed bundle's folder.
pub const INDEX_FILE: &str = "bundle.wbi";
/// How much of a file is held in memory while it is checked.
const READ_BYTES: usize = 1 << 20;

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
    /// A chunk is not at hand.
    #[error("install bundle {digest}: chunk {chunk} is not here")]
    Missing {
        /// The bundle.
        digest: Digest,
        /// The chunk.
        chunk: Digest,
    },
}

/// Gives the unpacked bytes of a chunk, if they are at hand.
pub type ChunkSource<'a> = dyn Fn(&Chunk) -> Result<Option<Vec<u8>>, DiskError> + 'a;

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

    /// The index of an installed bundle.
    ///
    /// # Errors
    /// When it is not installed, or its index differs.
    pub fn index(&self, model: &ModelName, digest: Digest) -> Result<Index, SlotError> {
        Ok(self.read(model, digest)?.1)
    }

    /// Puts a bundle in place: written aside, checked, synced, renamed. One that is there already is checked and kept, a
    /// damaged one replaced.
    ///
    /// # Errors
    /// When a chunk is missing, something does not fit, or the disk refuses; nothing is in place then.
    pub fn install(
        &self,
        digest: Digest,
        index_bytes: &[u8],
        chunks: &ChunkSource<'_>,
    ) -> Result<InstalledBundle, SlotError> {
        let index: Index = decode(index_bytes).map_err(|source| SlotError::Index { digest, source })?;
        if sha256(index_bytes) != digest {
            return Err(SlotError::Unfit { digest, reason: "the index has another hash".into() });
        }
        if index.file(INDEX_FILE).is_some() {
            return Err(SlotError::Unfit { digest, reason: format!("it holds a file named {INDEX_FILE}") });
        }
        let model = &index.manifest.name;
        match self.verify(model, digest) {
            Ok(bundle) => return Ok(bundle),
            Err(SlotError::Absent { .. }) => {}
            Err(e) => tracing::warn!(%e, "a damaged bundle is replaced"),
        }
        let folder = self.dir.join(model.as_str());
        let (aside, place) = (folder.join(format!(".{digest}.tmp")), self.path(model, digest));
        create_dirs(&*self.disk, &folder)?;
        self.disk.remove_dir_all(&aside)?;
        self.disk.create_dir(&aside)?;
        for file in &index.files {
            self.write_file(digest, &aside, file, chunks)?;
        }
        self.write_synced(&aside.join(INDEX_FILE), index_bytes)?;
        for dir in folders(&index) {
            self.disk.sync_dir(&aside.join(dir))?;
        }
        self.disk.sync_dir(&aside)?;
        self.disk.remove_dir_all(&place)?;
        self.disk.rename(&aside, &place)?;
        self.disk.sync_dir(&folder)?;
        self.open(model, digest)
    }

    /// Removes every bundle of a model, and every half-written one, save those in `keep`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn retain(&self, model: &ModelName, keep: &[Digest]) -> Result<(), DiskError> {
        let folder = self.dir.join(model.as_str());
        let keep: Vec<String> = keep.iter().map(ToString::to_string).collect();
        for name in self.disk.list(&folder)? {
            if !keep.iter().any(|kept| name == kept.as_str()) {
                self.disk.remove_dir_all(&folder.join(name))?;
            }
        }
        Ok(())
    }

    fn read(&self, model: &ModelName, digest: Digest) -> Result<(InstalledBundle, Index), SlotError> {
        let dir = self.path(model, digest);
        let (bundle, index) = read_slot(&*self.disk, &dir)?;
        if bundle.digest != digest || bundle.manifest.name != *model {
            return Err(damaged(&dir, format!("{INDEX_FILE} is that of another bundle")));
        }
        Ok((bundle, index))
    }

    fn write_file(
        &self,
        digest: Digest,
        aside: &Path,
        file: &FileEntry,
        chunks: &ChunkSource<'_>,
    ) -> Result<(), SlotError> {
        let path = aside.join(&file.path);
        for dir in parents(&file.path) {
            self.disk.create_dir(&aside.join(dir))?;
        }
        let mut hash = Sha256::default();
        self.disk.write(&path, &[])?;
        for part in &file.chunks {
            let raw = chunks(part)?.filter(|raw| chunk::is_content(part, raw));
            let raw = raw.ok_or(SlotError::Missing { digest, chunk: part.stored })?;
            hash.update(&raw);
            self.disk.append(&path, &raw)?;
        }
        if hash.finish() != file.sha256 {
            let reason = format!("the chunks of {:?} do not give the file that is signed", file.path);
            return Err(SlotError::Unfit { digest, reason });
        }
        Ok(self.disk.sync_file(&path)?)
    }

    fn write_synced(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        self.disk.write(path, bytes)?;
        self.disk.sync_file(path)
    }
}

fn read_slot(disk: &dyn Disk, dir: &Path) -> Result<(InstalledBundle, Index), SlotError> {
    let bytes = disk.read(&dir.join(INDEX_FILE), Index::SIZE_BYTES_MAX as u64)?;
    let bytes = bytes.ok_or_else(|| SlotError::Absent { dir: dir.to_owned() })?;
    let index: Index = decode(&bytes).map_err(|e| damaged(dir, e))?;
    let manifest = index.manifest.clone();
    Ok((InstalledBundle { manifest, dir: dir.to_owned(), digest: sha256(&bytes) }, index))
}

fn check_files(disk: &dyn Disk, dir: &Path, index: &Index) -> Result<(), SlotError> {
    for file in &index.files {
        let path = dir.join(&file.path);
        let differs = || damaged(dir, format!("{} differs from what was installed", file.path));
        if disk.size_bytes(&path)? != Some(file.size_bytes) {
            return Err(differs());
        }
        let mut hash = Sha256::default();
        let mut offset = 0;
        while offset < file.size_bytes {
            let len = usize::try_from(file.size_bytes - offset).unwrap_or(READ_BYTES).min(READ_BYTES);
            hash.update(&disk.read_at(&path, offset, len)?);
            offset += len as u64;
        }
        if hash.finish() != file.sha256 {
            return Err(differs());
        }
    }
    Ok(())
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

//! Verified bytes on disk by their SHA-256: chunks, and the index, of bundles being fetched.
//!
//! What goes in is verified, and verified again when it comes out. So nothing needs to be synced here: bytes that a
//! power cut tore are found, removed and fetched again.

use crate::{
    disk::{Disk, DiskError, create_dirs},
    hash::sha256,
};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use whimbrel_wire::Digest;

const TEMPORARY: &str = "tmp";

/// Why bytes were not stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Their hash is another.
    #[error("store {expected}: the bytes have hash {found}")]
    Corrupt {
        /// The name they were to have.
        expected: Digest,
        /// The hash they have.
        found: Digest,
    },
    /// The disk said no.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The folder `chunks/`.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Keeps the temporary files of concurrent writers apart.
    next_temporary: AtomicU64,
}

impl Store {
    /// Opens the folder, making it when absent and clearing what an interrupted write left.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, DiskError> {
        let temporary = dir.join(TEMPORARY);
        disk.remove_dir_all(&temporary)?;
        create_dirs(&*disk, &temporary)?;
        Ok(Self { disk, dir: dir.to_owned(), next_temporary: AtomicU64::new(0) })
    }

    /// The bytes with this hash, if they are here and still have it. Damaged ones are removed.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn get(&self, digest: Digest, size_bytes_max: u64) -> Result<Option<Vec<u8>>, DiskError> {
        let path = self.path(digest);
        match self.disk.size_bytes(&path)? {
            None => return Ok(None),
            Some(size) if size > size_bytes_max => self.disk.remove_file(&path)?,
            Some(_) => match self.disk.read(&path, size_bytes_max)? {
                Some(bytes) if sha256(&bytes) == digest => return Ok(Some(bytes)),
                _ => self.disk.remove_file(&path)?,
            },
        }
        tracing::warn!(%digest, "stored bytes were damaged and are gone");
        Ok(None)
    }

    /// Keeps bytes under their hash.
    ///
    /// # Errors
    /// When they have another hash, or the disk refuses.
    pub fn put(&self, digest: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let found = sha256(bytes);
        if found != digest {
            return Err(StoreError::Corrupt { expected: digest, found });
        }
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.dir.join(TEMPORARY).join(number.to_string());
        let path = self.path(digest);
        if let Some(folder) = path.parent() {
            self.disk.create_dir(folder)?;
        }
        self.disk.write(&temporary, bytes)?;
        Ok(self.disk.rename(&temporary, &path)?)
    }

    /// Removes bytes; nothing happens when they are not here.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove(&self, digest: Digest) -> Result<(), DiskError> {
        self.disk.remove_file(&self.path(digest))
    }

    fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.dir.join(&name[..2]).join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Files;

    fn store(dir: &Path) -> Store {
        Store::open(Arc::new(Files), &dir.join("chunks")).expect("opens")
    }

    #[test]
    fn bytes_come_back_until_they_are_removed() {
        let dir = tempfile::tempdir().expect("temp dir");
        let digest = sha256(b"content");
        store(dir.path()).put(digest, b"content").expect("stores");
        let store = store(dir.path());
        assert_eq!(store.get(digest, 7).expect("reads"), Some(b"content".to_vec()));
        store.remove(digest).expect("removes");
        assert_eq!(store.get(digest, 7).expect("reads"), None);
    }

    #[test]
    fn wrong_bytes_are_refused_and_damaged_ones_removed() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = store(dir.path());
        let digest = sha256(b"content");
        assert!(matches!(store.put(digest, b"other"), Err(StoreError::Corrupt { .. })));
        for damaged in [&b"kontent"[..], b"cont", b"content and more"] {
            store.put(digest, b"content").expect("stores");
            std::fs::write(store.path(digest), damaged).expect("damages");
            assert_eq!(store.get(digest, 7).expect("reads"), None);
            assert!(!store.path(digest).exists());
        }
    }
}

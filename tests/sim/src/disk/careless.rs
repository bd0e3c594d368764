//! Disks whose user forgets something: the simulator must notice each.

use super::SimDisk;
use std::{ffi::OsString, path::Path};
use whimbrel_updater::disk::{Disk, DiskError};

/// What is forgotten, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carelessness {
    /// What.
    pub forgotten: Forgotten,
    /// In paths with this in them; everywhere when empty.
    pub within: &'static str,
}

/// What is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// To sync files.
    FileSync,
    /// To sync folders.
    FolderSync,
    /// To rename a file into place: it is written over.
    AtomicReplace,
}

/// A disk on which something is forgotten.
#[derive(Debug, Clone)]
pub struct Careless {
    /// The disk behind it.
    pub disk: SimDisk,
    /// What is forgotten on it.
    pub carelessness: Carelessness,
}

impl Careless {
    fn forgets(&self, what: Forgotten, path: &Path) -> bool {
        let Carelessness { forgotten, within } = self.carelessness;
        forgotten == what && path.to_string_lossy().contains(within)
    }
}

impl Disk for Careless {
    fn read(&self, path: &Path, size_bytes_max: u64) -> Result<Option<Vec<u8>>, DiskError> {
        self.disk.read(path, size_bytes_max)
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        self.disk.read_at(path, offset, len)
    }

    fn size_bytes(&self, path: &Path) -> Result<Option<u64>, DiskError> {
        self.disk.size_bytes(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<OsString>, DiskError> {
        self.disk.list(dir)
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64, DiskError> {
        self.disk.free_bytes(dir)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        self.disk.write(path, bytes)
    }

    fn set_len(&self, path: &Path, len: u64) -> Result<(), DiskError> {
        self.disk.set_len(path, len)
    }

    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.disk.write_at(path, offset, bytes)
    }

    fn sync_file(&self, path: &Path) -> Result<(), DiskError> {
        if self.forgets(Forgotten::FileSync, path) { Ok(()) } else { self.disk.sync_file(path) }
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        if self.forgets(Forgotten::FolderSync, dir) { Ok(()) } else { self.disk.sync_dir(dir) }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let in_place = self.forgets(Forgotten::AtomicReplace, to);
        // A folder has no other way into place.
        let bytes = in_place.then(|| self.disk.read(from, u64::MAX).ok().flatten()).flatten();
        let Some(bytes) = bytes else { return self.disk.rename(from, to) };
        self.disk.write(to, &bytes)?;
        self.disk.sync_file(to)?;
        self.disk.remove_file(from)
    }

    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.disk.create_dir(dir)
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> Result<(), DiskError> {
        self.disk.remove_dir_all(dir)
    }
}

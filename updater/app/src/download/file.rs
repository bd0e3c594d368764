//! A target as a file.

use anyhow::Result;
use std::path::{Path, PathBuf};
use whimbrel_updater::{
    disk::{Disk as _, DiskError, Files},
    transport::Sink,
    tuf::{Target, TargetChecker},
};

/// Most of a file that is read at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// Whether the folder has the target under this name already. What cannot be read is not it.
pub(super) fn holds(dir: &Path, name: &str, target: &Target) -> bool {
    let path = dir.join(name);
    let mut checker = target.checker();
    if !Files.size_bytes(&path).is_ok_and(|size| size == Some(target.length_bytes)) {
        return false;
    }
    while checker.bytes() < target.length_bytes {
        let piece_bytes = (target.length_bytes - checker.bytes()).min(PIECE_BYTES);
        let piece_bytes = usize::try_from(piece_bytes).unwrap_or_default();
        match Files.read_at(&path, checker.bytes(), piece_bytes) {
            Ok(piece) => checker.update(&piece),
            Err(_) => return false,
        }
    }
    checker.finish().is_ok()
}

/// A target on its way into a folder. Unless it is finished nothing of it stays there.
#[derive(Debug)]
pub(super) struct Download<'a> {
    dir: &'a Path,
    path: PathBuf,
    /// Where the bytes are until they are checked.
    temporary: PathBuf,
    /// How long that file is, ahead of what is in it.
    reserved_bytes: u64,
    target: &'a Target,
    checker: TargetChecker<'a>,
}

impl<'a> Download<'a> {
    /// Begins with an empty file, in place of what a process that was killed left.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn begin(dir: &'a Path, name: &str, target: &'a Target) -> Result<Self, DiskError> {
        // A plus sign is in no target's file name (see `file_stem`): what is put aside is never another target.
        let temporary = dir.join(format!(".{name}+new"));
        Files.remove_file(&temporary)?;
        Files.set_len(&temporary, 0)?;
        let (path, checker) = (dir.join(name), target.checker());
        Ok(Self { dir, path, temporary, reserved_bytes: 0, target, checker })
    }

    fn reserve(&mut self, size_bytes: u64) -> Result<(), DiskError> {
        if size_bytes > self.reserved_bytes {
            Files.set_len(&self.temporary, size_bytes)?;
            self.reserved_bytes = size_bytes;
        }
        Ok(())
    }

    /// Checks the whole and puts it in its place, durably.
    ///
    /// # Errors
    /// When it is not the target, or the disk refuses.
    pub(super) fn finish(self) -> Result<()> {
        self.checker.clone().finish()?;
        Files.sync_file(&self.temporary)?;
        Files.rename(&self.temporary, &self.path)?;
        Ok(Files.sync_dir(self.dir)?)
    }
}

impl Sink for Download<'_> {
    type Error = DiskError;

    fn has_bytes(&self) -> u64 {
        self.checker.bytes()
    }

    /// Takes the space, so that a full disk shows before the bytes have moved.
    fn expect(&mut self, more_bytes: u64) -> Result<(), DiskError> {
        self.reserve(self.has_bytes().saturating_add(more_bytes))
    }

    fn add(&mut self, part: &[u8]) -> Result<(), DiskError> {
        self.reserve(self.has_bytes().saturating_add(part.len() as u64))?;
        Files.write_at(&self.temporary, self.has_bytes(), part)?;
        self.checker.update(part);
        Ok(())
    }

    /// What is written over is as good as gone.
    fn clear(&mut self) {
        self.checker = self.target.checker();
    }
}

impl Drop for Download<'_> {
    fn drop(&mut self) {
        // After the end it has another name. One that cannot be removed is replaced by the next download of the target.
        let _ = Files.remove_file(&self.temporary);
    }
}

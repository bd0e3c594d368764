//! What a process may do with the disk.

use super::{
    BLOCK_BYTES, SimDisk, State,
    tree::{Folder, Node, Tree},
};
use std::{ffi::OsString, io, path::Path};
use whimbrel_updater::disk::{Disk, DiskError};

impl Disk for SimDisk {
    fn read(&self, path: &Path, size_bytes_max: u64) -> Result<Option<Vec<u8>>, DiskError> {
        self.look("read", path, |tree| {
            let Some(id) = tree.find(path) else { return Ok(None) };
            let bytes = &tree.file(id)?.live;
            if bytes.len() as u64 > size_bytes_max {
                let reason = format!("longer than the {size_bytes_max} bytes accepted");
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            Ok(Some(bytes.clone()))
        })
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        self.look("read", path, |tree| {
            let id = tree.find(path).ok_or(io::ErrorKind::NotFound)?;
            let begin = usize::try_from(offset).unwrap_or(usize::MAX);
            let bytes = tree.file(id)?.live.get(begin..begin.saturating_add(len));
            Ok(bytes.ok_or(io::ErrorKind::UnexpectedEof)?.to_vec())
        })
    }

    fn size_bytes(&self, path: &Path) -> Result<Option<u64>, DiskError> {
        self.look("look at", path, |tree| {
            Ok(tree.find(path).map(|id| match &tree.nodes[id] {
                Node::File(content) => content.live.len() as u64,
                Node::Folder(_) => BLOCK_BYTES,
            }))
        })
    }

    fn list(&self, dir: &Path) -> Result<Vec<OsString>, DiskError> {
        self.look("list", dir, |tree| match tree.find(dir) {
            Some(id) => Ok(tree.folder(id)?.live.keys().cloned().collect()),
            None => Ok(Vec::new()),
        })
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64, DiskError> {
        self.look("ask for free space in", dir, |_| Ok(()))?;
        Ok(self.lock().free_bytes())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let write = |state: &mut State| {
            let id = state.open_or_create(path)?;
            state.tree.file_mut(id)?.truncate(0);
            state.fill(id, 0, bytes)
        };
        self.operate("write", path, |_| true, write)
    }

    fn set_len(&self, path: &Path, len: u64) -> Result<(), DiskError> {
        let set = |state: &mut State| {
            let id = state.open_or_create(path)?;
            let (len, old) = (usize::try_from(len).unwrap_or(usize::MAX), state.tree.file(id)?.live.len());
            if len <= old {
                state.tree.file_mut(id)?.truncate(len);
                return Ok(());
            }
            // Reserved whole or not at all.
            if len - old > state.room_bytes(id)?.saturating_sub(old) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.fill(id, old, &vec![0; len - old])
        };
        self.operate("set the length of", path, |_| true, set)
    }

    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let write = |state: &mut State| {
            let id = state.tree.find(path).ok_or(io::ErrorKind::NotFound)?;
            state.fill(id, usize::try_from(offset).unwrap_or(usize::MAX), bytes)
        };
        self.operate("write", path, |_| true, write)
    }

    fn sync_file(&self, path: &Path) -> Result<(), DiskError> {
        let sync = |state: &mut State| {
            let id = state.tree.find(path).ok_or(io::ErrorKind::NotFound)?;
            state.tree.file_mut(id)?.sync();
            Ok(())
        };
        let is_needed = |tree: &Tree| match tree.find(path) {
            Some(id) => tree.file(id).map_or(true, |content| !content.is_synced()),
            None => true,
        };
        self.sync("sync", path, is_needed, sync)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let sync = |state: &mut State| {
            let id = state.tree.find(dir).ok_or(io::ErrorKind::NotFound)?;
            state.tree.folder(id)?;
            state.tree.sync_folder(id);
            Ok(())
        };
        let is_needed = |tree: &Tree| tree.find(dir).is_none_or(|id| tree.has_changes_in(id));
        self.sync("sync", dir, is_needed, sync)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.operate("rename into place", to, |_| true, |state| state.tree.rename(from, to))
    }

    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let existing = self.look("create", dir, |tree| Ok(tree.find(dir)))?;
        if existing.is_some() {
            return Ok(());
        }
        let create = |state: &mut State| {
            if state.free_bytes() < BLOCK_BYTES {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.tree.create(dir, Node::Folder(Folder::default())).map(|_| ())
        };
        self.operate("create", dir, |_| true, create)
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        let remove = |state: &mut State| {
            if let Some(id) = state.tree.find(path) {
                state.tree.file(id)?;
            }
            state.tree.unlink(path)
        };
        self.operate("remove", path, |tree| tree.find(path).is_some(), remove)
    }

    fn remove_dir_all(&self, dir: &Path) -> Result<(), DiskError> {
        if self.size_bytes(dir)?.is_none() {
            return Ok(());
        }
        self.operate("remove", dir, |_| true, |state| state.tree.remove_all(dir))
    }
}

impl SimDisk {
    /// As [`SimDisk::operate`], but allowed on a read-only disk when there is nothing to sync.
    fn sync(
        &self,
        attempted: &'static str,
        path: &Path,
        is_needed: impl Fn(&Tree) -> bool,
        sync: impl FnOnce(&mut State) -> io::Result<()>,
    ) -> Result<(), DiskError> {
        if !self.look(attempted, path, |tree| Ok(is_needed(tree)))? {
            return Ok(());
        }
        self.operate(attempted, path, |_| true, sync)
    }
}

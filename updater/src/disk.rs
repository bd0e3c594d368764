//! The only place that writes files.
//!
//! Everything durable goes through [`Disk`], so that a simulator can stand in for it and cut the power at any call.
//! A write is durable only after [`Disk::sync_file`], a created, renamed or removed name only after [`Disk::sync_dir`] of its
//! folder; [`write_atomically`] does both.

use fs2::FileExt as _;
use std::{
    ffi::OsString,
    fmt::Debug,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// A file or folder that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{attempted} {}: {source}", path.display())]
pub struct DiskError {
    /// What was attempted, as a verb.
    pub attempted: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

/// What the updater needs of a file system.
pub trait Disk: Debug + Send + Sync {
    /// The whole file; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is longer than `size_bytes_max`.
    fn read(&self, path: &Path, size_bytes_max: u64) -> Result<Option<Vec<u8>>, DiskError>;

    /// Exactly `len` bytes from `offset`.
    ///
    /// # Errors
    /// When the file is absent, shorter, or cannot be read.
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>, DiskError>;

    /// The size of a file or folder; `None` when there is none.
    ///
    /// # Errors
    /// When that cannot be told.
    fn size_bytes(&self, path: &Path) -> Result<Option<u64>, DiskError>;

    /// Names in a folder, sorted; none when the folder is absent.
    ///
    /// # Errors
    /// When the folder cannot be read.
    fn list(&self, dir: &Path) -> Result<Vec<OsString>, DiskError>;

    /// Bytes that may still be written below `dir`.
    ///
    /// # Errors
    /// When that cannot be told.
    fn free_bytes(&self, dir: &Path) -> Result<u64, DiskError>;

    /// Makes the file hold `bytes`; not durable yet.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError>;

    /// Makes the file, which is created when absent, `len` bytes long: cut, or followed by zeros. Where the file system can, the
    /// space is reserved, so that a full disk shows here and not at a later write. Not durable yet: after a power
    /// cut the file may be absent, or have the old or the new length.
    ///
    /// # Errors
    /// When the disk refuses.
    fn set_len(&self, path: &Path, len: u64) -> Result<(), DiskError>;

    /// Replaces the bytes from `offset` of a file that is there and long enough. Several threads may write different parts of one file
    /// at the same time. Not durable before [`Disk::sync_file`]: after a power cut each block that was written since may
    /// hold the old bytes, the new ones or zeros, whatever the order of the writes. A process that ends, even by
    /// SIGKILL, loses nothing that this returned for.
    ///
    /// # Errors
    /// When the file is absent, or the disk refuses.
    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Makes the content of a file durable.
    ///
    /// # Errors
    /// When the disk refuses.
    fn sync_file(&self, path: &Path) -> Result<(), DiskError>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// When the disk refuses.
    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError>;

    /// Moves a file or folder; a file replaces a file of the new name in one step.
    ///
    /// # Errors
    /// When the disk refuses.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Creates one folder in an existing one; nothing happens when it is there.
    ///
    /// # Errors
    /// When the disk refuses.
    fn create_dir(&self, dir: &Path) -> Result<(), DiskError>;

    /// Removes a file; nothing happens when it is absent.
    ///
    /// # Errors
    /// When the disk refuses.
    fn remove_file(&self, path: &Path) -> Result<(), DiskError>;

    /// Removes a folder and all in it; nothing happens when it is absent.
    ///
    /// # Errors
    /// When the disk refuses.
    fn remove_dir_all(&self, dir: &Path) -> Result<(), DiskError>;
}

/// Puts `bytes` under `path` so that after a power cut the file holds either all of them or what it held before.
///
/// # Errors
/// When any step fails; the old content is then still there.
pub fn write_atomically(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let parent = parent(path);
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    let temporary = parent.join(name);
    disk.write(&temporary, bytes)?;
    disk.sync_file(&temporary)?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(parent)
}

/// Creates a folder and the ones above it, durably.
///
/// # Errors
/// When the disk refuses.
pub fn create_dirs(disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
    if disk.size_bytes(dir)?.is_some() {
        return Ok(());
    }
    let parent = parent(dir);
    create_dirs(disk, parent)?;
    disk.create_dir(dir)?;
    disk.sync_dir(parent)
}

/// The folder that a name is in; `.` for a bare name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ if path.has_root() => Path::new("/"),
        _ => Path::new("."),
    }
}

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files;

impl Disk for Files {
    fn read(&self, path: &Path, size_bytes_max: u64) -> Result<Option<Vec<u8>>, DiskError> {
        let fail = |source| DiskError { attempted: "read", path: path.to_owned(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fail(e)),
        };
        // The size is a hint only; what is read is bounded below.
        let expected_bytes = file.metadata().map_or(0, |m| m.len()).min(size_bytes_max);
        let mut bytes = Vec::with_capacity(usize::try_from(expected_bytes).unwrap_or_default());
        file.take(size_bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(fail)?;
        if bytes.len() as u64 > size_bytes_max {
            let reason = format!("longer than the {size_bytes_max} bytes accepted");
            return Err(fail(io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        Ok(Some(bytes))
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let read = || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = vec![0; len];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        wrap("read", path, read())
    }

    fn size_bytes(&self, path: &Path) -> Result<Option<u64>, DiskError> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => wrap("look at", path, Err(e)),
        }
    }

    fn list(&self, dir: &Path) -> Result<Vec<OsString>, DiskError> {
        let list = || {
            let mut names = Vec::new();
            for entry in fs::read_dir(dir)? {
                names.push(entry?.file_name());
            }
            names.sort();
            Ok(names)
        };
        match list() {
            Err(e) if io::Error::kind(&e) == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => wrap("list", dir, other),
        }
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64, DiskError> {
        wrap("ask for free space in", dir, fs2::available_space(dir))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        wrap("write", path, fs::write(path, bytes))
    }

    fn set_len(&self, path: &Path, len: u64) -> Result<(), DiskError> {
        let set = || {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
            // Not every file system can reserve space; there a full disk shows at the first write that finds none.
            match if len > 0 { file.allocate(len) } else { Ok(()) } {
                Err(e) if e.kind() == io::ErrorKind::StorageFull => Err(e),
                _ => file.set_len(len),
            }
        };
        wrap("set the length of", path, set())
    }

    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let write = || {
            let mut file = OpenOptions::new().write(true).open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(bytes)
        };
        wrap("write", path, write())
    }

    fn sync_file(&self, path: &Path) -> Result<(), DiskError> {
        wrap("sync", path, File::open(path).and_then(|f| f.sync_all()))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        wrap("sync", dir, File::open(dir).and_then(|f| f.sync_all()))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        wrap("rename into place", to, fs::rename(from, to))
    }

    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        match fs::create_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => wrap("create", dir, other),
        }
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        match fs::remove_file(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => wrap("remove", path, other),
        }
    }

    fn remove_dir_all(&self, dir: &Path) -> Result<(), DiskError> {
        match fs::remove_dir_all(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => wrap("remove", dir, other),
        }
    }
}

fn wrap<T>(attempted: &'static str, path: &Path, result: io::Result<T>) -> Result<T, DiskError> {
    result.map_err(|source| DiskError { attempted, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_atomic_write_replaces_the_content_and_leaves_no_other_file() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("a");
        write_atomically(&Files, &path, b"one").expect("writes");
        write_atomically(&Files, &path, b"two").expect("writes");
        assert_eq!(Files.read(&path, 3).expect("reads"), Some(b"two".to_vec()));
        assert_eq!(Files.list(dir.path()).expect("lists"), ["a"]);
    }

    #[test]
    fn absent_is_none_but_too_long_is_an_error() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("a");
        assert_eq!(Files.read(&path, 3).expect("reads"), None);
        Files.write(&path, b"four").expect("writes");
        assert!(Files.read(&path, 3).is_err());
        assert!(Files.read_at(&path, 2, 3).is_err());
        assert_eq!(Files.read_at(&path, 1, 3).expect("reads"), b"our");
    }

    #[test]
    fn parts_are_written_in_any_order_into_a_file_of_set_length() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("a");
        assert!(Files.write_at(&path, 0, b"x").is_err(), "there is no such file");
        Files.set_len(&path, 6).expect("creates");
        Files.write_at(&path, 4, b"ef").expect("writes");
        Files.write_at(&path, 0, b"ab").expect("writes");
        assert_eq!(Files.read(&path, 6).expect("reads"), Some(b"ab\0\0ef".to_vec()));
        Files.set_len(&path, 2).expect("cuts");
        assert_eq!(Files.read(&path, 6).expect("reads"), Some(b"ab".to_vec()));
        Files.set_len(&path, 0).expect("empties");
        assert_eq!(Files.size_bytes(&path).expect("looks"), Some(0));
    }

    #[test]
    fn folders_are_made_with_those_above_and_removed_with_those_below() {
        let dir = tempfile::tempdir().expect("temp dir");
        let deep = dir.path().join("a/b/c");
        create_dirs(&Files, &deep).expect("creates");
        create_dirs(&Files, &deep).expect("again");
        assert!(deep.is_dir());
        Files.remove_dir_all(&dir.path().join("a")).expect("removes");
        Files.remove_dir_all(&dir.path().join("a")).expect("again");
        assert!(Files.list(&deep).expect("lists").is_empty());
    }
}

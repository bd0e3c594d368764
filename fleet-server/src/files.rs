//! Files that must be whole after a power cut, and files that nobody else may read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Why a file of the state folder could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path}")]
pub(crate) struct FileError {
    doing: &'static str,
    path: String,
    source: io::Error,
}

impl FileError {
    pub(crate) fn new(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self { doing, path: path.display().to_string(), source }
    }
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readable {
    /// Anyone.
    ByAll,
    /// Only the user that runs the server.
    ByOwner,
}

/// Writes a file so that a reader sees the old bytes or the new, never a part: temporary file, fsync, rename, fsync of the
/// folder.
///
/// # Errors
/// The disk is full, or the folder is not ours.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], readable: Readable) -> Result<(), FileError> {
    let fail = |e| FileError::new("write", path, e);
    let temporary = temporary_name(path).map_err(fail)?;
    let written = write_new(&temporary, bytes, readable).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(fail(error));
    }
    sync_folder(path).map_err(fail)
}

/// Reads a file that must be private.
///
/// # Errors
/// It is absent, or others may read it: then it may be known already, and going on would hide that.
pub(crate) fn read_private(path: &Path) -> Result<Vec<u8>, FileError> {
    let fail = |e| FileError::new("read", path, e);
    let mode = fs::metadata(path).map_err(fail)?.permissions().mode();
    if mode & 0o077 != 0 {
        let why =
            format!("others may read it (mode {:o}); set mode 600 after making sure of it", mode & 0o777);
        return Err(fail(io::Error::new(io::ErrorKind::PermissionDenied, why)));
    }
    fs::read(path).map_err(fail)
}

/// Makes a folder that only the server's user may enter.
///
/// # Errors
/// The folder above is not ours.
pub(crate) fn private_folder(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| FileError::new("make the folder", path, e))
}

/// In the same folder, with a random part, so that two writers never share one.
fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(path.with_file_name(format!(".{name}.{}", hex::encode(random))))
}

fn write_new(path: &Path, bytes: &[u8], readable: Readable) -> io::Result<()> {
    let mode = if readable == Readable::ByOwner { 0o600 } else { 0o644 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_file_is_refused_once_others_may_read_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("key");
        write_whole(&path, b"secret", Readable::ByOwner).expect("written");
        assert_eq!(read_private(&path).expect("read"), b"secret");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(read_private(&path).is_err());
    }

    #[test]
    fn nothing_is_left_behind_by_a_failed_write() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("occupied");
        fs::create_dir(&path).expect("folder");
        fs::write(path.join("x"), b"x").expect("file");
        assert!(write_whole(&path, b"new", Readable::ByAll).is_err());
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
    }
}

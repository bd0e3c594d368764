//! Reading operators' files with limits, and writing them so that a crash leaves the old or the new one.

use crate::error::Failure;
use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// Largest text file that a command reads: metadata, certificates, tokens.
pub(crate) const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads a whole file of at most `size_bytes_max`.
///
/// # Errors
/// Bad input when it is absent, unreadable or longer.
pub(crate) fn read(path: &Path, size_bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let attempted = || format!("reading {}", path.display());
    let file = fs::File::open(path).map_err(|e| Failure::usage(attempted(), e))?;
    let mut bytes = Vec::new();
    file.take(size_bytes_max + 1).read_to_end(&mut bytes).map_err(|e| Failure::usage(attempted(), e))?;
    if bytes.len() as u64 > size_bytes_max {
        return Err(Failure::usage(attempted(), format!("more than {size_bytes_max} bytes")));
    }
    Ok(bytes)
}

/// Puts `bytes` at `path`: written beside it, synced, renamed.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    put(folder, path, bytes).map_err(|e| Failure::failed(format!("writing {}", path.display()), e))
}

fn put(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // Nothing secret is written here; the process's mask has the last word.
    let mode = fs::Permissions::from_mode(0o666);
    let mut temporary = tempfile::Builder::new().permissions(mode).tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|e| e.error)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    #[test]
    fn a_file_beyond_its_limit_is_bad_input() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("x");
        write(&path, b"12345").expect("writes");
        assert_eq!(read(&path, 5).expect("reads"), b"12345");
        assert_eq!(read(&path, 4).expect_err("too long").exit, Exit::Usage);
        assert_eq!(read(&dir.path().join("absent"), 4).expect_err("absent").exit, Exit::Usage);
    }
}

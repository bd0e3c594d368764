//! Binding, and the Unix socket's file.

use std::{
    fs::{self, Permissions},
    io::{self, ErrorKind},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};
use tokio::net::UnixListener;

/// The file of a bound Unix socket; removed when dropped, unless another process has put its own there since.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|m| m.file_type().is_socket() && (m.dev(), m.ino()) == (self.device, self.inode));
        if is_ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds a Unix socket with mode 0660, in place of one that nobody listens on any more.
///
/// # Errors
/// Something else than a socket is there, somebody listens on it, or the folder cannot be written.
pub(crate) fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    refuse_occupied(path)?;
    // Made under another name first, so that nobody can connect before the mode is set, and renamed over what a
    // killed process may have left.
    let new = with_suffix(path);
    refuse_occupied(&new)?;
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    let metadata = fs::set_permissions(&new, Permissions::from_mode(0o660))
        .and_then(|()| fs::symlink_metadata(&new))
        .and_then(|metadata| fs::rename(&new, path).map(|()| metadata));
    match metadata {
        Ok(m) => Ok((listener, SocketFile { path: path.to_owned(), device: m.dev(), inode: m.ino() })),
        Err(error) => {
            let _ = fs::remove_file(&new);
            Err(error)
        }
    }
}

fn with_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

/// Fails where the path is in use: by a file of another kind, or by a live listener.
fn refuse_occupied(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(io::Error::new(ErrorKind::AlreadyExists, "a file that is no socket is there; remove it"))
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
                Ok(())
            }
            Err(error) => Err(error),
            Ok(_) => {
                Err(io::Error::new(ErrorKind::AddrInUse, "another process listens on it; stop it first"))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_a_killed_process_left_is_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("agent.sock");
        // The standard library leaves the file behind.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(path.exists());
        let (_listener, file) = bind_unix(&path).expect("replaced");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o660);
        UnixStream::connect(&path).expect("somebody listens");
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_live_socket_and_other_files_are_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("agent.sock");
        let (_listener, _file) = bind_unix(&path).expect("bound");
        assert_eq!(bind_unix(&path).expect_err("in use").kind(), ErrorKind::AddrInUse);
        let file = dir.path().join("file");
        fs::write(&file, "precious").expect("written");
        assert_eq!(bind_unix(&file).expect_err("a file").kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).expect("there"), b"precious");
    }

    #[tokio::test]
    async fn another_process_socket_is_not_removed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("agent.sock");
        let (listener, file) = bind_unix(&path).expect("bound");
        drop(listener);
        let (_other, _other_file) = bind_unix(&path).expect("replaced");
        drop(file);
        assert!(path.exists());
    }
}

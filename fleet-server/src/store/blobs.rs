//! Chunks and targets: files named by the hash of their bytes, in a local folder.

use super::StoreError;
use crate::files::{FileError, Readable, private_folder, write_whole};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};
use whimbrel_wire::Digest;

/// Why a file was not taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    /// The bytes are not what their name says.
    #[error("the bytes have the SHA-256 {found}")]
    OtherHash {
        /// What they have.
        found: Digest,
    },
    /// The disk refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Some bytes of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where they begin.
    pub(crate) offset: u64,
    /// Size of the whole file.
    pub(crate) total_bytes: u64,
    /// The bytes.
    pub(crate) bytes: bytes::Bytes,
}

/// One folder of files named by their hash.
#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    dir: PathBuf,
}

impl Blobs {
    /// Opens or makes the folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        private_folder(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Keeps bytes under their hash; those that are there already are left alone.
    ///
    /// # Errors
    /// [`BlobError::OtherHash`] when `name` is not their hash.
    pub(crate) async fn put(&self, name: Digest, bytes: bytes::Bytes) -> Result<(), BlobError> {
        let path = self.path(&name);
        blocking(move || {
            let found = Digest::new(Sha256::digest(&bytes).into());
            if found != name {
                return Err(BlobError::OtherHash { found });
            }
            if path.exists() {
                return Ok(());
            }
            let folder = path.parent().unwrap_or(&path);
            private_folder(folder).map_err(StoreError::from)?;
            write_whole(&path, &bytes, Readable::ByAll).map_err(StoreError::from)?;
            Ok(())
        })
        .await
        .unwrap_or_else(|e| Err(StoreError::from(FileError::new("write into", &self.dir, e)).into()))
    }

    /// The bytes of a hash; `None` when they are not here.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) async fn get(&self, name: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(name);
        match tokio::fs::read(&path).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(FileError::new("read", &path, e).into()),
        }
    }

    /// At most `len_max` bytes of a hash's file, from `offset`, or from the beginning where the file has no such place; `None`
    /// when it is not here.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) async fn piece(
        &self,
        name: &Digest,
        offset: u64,
        len_max: usize,
    ) -> Result<Option<Piece>, StoreError> {
        let path = self.path(name);
        let read = blocking({
            let path = path.clone();
            move || read_piece(&path, offset, len_max)
        });
        match read.await.flatten() {
            Ok(piece) => Ok(Some(piece)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(FileError::new("read", &path, e).into()),
        }
    }

    /// Those of `names` that are not here.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) async fn missing(&self, names: Vec<Digest>) -> Result<Vec<Digest>, StoreError> {
        let paths: Vec<(Digest, PathBuf)> = names.into_iter().map(|n| (n, self.path(&n))).collect();
        let look =
            move || paths.into_iter().filter(|(_, path)| !path.exists()).map(|(name, _)| name).collect();
        blocking(look).await.map_err(|e| FileError::new("look into", &self.dir, e).into())
    }

    fn path(&self, name: &Digest) -> PathBuf {
        let name = name.to_string();
        self.dir.join(&name[..2]).join(&name)
    }
}

fn read_piece(path: &Path, offset: u64, len_max: usize) -> io::Result<Piece> {
    let mut file = File::open(path)?;
    let total_bytes = file.metadata()?.len();
    let offset = if offset < total_bytes { offset } else { 0 };
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(len_max as u64).read_to_end(&mut bytes)?;
    Ok(Piece { offset, total_bytes, bytes: bytes.into() })
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(f).await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_bytes_with_the_right_hash_are_kept() {
        let dir = tempfile::tempdir().expect("temp dir");
        let blobs = Blobs::open(&dir.path().join("chunks")).expect("opened");
        let name = Digest::new(Sha256::digest(b"bytes").into());
        let wrong = blobs.put(name, bytes::Bytes::from_static(b"other")).await;
        assert!(matches!(wrong, Err(BlobError::OtherHash { .. })));
        assert_eq!(blobs.get(&name).await.expect("read"), None);
        blobs.put(name, bytes::Bytes::from_static(b"bytes")).await.expect("kept");
        blobs.put(name, bytes::Bytes::from_static(b"bytes")).await.expect("kept again");
        assert_eq!(blobs.get(&name).await.expect("read").as_deref(), Some(&b"bytes"[..]));
        let piece = |offset| blobs.piece(&name, offset, 3);
        let of = |offset, bytes: &'static [u8]| Piece { offset, total_bytes: 5, bytes: bytes.into() };
        assert_eq!(piece(0).await.expect("read"), Some(of(0, b"byt")));
        assert_eq!(piece(3).await.expect("read"), Some(of(3, b"es")));
        assert_eq!(piece(5).await.expect("read"), Some(of(0, b"byt")), "there is no such place");
        let other = Digest::new([7; 32]);
        assert_eq!(blobs.piece(&other, 0, 3).await.expect("read"), None);
        assert_eq!(blobs.missing(vec![name, other]).await.expect("looked"), vec![other]);
    }
}

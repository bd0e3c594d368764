//! A `.wbundle` read by its parts: what is in it is noted, and read when it is asked for. Nothing larger than one part is held.
//!
//! It is a [`Transport`]: an offline bundle goes through the same verification, the same machine and the same probation as one
//! from a server.

use super::{
    contents::{Contents, Part},
    file::ReadError,
};
use crate::{
    transport::{Transport, TransportError},
    tuf::Source,
};
use bytes::Bytes;
use std::{
    fs::File,
    path::{Path, PathBuf},
};
use whimbrel_wire::{
    Digest,
    index::{Index, target_path},
};

/// A `.wbundle` on disk.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    contents: Contents,
}

impl Archive {
    /// Notes what is in the file, see [`Contents::read`].
    ///
    /// # Errors
    /// When it is not of the form.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Ok(Self { path: path.to_owned(), contents: Contents::read(File::open(path)?)? })
    }

    /// The index. Nothing says yet that it is signed.
    #[must_use]
    pub fn index(&self) -> &Index {
        self.contents.index().index()
    }

    /// The name under which it is signed.
    #[must_use]
    pub fn target_path(&self) -> String {
        target_path(&self.index().manifest)
    }

    /// Reads a part on another thread, within a limit.
    async fn part(
        &self,
        what: String,
        part: Option<Part>,
        size_bytes_max: u64,
    ) -> Result<Bytes, TransportError> {
        let Some(part) = part else { return Err(TransportError::NotFound { what }) };
        if part.bytes() > size_bytes_max {
            return Err(TransportError::TooLarge { what, size_bytes_max });
        }
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || part.read(File::open(path)?)).await;
        match read.map_err(std::io::Error::other).and_then(|read| read) {
            Ok(bytes) => Ok(bytes.into()),
            Err(e) => Err(TransportError::Refused { what, why: e.to_string() }),
        }
    }
}

impl Source for Archive {
    async fn metadata(&self, file: &str, size_bytes_max: u64) -> Result<Option<Bytes>, TransportError> {
        match self.contents.metadata().get(file) {
            None => Ok(None),
            part => self.part(file.to_owned(), part.copied(), size_bytes_max).await.map(Some),
        }
    }
}

impl Transport for Archive {
    async fn target(&self, file: &str, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        let plain = self.target_path();
        let (dir, name) = plain.split_once('/').unwrap_or(("", &plain));
        let hashed = format!("{dir}/{}.{name}", self.contents.index().digest());
        let part = (file == plain || file == hashed).then(|| self.contents.index_part());
        self.part(file.to_owned(), part, size_bytes_max).await
    }

    async fn chunk(&self, stored: Digest, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        let part = self.contents.chunks().get(&stored).copied();
        self.part(format!("chunk {stored}"), part, size_bytes_max).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bundle::{Packed, chunk::STORED_BYTES_MAX},
        hash::sha256,
        testing::{NOW, Repo, noise, pack},
        tuf::Trust,
    };

    fn file(dir: &Path, packed: &Packed) -> PathBuf {
        let path = dir.join("m.wbundle");
        packed.write(File::create(&path).expect("creates")).expect("writes");
        path
    }

    #[tokio::test]
    async fn every_part_comes_back_and_the_metadata_is_trusted() {
        let mut repo = Repo::new();
        let mut packed = pack("m", "1.0.0", &noise(1, 300_000), "");
        repo.release(&packed);
        packed.metadata = repo.server.lock().metadata.clone();
        let dir = tempfile::tempdir().expect("temp dir");
        let archive = Archive::open(&file(dir.path(), &packed)).expect("opens");
        assert_eq!(archive.index(), packed.index());
        for (stored, bytes) in packed.chunks() {
            assert_eq!(archive.chunk(*stored, STORED_BYTES_MAX).await.expect("reads"), bytes);
        }
        let trust = dir.path().join("trust");
        let mut trust = Trust::init(&trust, &repo.root).expect("a good root");
        trust.refresh(&archive, NOW).await.expect("trusted");
        let target = trust.find("m/1.0.0.wbi", &archive, NOW).await.expect("trusted").expect("is there");
        let index = archive.target(&target.file(), target.length_bytes).await.expect("reads");
        target.check(&index).expect("the signed one");
        let absent = archive.target("m/2.0.0.wbi", 1000).await;
        assert!(matches!(absent, Err(TransportError::NotFound { .. })));
        let short = archive.target("m/1.0.0.wbi", 10).await;
        assert!(matches!(short, Err(TransportError::TooLarge { .. })));
    }

    #[test]
    fn truncated_and_foreign_archives_are_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let packed = pack("m", "1.0.0", b"model", "");
        let path = file(dir.path(), &packed);
        let bytes = std::fs::read(&path).expect("reads");
        for end in [0, 100, 600] {
            std::fs::write(&path, &bytes[..end]).expect("writes");
            assert!(Archive::open(&path).is_err(), "{end}");
        }
        std::fs::write(&path, b"not a tar").expect("writes");
        assert!(Archive::open(&path).is_err());
        let digest = sha256(b"x");
        let mut tar = tar::Builder::new(File::create(&path).expect("creates"));
        let mut header = tar::Header::new_ustar();
        header.set_size(1);
        tar.append_data(&mut header, format!("chunks/{digest}"), &b"x"[..]).expect("writes");
        drop(tar.into_inner());
        assert!(Archive::open(&path).is_err(), "the index is not first");
    }
}

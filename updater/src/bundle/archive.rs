//! A `.wbundle` read by its parts: what is in it is noted, and read when it is asked for. Nothing larger than one part is held.
//!
//! It is a [`Transport`]: an offline bundle goes through the same verification, the same machine and the same probation as one
//! from a server.

use super::{
    chunk::STORED_BYTES_MAX,
    file::{CHUNKS, INDEX_NAME, METADATA, METADATA_BYTES_MAX, METADATA_FILES_MAX, ReadError, bad},
};
use crate::{
    slots::SignedIndex,
    transport::{Transport, TransportError},
    tuf::Source,
};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};
use whimbrel_wire::{
    Digest, Message as _,
    index::{Index, target_path},
};

/// A `.wbundle` on disk.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    index: SignedIndex,
    /// Where the index, the chunks and the metadata lie.
    index_part: Part,
    chunks: BTreeMap<Digest, Part>,
    metadata: BTreeMap<String, Part>,
}

/// A stretch of the file.
#[derive(Debug, Clone, Copy)]
struct Part {
    offset: u64,
    bytes: u64,
}

impl Archive {
    /// Notes what is in the file, within the limits of each part: the index first, then nothing but chunks of it and metadata. Chunks
    /// may be missing, for a device that has them already.
    ///
    /// # Errors
    /// When it is not of the form.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let mut tar = tar::Archive::new(File::open(path)?);
        let (mut index, mut chunks, mut metadata) = (None, BTreeMap::new(), BTreeMap::new());
        for entry in tar.entries_with_seek()? {
            let entry = entry?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if !entry.header().entry_type().is_file() {
                return Err(bad(&name, "not a plain file"));
            }
            let part = Part { offset: entry.raw_file_position(), bytes: entry.size() };
            let fits = |bytes_max: u64| match part.bytes {
                bytes if bytes <= bytes_max => Ok(part),
                _ => Err(bad(&name, format!("longer than the {bytes_max} bytes accepted"))),
            };
            if index.is_none() {
                if name != INDEX_NAME {
                    return Err(bad(&name, "expected index.wbi to come first"));
                }
                index = Some(fits(Index::SIZE_BYTES_MAX as u64)?);
            } else if let Some(stored) = name.strip_prefix(CHUNKS) {
                let stored: Digest = stored.parse().map_err(|e| bad(&name, e))?;
                let full = chunks.len() == whimbrel_wire::index::CHUNKS_MAX;
                if full || chunks.insert(stored, fits(STORED_BYTES_MAX)?).is_some() {
                    return Err(bad(&name, "there twice, or more chunks than accepted"));
                }
            } else if let Some(file) = name.strip_prefix(METADATA) {
                let full = metadata.len() == METADATA_FILES_MAX;
                if full || metadata.insert(file.to_owned(), fits(METADATA_BYTES_MAX)?).is_some() {
                    return Err(bad(&name, "there twice, or more metadata than accepted"));
                }
            } else {
                return Err(bad(&name, "neither a chunk nor metadata"));
            }
        }
        let index_part = index.ok_or_else(|| ReadError::Missing(INDEX_NAME.into()))?;
        let bytes = read(path, index_part)?;
        let index = SignedIndex::decode(&bytes).map_err(|e| bad(INDEX_NAME, e))?;
        Ok(Self { path: path.to_owned(), index, index_part, chunks, metadata })
    }

    /// The index. Nothing says yet that it is signed.
    #[must_use]
    pub fn index(&self) -> &Index {
        self.index.index()
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
        if part.bytes > size_bytes_max {
            return Err(TransportError::TooLarge { what, size_bytes_max });
        }
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read(&path, part)).await;
        match read.map_err(std::io::Error::other).and_then(|read| read) {
            Ok(bytes) => Ok(bytes.into()),
            Err(e) => Err(TransportError::Refused { what, why: e.to_string() }),
        }
    }
}

fn read(path: &Path, part: Part) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(part.offset))?;
    // The size is within the part's limit, see `open`.
    let mut bytes = vec![0; usize::try_from(part.bytes).unwrap_or_default()];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

impl Source for Archive {
    async fn metadata(&self, file: &str, size_bytes_max: u64) -> Result<Option<Bytes>, TransportError> {
        match self.metadata.get(file) {
            None => Ok(None),
            part => self.part(file.to_owned(), part.copied(), size_bytes_max).await.map(Some),
        }
    }
}

impl Transport for Archive {
    async fn target(&self, file: &str, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        let plain = self.target_path();
        let (dir, name) = plain.split_once('/').unwrap_or(("", &plain));
        let hashed = format!("{dir}/{}.{name}", self.index.digest());
        let part = (file == plain || file == hashed).then_some(self.index_part);
        self.part(file.to_owned(), part, size_bytes_max).await
    }

    async fn chunk(&self, stored: Digest, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        let part = self.chunks.get(&stored).copied();
        self.part(format!("chunk {stored}"), part, size_bytes_max).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bundle::Packed,
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

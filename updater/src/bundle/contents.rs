//! What is in a `.wbundle`, and where.

use super::{
    chunk::STORED_BYTES_MAX,
    file::{CHUNKS, INDEX_NAME, METADATA, METADATA_BYTES_MAX, METADATA_FILES_MAX, ReadError, bad},
};
use crate::slots::SignedIndex;
use std::{
    collections::BTreeMap,
    io::{self, Read, Seek, SeekFrom},
};
use whimbrel_wire::{
    Digest, Message as _,
    index::{CHUNKS_MAX, Index},
};

/// The index of a `.wbundle`, and where its other parts lie.
#[derive(Debug, Clone)]
pub struct Contents {
    index: SignedIndex,
    index_part: Part,
    chunks: BTreeMap<Digest, Part>,
    metadata: BTreeMap<String, Part>,
}

/// A stretch of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    offset: u64,
    bytes: u64,
}

impl Part {
    /// How long it is.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.bytes
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the file cannot be read, or ends before.
    pub fn read(self, mut file: impl Read + Seek) -> io::Result<Vec<u8>> {
        file.seek(SeekFrom::Start(self.offset))?;
        // Its size is within the limit of its kind, see `Contents::read`.
        let mut bytes = vec![0; usize::try_from(self.bytes).unwrap_or_default()];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl Contents {
    /// Notes what is in a `.wbundle`, within the limits of each part: the index first, then nothing but chunks and metadata. Chunks
    /// may be missing, for a device that has them already.
    ///
    /// # Errors
    /// When it is not of the form.
    pub fn read(mut file: impl Read + Seek) -> Result<Self, ReadError> {
        let mut tar = tar::Archive::new(&mut file);
        let (mut index, mut chunks, mut metadata) = (None, BTreeMap::new(), BTreeMap::new());
        for entry in tar.entries_with_seek()? {
            let entry = entry?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if !entry.header().entry_type().is_file() {
                return Err(bad(&name, "not a plain file"));
            }
            let part = Part { offset: entry.raw_file_position(), bytes: entry.size() };
            if index.is_none() {
                if name != INDEX_NAME {
                    return Err(bad(&name, "expected index.wbi to come first"));
                }
                index = Some(part.within(&name, Index::SIZE_BYTES_MAX as u64)?);
            } else if let Some(stored) = name.strip_prefix(CHUNKS) {
                let stored: Digest = stored.parse().map_err(|e| bad(&name, e))?;
                let part = part.within(&name, STORED_BYTES_MAX)?;
                if chunks.len() == CHUNKS_MAX || chunks.insert(stored, part).is_some() {
                    return Err(bad(&name, "there twice, or more chunks than accepted"));
                }
            } else if let Some(file) = name.strip_prefix(METADATA) {
                let (full, part) =
                    (metadata.len() == METADATA_FILES_MAX, part.within(&name, METADATA_BYTES_MAX)?);
                if full || metadata.insert(file.to_owned(), part).is_some() {
                    return Err(bad(&name, "there twice, or more metadata than accepted"));
                }
            } else {
                return Err(bad(&name, "neither a chunk nor metadata"));
            }
        }
        let index_part = index.ok_or_else(|| ReadError::Missing(INDEX_NAME.into()))?;
        let index = SignedIndex::decode(&index_part.read(file)?).map_err(|e| bad(INDEX_NAME, e))?;
        Ok(Self { index, index_part, chunks, metadata })
    }

    /// The index. Nothing says yet that it is signed.
    #[must_use]
    pub const fn index(&self) -> &SignedIndex {
        &self.index
    }

    /// Where the index lies.
    #[must_use]
    pub const fn index_part(&self) -> Part {
        self.index_part
    }

    /// Where each chunk lies, by the hash that its bytes are said to have.
    #[must_use]
    pub const fn chunks(&self) -> &BTreeMap<Digest, Part> {
        &self.chunks
    }

    /// Where each metadata file lies, by its name.
    #[must_use]
    pub const fn metadata(&self) -> &BTreeMap<String, Part> {
        &self.metadata
    }
}

impl Part {
    fn within(self, name: &str, size_bytes_max: u64) -> Result<Self, ReadError> {
        match self.bytes {
            bytes if bytes <= size_bytes_max => Ok(self),
            _ => Err(bad(name, format!("longer than the {size_bytes_max} bytes accepted"))),
        }
    }
}

//! `.wbundle`: a tar of `index.wbi`, `chunks/{sha256}` and, where it can be verified offline, `metadata/{file}`.

use super::chunk::STORED_BYTES_MAX;
use crate::hash::sha256;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
};
use whimbrel_wire::{
    DecodeError, Digest, Message,
    cbor::EncodeError,
    decode, encode,
    index::{Index, target_path},
    manifest::Manifest,
};

/// Most metadata files in a `.wbundle`.
pub const METADATA_FILES_MAX: usize = 512;
/// Largest of them: that of the largest role.
pub(super) const METADATA_BYTES_MAX: u64 = 5_000_000;
pub(super) const INDEX_NAME: &str = "index.wbi";
pub(super) const CHUNKS: &str = "chunks/";
pub(super) const METADATA: &str = "metadata/";

/// A bundle in memory: the index, every chunk by the hash of its stored bytes, and metadata to verify it with.
/// Chunks have the hash they are kept under; only [`Packed::verify`] says that the bundle is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    index: Index,
    index_bytes: Vec<u8>,
    chunks: BTreeMap<Digest, Vec<u8>>,
    /// Metadata files by name (`1.root.json`, `timestamp.json`, …).
    pub metadata: BTreeMap<String, Vec<u8>>,
}

/// Why a `.wbundle` could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read, or is no tar archive.
    #[error("read the bundle: {0}")]
    Io(#[from] io::Error),
    /// The index is not one.
    #[error("read the bundle: {0}")]
    Index(#[from] DecodeError),
    /// An entry that does not belong there.
    #[error("read the bundle: entry {name:?}: {reason}")]
    Entry {
        /// Its name, cut to a readable length.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something is not in it.
    #[error("read the bundle: {0} is missing")]
    Missing(String),
}

impl Packed {
    /// A bundle of an index and its chunks.
    ///
    /// # Errors
    /// When the index breaks one of its rules.
    pub fn new(index: Index, chunks: BTreeMap<Digest, Vec<u8>>) -> Result<Self, EncodeError> {
        let index_bytes = encode(&index)?;
        Ok(Self { index, index_bytes, chunks, metadata: BTreeMap::new() })
    }

    /// The same bundle with another manifest.
    ///
    /// # Errors
    /// When the index then breaks one of its rules.
    pub fn with_manifest(mut self, manifest: Manifest) -> Result<Self, EncodeError> {
        self.index.manifest = manifest;
        self.index_bytes = encode(&self.index)?;
        Ok(self)
    }

    /// The index.
    #[must_use]
    pub const fn index(&self) -> &Index {
        &self.index
    }

    /// The index as it is signed: the target.
    #[must_use]
    pub fn index_bytes(&self) -> &[u8] {
        &self.index_bytes
    }

    /// Every chunk's stored bytes, by their hash.
    #[must_use]
    pub const fn chunks(&self) -> &BTreeMap<Digest, Vec<u8>> {
        &self.chunks
    }

    /// SHA-256 of the index: the bundle's identity.
    #[must_use]
    pub fn digest(&self) -> Digest {
        sha256(&self.index_bytes)
    }

    /// The name under which it is signed.
    #[must_use]
    pub fn target_path(&self) -> String {
        target_path(&self.index.manifest)
    }

    /// Writes the archive. The same bundle gives the same bytes.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut tar = tar::Builder::new(out);
        append(&mut tar, INDEX_NAME, &self.index_bytes)?;
        for (file, bytes) in &self.metadata {
            append(&mut tar, &format!("{METADATA}{file}"), bytes)?;
        }
        for (stored, bytes) in &self.chunks {
            append(&mut tar, &format!("{CHUNKS}{stored}"), bytes)?;
        }
        tar.into_inner()?.flush()
    }

    /// Reads an archive within the limits of each part: the index first, then nothing but its chunks, each with its hash, and
    /// metadata.
    ///
    /// # Errors
    /// When it is not of the form, or a chunk is missing or has another hash.
    pub fn read(input: impl Read) -> Result<Self, ReadError> {
        let mut archive = tar::Archive::new(input);
        let mut entries = archive.entries()?;
        let first = entries.next().ok_or_else(|| ReadError::Missing(INDEX_NAME.into()))?;
        let (name, index_bytes) = read_entry(first?, Index::SIZE_BYTES_MAX as u64)?;
        if name != INDEX_NAME {
            return Err(bad(&name, "expected index.wbi to come first"));
        }
        let index: Index = decode(&index_bytes)?;
        let mut wanted: BTreeSet<Digest> = index.chunks().map(|c| c.stored).collect();
        let (mut chunks, mut metadata) = (BTreeMap::new(), BTreeMap::new());
        for entry in entries {
            let (name, bytes) = read_entry(entry?, METADATA_BYTES_MAX)?;
            if let Some(stored) = name.strip_prefix(CHUNKS) {
                let stored: Digest = stored.parse().map_err(|e| bad(&name, e))?;
                if !wanted.remove(&stored) {
                    return Err(bad(&name, "not a chunk of the index, or there twice"));
                }
                if bytes.len() as u64 > STORED_BYTES_MAX || sha256(&bytes) != stored {
                    return Err(bad(&name, "its bytes do not have this hash"));
                }
                chunks.insert(stored, bytes);
            } else if let Some(file) = name.strip_prefix(METADATA) {
                if metadata.len() == METADATA_FILES_MAX || metadata.insert(file.to_owned(), bytes).is_some() {
                    return Err(bad(&name, "there twice, or more metadata than accepted"));
                }
            } else {
                return Err(bad(&name, "neither a chunk nor metadata"));
            }
        }
        match wanted.first() {
            Some(stored) => Err(ReadError::Missing(format!("chunk {stored}"))),
            None => Ok(Self { index, index_bytes, chunks, metadata }),
        }
    }
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, name, bytes)
}

fn read_entry<R: Read>(
    entry: tar::Entry<'_, R>,
    size_bytes_max: u64,
) -> Result<(String, Vec<u8>), ReadError> {
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    if !entry.header().entry_type().is_file() {
        return Err(bad(&name, "not a plain file"));
    }
    // The size in the header is only a claim; what is read is bounded as well.
    if entry.size() > size_bytes_max {
        return Err(bad(&name, format!("longer than the {size_bytes_max} bytes accepted")));
    }
    let mut bytes = Vec::new();
    let claimed = entry.size();
    entry.take(size_bytes_max).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != claimed {
        return Err(bad(&name, "ends in the middle"));
    }
    Ok((name, bytes))
}

pub(super) fn bad(name: &str, reason: impl ToString) -> ReadError {
    ReadError::Entry { name: name.chars().take(100).collect(), reason: reason.to_string() }
}

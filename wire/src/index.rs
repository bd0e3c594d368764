//! A bundle as a list of files, each a list of chunks. The encoded index is the target that release keys sign.

use crate::{
    cbor::Message,
    id::Digest,
    manifest::{Manifest, is_inner_path},
};
use serde::{Deserialize, Serialize};

/// Most files in a bundle.
pub const FILES_MAX: usize = 1024;
/// Most chunks in a bundle: 4 GiB at the average chunk size.
pub const CHUNKS_MAX: usize = 65_536;
/// Largest chunk before compression.
pub const CHUNK_BYTES_MAX: u32 = 256 << 10;
/// Largest bundle after decompression.
pub const BUNDLE_BYTES_MAX: u64 = 4 << 30;

/// The index of one bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// About the model.
    pub manifest: Manifest,
    /// Every file, in ascending order of path.
    pub files: Vec<FileEntry>,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where it is installed, relative to the bundle's folder.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// Its parts, in order.
    pub chunks: Vec<Chunk>,
}

/// One part of a file, stored and moved on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// SHA-256 of the bytes as stored and moved (one zstd frame): the chunk's name. Checked before decompression.
    pub stored: Digest,
    /// Their number.
    pub stored_bytes: u32,
    /// SHA-256 of the bytes after decompression.
    pub raw: Digest,
    /// Their number.
    pub raw_bytes: u32,
}

impl Message for Index {
    const NAME: &'static str = "bundle index";
    const SIZE_BYTES_MAX: usize = 16 << 20;
    const ITEMS_MAX: usize = 1_500_000;

    fn validate(&self) -> Result<(), String> {
        self.manifest.validate()?;
        if self.files.is_empty() || self.files.len() > FILES_MAX {
            return Err(format!("files: {} entries, expected 1 to {FILES_MAX}", self.files.len()));
        }
        let mut chunks = 0usize;
        let mut total = 0u64;
        let mut previous = "";
        for file in &self.files {
            if !is_inner_path(&file.path) {
                return Err(format!("files: {:?} is not a plain relative path", file.path));
            }
            if file.path.as_str() <= previous {
                return Err(format!("files: {:?} is out of order or listed twice", file.path));
            }
            previous = &file.path;
            file.validate()?;
            chunks += file.chunks.len();
            total = total.saturating_add(file.size_bytes);
        }
        if chunks > CHUNKS_MAX || total > BUNDLE_BYTES_MAX {
            return Err(format!(
                "{chunks} chunks and {total} bytes, at most {CHUNKS_MAX} and {BUNDLE_BYTES_MAX} are accepted"
            ));
        }
        for (field, path) in [("model", &self.manifest.model), ("golden.file", &self.manifest.golden.file)] {
            if self.file(path).is_none() {
                return Err(format!("manifest.{field}: {path:?} is not among the files"));
            }
        }
        Ok(())
    }
}

impl Index {
    /// The entry of a path.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&FileEntry> {
        self.files.iter().find(|f| f.path == path)
    }

    /// Every chunk of every file, in order, with repeats.
    pub fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.files.iter().flat_map(|f| &f.chunks)
    }

    /// Sum of the files' sizes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.size_bytes).sum()
    }
}

impl FileEntry {
    fn validate(&self) -> Result<(), String> {
        let path = &self.path;
        let mut sum = 0u64;
        for chunk in &self.chunks {
            if chunk.raw_bytes == 0 || chunk.raw_bytes > CHUNK_BYTES_MAX {
                return Err(format!(
                    "{path}: chunk of {} bytes, expected 1 to {CHUNK_BYTES_MAX}",
                    chunk.raw_bytes
                ));
            }
            // A zstd frame grows incompressible data by far less than 1 KiB at these sizes.
            if chunk.stored_bytes == 0 || chunk.stored_bytes > chunk.raw_bytes + 1024 {
                return Err(format!(
                    "{path}: chunk stored in {} bytes, more than its content",
                    chunk.stored_bytes
                ));
            }
            sum += u64::from(chunk.raw_bytes);
        }
        if sum == self.size_bytes {
            Ok(())
        } else {
            Err(format!("{path}: chunks hold {sum} bytes, the file {}", self.size_bytes))
        }
    }
}

/// The name under which the metadata lists a bundle's index: `{model}/{version}.wbi`.
#[must_use]
pub fn target_path(manifest: &Manifest) -> String {
    format!("{}/{}.wbi", manifest.name, manifest.version)
}

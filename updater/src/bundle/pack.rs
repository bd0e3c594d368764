//! Packing a folder.

use super::{Packed, chunk};
use crate::slots::INDEX_FILE;
use fastcdc::v2020::StreamCDC;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};
use whimbrel_wire::{
    Digest,
    cbor::EncodeError,
    index::{BUNDLE_BYTES_MAX, CHUNK_BYTES_MAX, FILES_MAX, FileEntry, Index},
    manifest::{Manifest, is_inner_path},
};

/// The file in a folder that describes the model.
pub const MANIFEST_FILE: &str = "bundle.toml";
/// Longest accepted manifest.
const MANIFEST_BYTES_MAX: u64 = 8 << 20;
/// Deepest accepted folder.
const FOLDER_DEPTH_MAX: usize = 16;

/// Why a folder could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file or folder could not be read.
    #[error("pack {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The manifest is not a valid one.
    #[error("pack {}: {reason}", path.display())]
    Manifest {
        /// The manifest's file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Something in the folder cannot be part of a bundle.
    #[error("pack {}: {reason}", path.display())]
    Unfit {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A chunk could not be packed.
    #[error(transparent)]
    Chunk(#[from] chunk::ChunkError),
    /// The index breaks a rule.
    #[error(transparent)]
    Index(#[from] EncodeError),
}

/// Packs a folder: `bundle.toml` becomes the manifest, every other file, hidden ones apart, a file of the bundle. The same
/// folder gives the same bytes.
///
/// # Errors
/// When something cannot be read, is neither a plain file nor a folder, or breaks a rule of bundles.
pub fn pack(dir: &Path) -> Result<Packed, PackError> {
    let manifest = read_manifest(&dir.join(MANIFEST_FILE))?;
    let mut paths = BTreeMap::new();
    collect(dir, "", 0, &mut paths)?;
    let mut chunks = BTreeMap::new();
    let mut files = Vec::new();
    let mut left_bytes = BUNDLE_BYTES_MAX;
    for (name, path) in paths {
        let entry = pack_file(&name, &path, left_bytes, &mut chunks)?;
        left_bytes = left_bytes.saturating_sub(entry.size_bytes);
        files.push(entry);
    }
    Ok(Packed::new(Index { manifest, files }, chunks)?)
}

fn read_manifest(path: &Path) -> Result<Manifest, PackError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MANIFEST_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|source| PackError::Read { path: path.to_owned(), source })?;
    let fail = |reason| PackError::Manifest { path: path.to_owned(), reason };
    if text.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(fail(format!("longer than the {MANIFEST_BYTES_MAX} bytes accepted")));
    }
    let manifest: Manifest = toml::from_str(&text).map_err(|e| fail(e.to_string()))?;
    manifest.validate().map_err(fail)?;
    Ok(manifest)
}

/// Collects the files below `dir` by their name in the bundle.
fn collect(
    dir: &Path,
    prefix: &str,
    depth: usize,
    out: &mut BTreeMap<String, PathBuf>,
) -> Result<(), PackError> {
    let read = |source| PackError::Read { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(read)? {
        let entry = entry.map_err(read)?;
        let path = entry.path();
        let unfit = |reason: &str| PackError::Unfit { path: path.clone(), reason: reason.to_owned() };
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| unfit("its name is not UTF-8"))?;
        if name.starts_with('.') || (depth == 0 && name == MANIFEST_FILE) {
            continue;
        }
        let inner = format!("{prefix}{name}");
        if !is_inner_path(&inner) {
            return Err(unfit("names in a bundle are made of letters, digits and . _ -"));
        }
        if inner == INDEX_FILE {
            return Err(unfit("the name is that of the index in an installed bundle"));
        }
        let kind = entry.file_type().map_err(read)?;
        if kind.is_dir() && depth < FOLDER_DEPTH_MAX {
            collect(&path, &format!("{inner}/"), depth + 1, out)?;
        } else if kind.is_file() && out.len() < FILES_MAX {
            out.insert(inner, path);
        } else if kind.is_file() {
            return Err(unfit("more files than a bundle may have"));
        } else {
            return Err(unfit("neither a plain file nor a folder within the accepted depth"));
        }
    }
    Ok(())
}

fn pack_file(
    name: &str,
    path: &Path,
    left_bytes: u64,
    chunks: &mut BTreeMap<Digest, Vec<u8>>,
) -> Result<FileEntry, PackError> {
    let read = |source| PackError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(read)?;
    let mut entry =
        FileEntry { path: name.to_owned(), size_bytes: 0, sha256: Digest::new([0; 32]), chunks: Vec::new() };
    let mut hash = crate::hash::Sha256::default();
    let largest = CHUNK_BYTES_MAX as usize;
    for part in StreamCDC::new(file, chunk::CHUNK_BYTES_MIN, chunk::CHUNK_BYTES_AVERAGE, largest) {
        let raw = part.map_err(|e| read(e.into()))?.data;
        entry.size_bytes += raw.len() as u64;
        if entry.size_bytes > left_bytes {
            let reason = format!("the bundle would be larger than {BUNDLE_BYTES_MAX} bytes");
            return Err(PackError::Unfit { path: path.to_owned(), reason });
        }
        hash.update(&raw);
        let (chunk, stored) = chunk::pack(&raw)?;
        entry.chunks.push(chunk);
        chunks.entry(chunk.stored).or_insert(stored);
    }
    entry.sha256 = hash.finish();
    Ok(entry)
}

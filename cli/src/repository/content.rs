//! The bytes that metadata names: targets by their hash, chunks of bundles.

use super::{Repository, key::tuf_failure};
use crate::{error::Failure, files};
use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
};
use whimbrel_updater::{
    bundle::Packed,
    hash::Sha256,
    repo::NewTarget,
    tuf::{Hashes, Signed, Target, Targets},
};
use whimbrel_wire::{Digest, Message as _, index::Index};

const TARGETS_DIR: &str = "targets";
const CHUNKS_DIR: &str = "chunks";
/// Longest path of a target.
const PATH_BYTES_MAX: usize = 1024;

impl Repository {
    /// Copies a file into the folder under the name that clients ask for; gives what is to be signed about it.
    ///
    /// # Errors
    /// Bad input when the name is no path of a target, or the file cannot be read.
    pub(crate) fn keep_file(&self, from: &Path, name: &str) -> Result<NewTarget, Failure> {
        check_path(name)?;
        let attempted = format!("adding {} as {name}", from.display());
        let failed = |e: std::io::Error| Failure::failed(attempted.as_str(), e);
        let mut source = fs::File::open(from).map_err(|e| Failure::usage(attempted.as_str(), e))?;
        let folder = self.path(TARGETS_DIR);
        fs::create_dir_all(&folder).map_err(failed)?;
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666);
        let mut copy = tempfile::Builder::new().permissions(mode).tempfile_in(&folder).map_err(failed)?;
        let (mut hash, mut length_bytes) = (Sha256::default(), 0);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = source.read(&mut buffer).map_err(|e| Failure::usage(attempted.as_str(), e))?;
            let part = buffer.get(..read).unwrap_or_default();
            if part.is_empty() {
                break;
            }
            hash.update(part);
            length_bytes += read as u64;
            copy.write_all(part).map_err(failed)?;
        }
        copy.as_file().sync_all().map_err(failed)?;
        let target = NewTarget {
            path: name.to_owned(),
            length_bytes,
            sha256: hash.finish(),
            custom: serde_json::Value::Null,
        };
        let place = self.path(&target_file(&target.path, target.sha256, length_bytes));
        make_parent(&place)?;
        copy.persist(&place).map_err(|e| failed(e.error))?;
        Ok(target)
    }

    /// Puts a bundle's index and chunks into the folder.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn keep_bundle(&self, bundle: &Packed) -> Result<(), Failure> {
        for (stored, bytes) in bundle.chunks() {
            self.keep(&format!("{CHUNKS_DIR}/{stored}"), bytes)?;
        }
        let index = bundle.index_bytes();
        self.keep(&target_file(&bundle.target_path(), bundle.digest(), index.len() as u64), index)
    }

    /// The bytes of a target that lie in the folder; `None` where they do not.
    ///
    /// # Errors
    /// When they are not what is signed.
    pub(crate) fn kept_index(&self, target: &Target) -> Result<Option<Vec<u8>>, Failure> {
        let path = self.path(&format!("{TARGETS_DIR}/{}", target.file()));
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = files::read(&path, Index::SIZE_BYTES_MAX as u64)?;
        target.check(&bytes).map_err(|e| tuf_failure(&format!("reading {}", path.display()), &e))?;
        Ok(Some(bytes))
    }

    /// A chunk that lies in the folder; `None` where it does not.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn kept_chunk(&self, stored: &Digest) -> Result<Option<Vec<u8>>, Failure> {
        let path = self.path(&format!("{CHUNKS_DIR}/{stored}"));
        if path.is_file() { files::read(&path, files::FILE_BYTES_MAX).map(Some) } else { Ok(None) }
    }

    /// Every target of every targets role in the folder, as the newest signed files name them.
    ///
    /// # Errors
    /// When a file is no metadata.
    pub(crate) fn signed_targets(&self) -> Result<Vec<Target>, Failure> {
        let mut all = Vec::new();
        for role in self.targets_roles()? {
            if let Some(file) = self.signed(&role)? {
                let failure = |e| tuf_failure(&format!("reading the metadata of {role}"), &e);
                let targets = Signed::<Targets>::parse(&file.bytes).map_err(failure)?;
                all.extend(targets.body().targets.values().cloned());
            }
        }
        Ok(all)
    }

    fn keep(&self, file: &str, bytes: &[u8]) -> Result<(), Failure> {
        let place = self.path(file);
        if place.is_file() {
            return Ok(());
        }
        make_parent(&place)?;
        files::write(&place, bytes)
    }
}

fn make_parent(place: &Path) -> Result<(), Failure> {
    let parent = place.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|e| Failure::failed(format!("making {}", parent.display()), e))
}

/// Where a target's bytes lie: `targets/DIR/HASH.NAME`.
fn target_file(path: &str, sha256: Digest, length_bytes: u64) -> String {
    let hashes = Hashes { sha256: Some(sha256), sha512: None };
    let target = Target { path: path.to_owned(), length_bytes, hashes, custom: serde_json::Value::Null };
    format!("{TARGETS_DIR}/{}", target.file())
}

/// Checks that a name can be a target's path, as a file and in an address.
fn check_path(name: &str) -> Result<(), Failure> {
    let good = |segment: &str| {
        !segment.is_empty() && segment != "." && segment != ".." && !segment.contains(['\\', '?', '#', '%'])
    };
    if name.len() <= PATH_BYTES_MAX && name.split('/').all(good) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let why = format!(
        "a target's name has at most {PATH_BYTES_MAX} bytes, no empty, `.` or `..` segment, and none of \\ ? # %"
    );
    Err(Failure::usage(format!("using {name:?} as the name of a target"), why))
}

//! What a file was made for.

use super::writer::Pending;
use crate::{limits::ImportLimits, source::Source};
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// Where the plan of a model is kept, and how the model is told from others. Cloning shares what is being written.
#[derive(Debug, Clone)]
pub struct PlanCache {
    folder: PathBuf,
    name: String,
    digest: Option<[u8; 32]>,
    pending: Pending,
}

impl PlanCache {
    /// Beside a model whose digest is known. No bundle can have a file of that name, since its paths have no tilde.
    #[must_use]
    pub fn beside(folder: &Path, digest: [u8; 32]) -> Self {
        Self {
            folder: folder.to_owned(),
            name: "plan".to_owned(),
            digest: Some(digest),
            pending: Pending::default(),
        }
    }

    /// In a folder, for a file that is told from others, and from what it was before, by what the system says of it: its device and
    /// inode, its size, when it was written to and when it was changed at all, to the nanosecond. Since systems count time in
    /// larger steps, a model changed within the last two seconds is not kept.
    #[must_use]
    pub fn within(folder: &Path, model: &Path) -> Self {
        let path = std::fs::canonicalize(model).unwrap_or_else(|_| model.to_owned());
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' };
        let stem: String = stem.chars().map(plain).take(80).collect();
        let name = format!("{stem}~{:016x}", fnv(path.as_os_str().as_encoded_bytes()));
        Self { folder: folder.to_owned(), name, digest: None, pending: Pending::default() }
    }

    /// Waits for what is being written.
    pub fn finish(&self) {
        self.pending.finish();
    }

    pub(super) fn pending(&self) -> &Pending {
        &self.pending
    }

    /// The file of an engine.
    pub(super) fn path(&self, engine: &str) -> PathBuf {
        let engine = engine.split(' ').next().unwrap_or_default();
        self.folder.join(format!("{}~{engine}", self.name))
    }

    /// What the file must have been made for; `None` where the model cannot be told from what it may become.
    pub(super) fn key(&self, engine: &str, source: &Source, limits: &ImportLimits) -> Option<Vec<u8>> {
        // What a model may take of memory is asked whenever it is loaded, and changes no plan.
        let limits = ImportLimits { memory_bytes_max: 0, ..limits.clone() };
        let mut key = format!("{engine}\n{limits:?}\n{} bytes\n", source.len());
        match self.digest {
            Some(digest) => digest.iter().try_for_each(|byte| write!(key, "{byte:02x}")).ok()?,
            None => key.push_str(source.stamp()?),
        }
        Some(key.into_bytes())
    }
}

/// FNV-1a: short names for paths.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_files_of_their_own_and_bundles_cannot_have_them() {
        let folder = Path::new("/cache");
        let of = |model: &str| PlanCache::within(folder, Path::new(model)).path("cpu-avx2 build 1");
        assert!(of("/a/net one.onnx").to_string_lossy().starts_with("/cache/net-one~"));
        assert!(of("/a/net.onnx") != of("/b/net.onnx"));
        let bundled = PlanCache::beside(folder, [7; 32]);
        assert_eq!(bundled.path("cpu-avx2 build 1"), Path::new("/cache/plan~cpu-avx2"));
        let (source, limits) = (Source::of_bytes(Vec::new()), ImportLimits::default());
        assert!(bundled.key("cpu", &source, &limits).is_some_and(|key| key.ends_with(b"0707")));
        assert!(PlanCache::within(folder, Path::new("net.onnx")).key("cpu", &source, &limits).is_none());
    }
}

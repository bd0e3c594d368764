//! Parts of an index, read without the rest: an index names up to 65,536 chunks, and who asks for a version or for the files'
//! sizes should not hold them all.

use serde::{Deserialize, Serialize};
use whimbrel_wire::{
    Digest, Message, ModelName,
    index::Index,
    manifest::{Manifest, is_inner_path},
};

/// Which model an index is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Peek {
    pub(super) manifest: Name,
}

/// The model's name and version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Name {
    pub(super) name: ModelName,
    pub(super) version: semver::Version,
}

/// An index without its chunks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Outline {
    pub(super) manifest: Manifest,
    pub(super) files: Vec<OutlineFile>,
}

/// A file without its chunks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct OutlineFile {
    pub(super) path: String,
    pub(super) size_bytes: u64,
    pub(super) sha256: Digest,
}

/// What content lies where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Contents {
    /// Every file.
    pub(crate) files: Vec<ContentFile>,
}

/// What content lies where in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContentFile {
    /// Relative to the bundle's folder.
    pub(crate) path: String,
    /// One after the other.
    pub(crate) chunks: Vec<Content>,
}

/// The content of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Content {
    /// Its hash.
    pub(crate) raw: Digest,
    /// Its size.
    pub(crate) raw_bytes: u32,
}

/// Reads the same bytes as [`Index`], within the same limits.
macro_rules! part_of_index {
    ($type:ty, |$self:ident| $paths:expr) => {
        impl Message for $type {
            const NAME: &'static str = Index::NAME;
            const VERSION: u8 = Index::VERSION;
            const SIZE_BYTES_MAX: usize = Index::SIZE_BYTES_MAX;
            const DEPTH_MAX: usize = Index::DEPTH_MAX;
            const ITEMS_MAX: usize = Index::ITEMS_MAX;

            fn validate(&self) -> Result<(), String> {
                let $self = self;
                let mut paths = $paths;
                match paths.find(|path: &&String| !is_inner_path(path)) {
                    Some(path) => Err(format!("files: {path:?} is not a plain relative path")),
                    None => Ok(()),
                }
            }
        }
    };
}
part_of_index!(Peek, |_peek| std::iter::empty());
part_of_index!(Outline, |outline| outline.files.iter().map(|f| &f.path));
part_of_index!(Contents, |contents| contents.files.iter().map(|f| &f.path));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noise, pack};
    use whimbrel_wire::{decode, encode};

    #[test]
    fn each_part_says_what_the_whole_says() {
        let packed = pack("m", "1.0.0", &noise(1, 300_000), "");
        let (bytes, index) = (packed.index_bytes(), packed.index());
        let peek: Peek = decode(bytes).expect("decodes");
        assert_eq!(
            (peek.manifest.name, peek.manifest.version),
            (index.manifest.name.clone(), index.manifest.version.clone())
        );
        let outline: Outline = decode(bytes).expect("decodes");
        assert_eq!(outline.manifest, index.manifest);
        let files: Vec<_> = index.files.iter().map(|f| (&f.path, f.size_bytes, f.sha256)).collect();
        assert_eq!(
            outline.files.iter().map(|f| (&f.path, f.size_bytes, f.sha256)).collect::<Vec<_>>(),
            files
        );
        let contents: Contents = decode(bytes).expect("decodes");
        let chunks: Vec<_> = index.chunks().map(|c| (c.raw, c.raw_bytes)).collect();
        let found = contents.files.iter().flat_map(|f| &f.chunks).map(|c| (c.raw, c.raw_bytes));
        assert_eq!(found.collect::<Vec<_>>(), chunks);
    }

    #[test]
    fn a_path_that_climbs_is_refused_in_every_part() {
        let outline = Outline {
            manifest: pack("m", "1.0.0", b"model", "").index().manifest.clone(),
            files: vec![OutlineFile { path: "../x".into(), size_bytes: 0, sha256: Digest::new([0; 32]) }],
        };
        assert!(encode(&outline).is_err());
        let contents = Contents { files: vec![ContentFile { path: "/x".into(), chunks: vec![] }] };
        assert!(encode(&contents).is_err());
    }
}

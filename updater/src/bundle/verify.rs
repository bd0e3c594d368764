//! Checking a whole bundle, alone or against a root.

use super::{Packed, chunk};
use crate::{
    hash::Sha256,
    tuf::{Found, Search, Target, Trusted, TufError, Wanted},
};
use time::OffsetDateTime;
use whimbrel_wire::index::FileEntry;

/// Why a bundle was refused.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A chunk is not the one the index names.
    #[error(transparent)]
    Chunk(#[from] chunk::ChunkError),
    /// Something that the index names is not there, or not of the stated hash.
    #[error("verify the bundle: {0}")]
    Content(String),
    /// The metadata does not make it a trusted one.
    #[error(transparent)]
    Tuf(#[from] TufError),
    /// The metadata is fine but does not name this bundle.
    #[error("verify the bundle: the signed metadata names no target {0:?}")]
    NotATarget(String),
}

/// What a bundle was verified against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The root at the end of the chain.
    pub root_version: u64,
    /// The targets that name the bundle.
    pub targets_version: u64,
}

impl Packed {
    /// Checks that the chunks are those of the index and give the files it names.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn verify_content(&self) -> Result<(), VerifyError> {
        self.index().files.iter().try_for_each(|file| self.verify_file(file))
    }

    /// Checks the content, and that the metadata in the archive makes it trusted by whoever trusts `root`: the chain of roots,
    /// timestamp, snapshot and targets, none expired at `now`, the bundle's index among the targets, not below its floor.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(&self, root: &[u8], now: OffsetDateTime) -> Result<Verified, VerifyError> {
        let mut trusted = self.trusted(root, now)?;
        let path = self.target_path();
        let target = self.find(&mut trusted, &path, now)?.ok_or(VerifyError::NotATarget(path))?;
        target.check(self.index_bytes())?;
        let targets = trusted.targets().map(|t| t.body());
        let manifest = &self.index().manifest;
        if let Some(floor) =
            targets.and_then(|t| t.floors.get(&manifest.name)).filter(|f| manifest.version < **f)
        {
            let (name, version) = (&manifest.name, &manifest.version);
            return Err(VerifyError::Content(format!("{name} {version} is below the signed floor {floor}")));
        }
        self.verify_content()?;
        Ok(Verified {
            root_version: trusted.root().body().version,
            targets_version: targets.map_or(0, |t| t.version),
        })
    }

    fn verify_file(&self, file: &FileEntry) -> Result<(), VerifyError> {
        let mut hash = Sha256::default();
        for part in &file.chunks {
            let stored = self.chunks().get(&part.stored);
            let stored =
                stored.ok_or_else(|| VerifyError::Content(format!("chunk {} is missing", part.stored)))?;
            hash.update(&chunk::unpack(part, stored)?);
        }
        if hash.finish() == file.sha256 {
            return Ok(());
        }
        Err(VerifyError::Content(format!("file {:?} does not have the stated hash", file.path)))
    }

    /// The client workflow over the files of the archive.
    fn trusted(&self, root: &[u8], now: OffsetDateTime) -> Result<Trusted, TufError> {
        let mut trusted = Trusted::new(root)?;
        while let Some(next) = self.metadata.get(&trusted.root_wanted().file) {
            trusted.update_root(next)?;
        }
        trusted.finish_root(now)?;
        trusted.update_timestamp(self.file(trusted.timestamp_wanted())?, now)?;
        if let Some(wanted) = trusted.snapshot_wanted()? {
            trusted.update_snapshot(self.file(wanted)?, now)?;
        }
        if let Some(wanted) = trusted.targets_wanted(now)? {
            trusted.update_targets(self.file(wanted)?, now)?;
        }
        trusted.finish(now)?;
        Ok(trusted)
    }

    /// The search for a target through the roles in the archive.
    fn find(
        &self,
        trusted: &mut Trusted,
        path: &str,
        now: OffsetDateTime,
    ) -> Result<Option<Target>, TufError> {
        let mut search = Search::new(path);
        loop {
            match search.advance(trusted, now)? {
                Found::Target(target) => return Ok(Some(*target)),
                Found::Nothing => return Ok(None),
                Found::Needs(visit, wanted) => trusted.update_delegated(&visit, self.file(wanted)?, now)?,
            }
        }
    }

    fn file(&self, wanted: Wanted) -> Result<&[u8], TufError> {
        self.metadata.get(&wanted.file).map(Vec::as_slice).ok_or(TufError::Absent { file: wanted.file })
    }
}

//! Taking over what operators publish: root and targets metadata, indexes, chunks.

use super::{
    Fault, Fleet,
    signing::{file, refused},
};
use crate::store::{
    blobs::{BlobError, Blobs},
    metadata::{Model, RoleFile},
    operators::Operator,
};
use bytes::Bytes;
use std::collections::BTreeSet;
use whimbrel_updater::{
    repo::{self, NamedRole},
    tuf::{Role as _, RoleName, Root, Signed, Target, Targets},
};
use whimbrel_wire::{
    Digest, Message as _,
    api::RepositoryView,
    decode,
    index::{CHUNK_BYTES_MAX, Index, target_path},
};

/// Largest stored chunk: one zstd frame of the largest raw chunk.
pub(crate) const STORED_CHUNK_BYTES_MAX: usize = CHUNK_BYTES_MAX as usize + 1024;
/// Missing things that a refusal names.
const MISSING_SHOWN_MAX: usize = 20;
/// Hashes in one question.
pub(crate) const HASHES_MAX: usize = 10_000;

impl Fleet {
    /// What operators need to know before they sign.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn repository(&self) -> Result<RepositoryView, Fault> {
        let root = self.store().newest_metadata(RoleFile::Root).await?;
        let targets = self.store().newest_metadata(RoleFile::Targets).await?;
        Ok(RepositoryView {
            online_key: self.parts.online_key.public().to_value(),
            root_version: root.map_or(0, |f| f.version),
            targets_version: targets.map_or(0, |f| f.version),
        })
    }

    /// Takes over a root.
    ///
    /// # Errors
    /// 400 when it is no root or does not list the server's key, 403 for its signatures, 409 for its version.
    pub(crate) async fn put_root(&self, bytes: &[u8], by: &Operator) -> Result<(), Fault> {
        let _guard = self.publishing.lock().await;
        let old = self.store().newest_metadata(RoleFile::Root).await?;
        let root = repo::check_root(old.as_ref().map(|f| &f.bytes[..]), bytes).map_err(|e| refused(&e))?;
        root.check_expiry(self.now()).map_err(|e| refused(&e))?;
        self.check_lists_us(&root)?;
        let mut files = vec![file::<Root>(RoleFile::Root, bytes.to_vec())?];
        files.extend(self.resign_under(bytes).await?);
        self.store().publish(&files, None, &by.actor(), self.now_ms()).await?;
        Ok(())
    }

    /// Takes over targets, and signs a snapshot and a timestamp of them.
    ///
    /// # Errors
    /// 400 when they are no targets, 403 for their signatures, 409 for their version or for what is missing.
    pub(crate) async fn put_targets(&self, bytes: &[u8], by: &Operator) -> Result<(), Fault> {
        let _guard = self.publishing.lock().await;
        let root = self.current_root().await?;
        let old = self.store().newest_metadata(RoleFile::Targets).await?;
        let targets =
            repo::check_targets(&root, old.as_ref().map(|f| &f.bytes[..]), bytes).map_err(|e| refused(&e))?;
        targets.check_expiry(self.now()).map_err(|e| refused(&e))?;
        let models = self.check_published(&self.reachable(bytes, None).await?).await?;
        let mut files = vec![file::<Targets>(RoleFile::Targets, bytes.to_vec())?];
        files.extend(self.sign_for(&[NamedRole { role: "targets", metadata: bytes }]).await?);
        self.store().publish(&files, Some(&models), &by.actor(), self.now_ms()).await?;
        tracing::info!(version = files[0].version, models = models.len(), "targets published");
        Ok(())
    }

    /// The newest root, if it lists this server's key: what the server signs is worth nothing otherwise.
    pub(super) async fn current_root(&self) -> Result<Vec<u8>, Fault> {
        let Some(root) = self.store().newest_metadata(RoleFile::Root).await? else {
            return Err(Fault::conflict("sign metadata: there is no root yet; upload 1.root.json first"));
        };
        let parsed = Signed::<Root>::parse(&root.bytes).map_err(|e| refused(&e))?;
        self.check_lists_us(parsed.body())?;
        Ok(root.bytes)
    }

    /// Keeps the index of a bundle.
    ///
    /// # Errors
    /// 400 when it is no index, or has another hash than its name says.
    pub(crate) async fn put_target(&self, name: Digest, bytes: Bytes) -> Result<(), Fault> {
        decode::<Index>(&bytes).map_err(|e| Fault::invalid(format!("target {name}: {e}")))?;
        keep(self.targets(), "target", name, bytes).await
    }

    /// Keeps a chunk.
    ///
    /// # Errors
    /// 400 when it has another hash than its name says.
    pub(crate) async fn put_chunk(&self, name: Digest, bytes: Bytes) -> Result<(), Fault> {
        if bytes.is_empty() || bytes.len() > STORED_CHUNK_BYTES_MAX {
            let size = bytes.len();
            return Err(Fault::invalid(format!(
                "chunk {name}: {size} bytes, expected 1 to {STORED_CHUNK_BYTES_MAX}"
            )));
        }
        keep(self.chunks(), "chunk", name, bytes).await
    }

    /// Those of `hashes` whose chunks are not here.
    ///
    /// # Errors
    /// 400 for too many of them.
    pub(crate) async fn missing_chunks(&self, hashes: Vec<Digest>) -> Result<Vec<Digest>, Fault> {
        if hashes.len() > HASHES_MAX {
            return Err(Fault::invalid(format!(
                "hashes: {}, at most {HASHES_MAX} are accepted",
                hashes.len()
            )));
        }
        Ok(self.chunks().missing(hashes).await?)
    }

    fn check_lists_us(&self, root: &Root) -> Result<(), Fault> {
        let key = self.parts.online_key.public();
        for role in [RoleName::Snapshot, RoleName::Timestamp] {
            let keys = root.role(role);
            let listed = keys.keyids.iter().filter_map(|id| root.keys.get(id)).any(|k| k.is_same(&key));
            if !listed || keys.threshold != 1 {
                return Err(Fault::invalid(format!(
                    "root: the role {role} must list this server's online key with threshold 1; GET /api/v1/repository shows the key"
                )));
            }
        }
        Ok(())
    }

    /// Checks that every target is a bundle whose index and chunks are here, and is what it says.
    pub(super) async fn check_published(&self, targets: &[Target]) -> Result<Vec<Model>, Fault> {
        let mut models = Vec::with_capacity(targets.len());
        let (mut missing, mut wanted) = (Vec::new(), BTreeSet::new());
        for target in targets {
            match self.read_target(target).await? {
                Some((model, index)) => {
                    wanted.extend(index.chunks().map(|c| c.stored));
                    models.push(model);
                }
                None => missing.push(format!("target {}", target.path)),
            }
        }
        let absent = self.chunks().missing(wanted.into_iter().collect()).await?;
        missing.extend(absent.iter().map(|chunk| format!("chunk {chunk}")));
        if missing.is_empty() {
            return Ok(models);
        }
        let more = missing.len().saturating_sub(MISSING_SHOWN_MAX);
        missing.truncate(MISSING_SHOWN_MAX);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        Err(Fault::conflict(format!("publish targets: upload first: {}{rest}", missing.join(", "))))
    }

    async fn read_target(&self, target: &Target) -> Result<Option<(Model, Index)>, Fault> {
        let path = &target.path;
        let (name, version) = target.model().ok_or_else(|| {
            Fault::invalid(format!("target {path}: custom.whimbrel must name its model and version"))
        })?;
        let bundle = target
            .hashes
            .sha256
            .ok_or_else(|| Fault::invalid(format!("target {path}: its sha256 must be among the hashes")))?;
        let Some(bytes) = self.targets().get(&bundle).await? else { return Ok(None) };
        target.check(&bytes).map_err(|e| refused(&e))?;
        let index: Index = decode(&bytes).map_err(|e| Fault::invalid(format!("target {path}: {e}")))?;
        let manifest = &index.manifest;
        if manifest.name != name || manifest.version != version || target_path(manifest) != *path {
            return Err(Fault::invalid(format!(
                "target {path}: it is signed as {name} {version}, but its manifest says {} {}",
                manifest.name, manifest.version
            )));
        }
        let model = Model {
            name,
            version,
            target: path.clone(),
            bundle,
            index_bytes: bytes.len() as u64,
            size_bytes: index.size_bytes(),
            description: manifest.description.clone(),
        };
        Ok(Some((model, index)))
    }
}

/// Largest index that may be uploaded.
pub(crate) const INDEX_BYTES_MAX: usize = Index::SIZE_BYTES_MAX;

async fn keep(blobs: &Blobs, what: &str, name: Digest, bytes: Bytes) -> Result<(), Fault> {
    match blobs.put(name, bytes).await {
        Ok(()) => Ok(()),
        Err(BlobError::OtherHash { found }) => {
            Err(Fault::invalid(format!("{what} {name}: the bytes sent have the SHA-256 {found}")))
        }
        Err(BlobError::Store(error)) => Err(error.into()),
    }
}

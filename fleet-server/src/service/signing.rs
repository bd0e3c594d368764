//! What the server signs itself: snapshots and timestamps.

use super::{Fault, Fleet, millis};
use crate::store::metadata::{MetadataFile, RoleFile};
use time::{Duration, OffsetDateTime};
use whimbrel_updater::{
    repo::{self, NamedRole, RepoError},
    tuf::{Role, Signed, Snapshot, Timestamp, TufError},
};

impl Fleet {
    /// A snapshot that names new files of targets roles and a timestamp of that, to be published with them.
    pub(super) async fn sign_for(&self, named: &[NamedRole<'_>]) -> Result<[MetadataFile; 2], Fault> {
        let now = self.now();
        let old = self.store().newest_metadata(RoleFile::Snapshot).await?;
        let expires = now + Duration::days(i64::from(self.settings().snapshot_days));
        let next = repo::next_snapshot(old.as_ref().map(|f| &f.bytes[..]), named, expires).map_err(own)?;
        let snapshot = repo::sign(&next, &self.parts.online_key).map_err(own)?;
        let timestamp = self.sign_timestamp(&snapshot, now).await?;
        Ok([file::<Snapshot>(RoleFile::Snapshot, snapshot)?, timestamp])
    }

    /// Signs a new snapshot or timestamp when half of the old one's life is over.
    ///
    /// # Errors
    /// When the database refuses, or the root does not list this server's key: nobody would trust what it signs.
    pub(crate) async fn renew_signatures(&self) -> Result<(), Fault> {
        let _guard = self.publishing.lock().await;
        let Some(snapshot) = self.store().newest_metadata(RoleFile::Snapshot).await? else { return Ok(()) };
        let Some(timestamp) = self.store().newest_metadata(RoleFile::Timestamp).await? else { return Ok(()) };
        let now = self.now();
        let half = |lives: Duration| millis(now + lives / 2);
        let snapshot_due =
            snapshot.expires_ms < half(Duration::days(i64::from(self.settings().snapshot_days)));
        let timestamp_due =
            timestamp.expires_ms < half(Duration::hours(i64::from(self.settings().timestamp_hours)));
        if !snapshot_due && !timestamp_due {
            return Ok(());
        }
        self.current_root().await?;
        let files = if snapshot_due {
            // What the old one names stays named.
            self.sign_for(&[]).await?.to_vec()
        } else {
            vec![self.sign_timestamp(&snapshot.bytes, now).await?]
        };
        self.store().publish(&files, None, "server", millis(now)).await?;
        Ok(())
    }

    /// A snapshot and a timestamp anew, where `root` does not vouch for those that are there: it lists another online key.
    pub(super) async fn resign_under(&self, root: &[u8]) -> Result<Vec<MetadataFile>, Fault> {
        let Some(snapshot) = self.store().newest_metadata(RoleFile::Snapshot).await? else {
            return Ok(Vec::new());
        };
        let Some(timestamp) = self.store().newest_metadata(RoleFile::Timestamp).await? else {
            return Ok(Vec::new());
        };
        let stands = repo::standing::<Snapshot>(root, &snapshot.bytes).map_err(|e| refused(&e))?.is_met()
            && repo::standing::<Timestamp>(root, &timestamp.bytes).map_err(|e| refused(&e))?.is_met();
        if stands { Ok(Vec::new()) } else { Ok(self.sign_for(&[]).await?.to_vec()) }
    }

    async fn sign_timestamp(&self, snapshot: &[u8], now: OffsetDateTime) -> Result<MetadataFile, Fault> {
        let old = self.store().newest_metadata(RoleFile::Timestamp).await?;
        let expires = now + Duration::hours(i64::from(self.settings().timestamp_hours));
        let key = &self.parts.online_key;
        let bytes =
            repo::timestamp(old.as_ref().map(|f| &f.bytes[..]), snapshot, key, now, expires).map_err(own)?;
        file::<Timestamp>(RoleFile::Timestamp, bytes)
    }
}

/// A file as the store keeps it.
pub(super) fn file<T: Role>(role: RoleFile, bytes: Vec<u8>) -> Result<MetadataFile, Fault> {
    let signed = Signed::<T>::parse(&bytes).map_err(|e| refused(&e))?;
    let version = u32::try_from(signed.body().version())
        .map_err(|_| Fault::invalid(format!("{}: its version is above {}", role.as_str(), u32::MAX)))?;
    Ok(MetadataFile { role, version, expires_ms: millis(signed.body().expires()), bytes })
}

/// Metadata of operators that was not accepted.
pub(super) fn refused(error: &TufError) -> Fault {
    match error {
        TufError::Inconsistent { .. } | TufError::Replayed { .. } => Fault::conflict(error.to_string()),
        TufError::Signature { .. } => Fault::new(super::Kind::Forbidden, error.to_string()),
        _ => Fault::invalid(error.to_string()),
    }
}

fn own(error: RepoError) -> Fault {
    Fault::internal(&error)
}

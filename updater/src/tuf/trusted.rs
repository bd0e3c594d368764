//! The client workflow of section 5, without I/O.

use super::{
    FileMeta, Role, RoleName, Root, Signed, Snapshot, Targets, Timestamp, TufError, file_stem, search::Visit,
};
use std::{collections::BTreeMap, sync::Arc};
use time::OffsetDateTime;

/// Metadata that passed every check. Files go in one at a time, in the order root, timestamp, snapshot, targets; a
/// refused file changes nothing.
#[derive(Debug, Clone)]
pub struct Trusted {
    root: Arc<Signed<Root>>,
    timestamp: Option<Arc<Signed<Timestamp>>>,
    snapshot: Option<Arc<Signed<Snapshot>>>,
    targets: Option<Arc<Signed<Targets>>>,
    /// Delegated roles by name. That one is here says nothing yet about who vouches for it now.
    delegated: BTreeMap<String, Arc<Signed<Targets>>>,
}

/// Which trusted files a new root makes void.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotated {
    /// Timestamp and snapshot: their keys changed, so versions counted by the old keys mean nothing (5.3.11).
    pub online: bool,
    /// Targets: the new keys did not sign it.
    pub targets: bool,
}

/// Whether an accepted file is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fresh {
    /// It replaces what was trusted.
    New,
    /// What was trusted stays.
    Same,
}

/// A file to fetch next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name on the server: one segment of a URL, percent-encoded where it must be.
    pub file: String,
    /// Its longest accepted size.
    pub size_bytes_max: u64,
}

impl Trusted {
    /// Begins with a root that was obtained in a trusted way. It must be signed as it demands itself; it may have expired.
    ///
    /// # Errors
    /// When it is not of the format or not signed so.
    pub fn new(root: &[u8]) -> Result<Self, TufError> {
        let root = Signed::<Root>::parse(root)?;
        root.vouches_for(&root)?;
        let delegated = BTreeMap::new();
        Ok(Self { root: Arc::new(root), timestamp: None, snapshot: None, targets: None, delegated })
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> &Signed<Root> {
        &self.root
    }

    /// The timestamp, once there is one.
    #[must_use]
    pub fn timestamp(&self) -> Option<&Signed<Timestamp>> {
        self.timestamp.as_deref()
    }

    /// The snapshot, once there is one.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Signed<Snapshot>> {
        self.snapshot.as_deref()
    }

    /// The targets role, once there is one.
    #[must_use]
    pub fn targets(&self) -> Option<&Signed<Targets>> {
        self.targets.as_deref()
    }

    /// The root after the trusted one (5.3.3).
    #[must_use]
    pub fn root_wanted(&self) -> Wanted {
        let version = self.root.body().version.saturating_add(1);
        Wanted { file: format!("{version}.root.json"), size_bytes_max: Root::SIZE_BYTES_MAX }
    }

    /// Takes the next root: exactly one version on, signed as the trusted one and as itself demands (5.3.4, 5.3.5).
    ///
    /// # Errors
    /// When a check fails; the trusted root stays.
    pub fn update_root(&mut self, bytes: &[u8]) -> Result<Rotated, TufError> {
        let next = Signed::<Root>::parse(bytes)?;
        self.root.vouches_for(&next)?;
        next.vouches_for(&next)?;
        let (trusted, found) = (self.root.body().version, next.body().version);
        if found <= trusted {
            return Err(TufError::Replayed { role: RoleName::Root, found, trusted });
        }
        if found != trusted.saturating_add(1) {
            let reason = format!("version {found} is offered, expected {}", trusted.saturating_add(1));
            return Err(TufError::Inconsistent { role: RoleName::Root, reason });
        }
        let changed = |role| keys_changed(self.root.body(), next.body(), role);
        let online = changed(RoleName::Timestamp) || changed(RoleName::Snapshot);
        let targets = self.targets.as_ref().is_some_and(|targets| next.vouches_for(targets).is_err());
        if online {
            self.timestamp = None;
            self.snapshot = None;
        }
        if targets {
            self.targets = None;
        }
        self.root = Arc::new(next);
        Ok(Rotated { online, targets })
    }

    /// Checks that the last root of the chain has not expired (5.3.10).
    ///
    /// # Errors
    /// [`TufError::Expired`].
    pub fn finish_root(&self, now: OffsetDateTime) -> Result<(), TufError> {
        self.root.body().check_expiry(now)
    }

    /// The timestamp file (5.4.1).
    #[must_use]
    pub fn timestamp_wanted(&self) -> Wanted {
        Wanted { file: RoleName::Timestamp.file(), size_bytes_max: Timestamp::SIZE_BYTES_MAX }
    }

    /// Takes a timestamp: signed, not older than the trusted one in itself or in the snapshot it names, not expired
    /// (5.4.2 to 5.4.4). One of the same version leaves the trusted one in place.
    ///
    /// # Errors
    /// When a check fails; the trusted timestamp stays.
    pub fn update_timestamp(&mut self, bytes: &[u8], now: OffsetDateTime) -> Result<Fresh, TufError> {
        let next = Signed::<Timestamp>::parse(bytes)?;
        self.root.vouches_for(&next)?;
        if let Some(trusted) = &self.timestamp {
            not_older(RoleName::Timestamp, next.body().version, trusted.body().version)?;
            if next.body().version == trusted.body().version {
                trusted.body().check_expiry(now)?;
                return Ok(Fresh::Same);
            }
            let (found, trusted) = (&next.body().snapshot, &trusted.body().snapshot);
            not_older(RoleName::Snapshot, found.version, trusted.version)?;
        }
        next.body().check_expiry(now)?;
        self.timestamp = Some(Arc::new(next));
        Ok(Fresh::New)
    }

    /// The snapshot file that the timestamp names; `None` when the trusted one is it.
    ///
    /// # Errors
    /// When there is no timestamp yet.
    pub fn snapshot_wanted(&self) -> Result<Option<Wanted>, TufError> {
        let meta = self.snapshot_meta()?;
        let current = self.snapshot.as_ref().is_some_and(|s| is_named(meta, s.body().version, s.bytes()));
        Ok((!current).then(|| self.wanted::<Snapshot>(meta)))
    }

    /// Takes the snapshot that the timestamp names: its hash, length and version, signed, no file in it gone or older than
    /// before, not expired (5.5.2 to 5.5.6).
    ///
    /// # Errors
    /// When a check fails; the trusted snapshot stays.
    pub fn update_snapshot(&mut self, bytes: &[u8], now: OffsetDateTime) -> Result<(), TufError> {
        let meta = self.snapshot_meta()?;
        meta.check("snapshot metadata", bytes)?;
        let next = Signed::<Snapshot>::parse(bytes)?;
        self.root.vouches_for(&next)?;
        same_version(RoleName::Snapshot, next.body().version, meta.version, RoleName::Timestamp)?;
        if let Some(trusted) = &self.snapshot {
            nothing_lost(trusted.body(), next.body())?;
        }
        next.body().check_expiry(now)?;
        self.snapshot = Some(Arc::new(next));
        Ok(())
    }

    /// The targets file that the snapshot names; `None` when the trusted one is it.
    ///
    /// # Errors
    /// When the trusted snapshot is not the one that the timestamp names, has expired, or names no targets.
    pub fn targets_wanted(&self, now: OffsetDateTime) -> Result<Option<Wanted>, TufError> {
        let meta = self.targets_meta(now)?;
        let current = self.targets.as_ref().is_some_and(|t| is_named(meta, t.body().version, t.bytes()));
        Ok((!current).then(|| self.wanted::<Targets>(meta)))
    }

    /// Takes the targets that the snapshot names: hash, length and version, signed, not expired (5.6.2 to 5.6.5).
    ///
    /// # Errors
    /// When a check fails; the trusted targets stay.
    pub fn update_targets(&mut self, bytes: &[u8], now: OffsetDateTime) -> Result<(), TufError> {
        let meta = self.targets_meta(now)?;
        meta.check("targets metadata", bytes)?;
        let next = Signed::<Targets>::parse(bytes)?;
        self.root.vouches_for(&next)?;
        same_version(RoleName::Targets, next.body().version, meta.version, RoleName::Snapshot)?;
        next.body().check_expiry(now)?;
        self.targets = Some(Arc::new(next));
        Ok(())
    }

    /// Takes a delegated role's file: as the snapshot names it, signed as its delegator demands now, not expired.
    ///
    /// # Errors
    /// When a check fails; what was trusted stays.
    pub fn update_delegated(
        &mut self,
        visit: &Visit,
        bytes: &[u8],
        now: OffsetDateTime,
    ) -> Result<(), TufError> {
        let check = || {
            let meta = self.delegated_meta(visit, now)?;
            meta.check("its metadata", bytes)?;
            let next = Signed::<Targets>::parse(bytes)?;
            self.delegator_vouches(visit, &next)?;
            same_version(RoleName::Targets, next.body().version, meta.version, RoleName::Snapshot)?;
            next.body().check_expiry(now)?;
            Ok(next)
        };
        let next = check().map_err(|e: TufError| e.of(&visit.role))?;
        self.delegated.insert(visit.role.clone(), Arc::new(next));
        Ok(())
    }

    /// The targets role of a visit, if it is here, the one that the snapshot names, and signed as the delegator demands that led
    /// to it: another may have vouched for it before.
    ///
    /// # Errors
    /// When it is past its date, or the roles above it are not whole.
    pub(super) fn current(
        &self,
        visit: &Visit,
        now: OffsetDateTime,
    ) -> Result<Option<&Signed<Targets>>, TufError> {
        if visit.is_top() {
            self.finish(now)?;
            return Ok(self.targets.as_deref());
        }
        let Some(role) = self.delegated.get(&visit.role) else { return Ok(None) };
        let meta = self.delegated_meta(visit, now).map_err(|e| e.of(&visit.role))?;
        if !is_named(meta, role.body().version, role.bytes()) || self.delegator_vouches(visit, role).is_err()
        {
            return Ok(None);
        }
        role.body().check_expiry(now).map_err(|e| e.of(&visit.role))?;
        Ok(Some(role))
    }

    /// The file of a delegated role, as the snapshot names it.
    ///
    /// # Errors
    /// When the snapshot does not name it, or is not current itself.
    pub(super) fn delegated_wanted(&self, visit: &Visit, now: OffsetDateTime) -> Result<Wanted, TufError> {
        let meta = self.delegated_meta(visit, now).map_err(|e| e.of(&visit.role))?;
        Ok(self.wanted_file::<Targets>(&file_stem(&visit.role), meta))
    }

    fn delegated_meta(&self, visit: &Visit, now: OffsetDateTime) -> Result<&FileMeta, TufError> {
        self.named_by_snapshot(&format!("{}.json", visit.role), now)
    }

    /// Checks that enough of the keys signed that the delegator lists for the role.
    fn delegator_vouches(&self, visit: &Visit, role: &Signed<Targets>) -> Result<(), TufError> {
        let delegator = match visit.delegator.as_str() {
            top if top == RoleName::Targets.as_str() => self.targets.as_ref(),
            other => self.delegated.get(other),
        };
        let terms = delegator.and_then(|d| Some((visit.terms(d)?, d.body().delegations.as_ref()?)));
        let Some((terms, delegations)) = terms else {
            let reason = format!("{:?} does not delegate to it", visit.delegator);
            return Err(TufError::Inconsistent { role: RoleName::Targets, reason });
        };
        role.verify(&terms.keys, &delegations.keys, format_args!("{:?}", visit.delegator))
    }

    /// Checks that all four files are there, belong together and have not expired.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn finish(&self, now: OffsetDateTime) -> Result<(), TufError> {
        self.finish_root(now)?;
        if let Some(Wanted { file, .. }) = self.targets_wanted(now)? {
            return Err(TufError::Absent { file });
        }
        self.targets.as_ref().map_or(Ok(()), |targets| targets.body().check_expiry(now))
    }

    /// Takes back a timestamp that was trusted before; it may have expired.
    pub(super) fn restore_timestamp(&mut self, bytes: &[u8]) -> Result<(), TufError> {
        self.timestamp = Some(Arc::new(self.restored(bytes)?));
        Ok(())
    }

    /// Takes back a snapshot that was trusted before.
    pub(super) fn restore_snapshot(&mut self, bytes: &[u8]) -> Result<(), TufError> {
        self.snapshot = Some(Arc::new(self.restored(bytes)?));
        Ok(())
    }

    /// Takes back targets that were trusted before.
    pub(super) fn restore_targets(&mut self, bytes: &[u8]) -> Result<(), TufError> {
        self.targets = Some(Arc::new(self.restored(bytes)?));
        Ok(())
    }

    fn restored<T: Role>(&self, bytes: &[u8]) -> Result<Signed<T>, TufError> {
        let file = Signed::<T>::parse(bytes)?;
        self.root.vouches_for(&file)?;
        Ok(file)
    }

    /// What the timestamp, which must not have expired when it was taken, says about the snapshot.
    fn snapshot_meta(&self) -> Result<&FileMeta, TufError> {
        match &self.timestamp {
            Some(timestamp) => Ok(&timestamp.body().snapshot),
            None => Err(TufError::Absent { file: RoleName::Timestamp.file() }),
        }
    }

    /// What the current snapshot says about the targets.
    fn targets_meta(&self, now: OffsetDateTime) -> Result<&FileMeta, TufError> {
        self.named_by_snapshot(&RoleName::Targets.file(), now)
    }

    /// What the current snapshot, the one that the timestamp names, says about a targets role's file.
    fn named_by_snapshot(&self, file: &str, now: OffsetDateTime) -> Result<&FileMeta, TufError> {
        if let Some(timestamp) = &self.timestamp {
            timestamp.body().check_expiry(now)?;
        }
        if let Some(Wanted { file, .. }) = self.snapshot_wanted()? {
            return Err(TufError::Absent { file });
        }
        let Some(snapshot) = &self.snapshot else {
            return Err(TufError::Absent { file: RoleName::Snapshot.file() });
        };
        snapshot.body().check_expiry(now)?;
        snapshot.body().files.get(file).ok_or_else(|| TufError::Inconsistent {
            role: RoleName::Snapshot,
            reason: format!("it says nothing about {file}"),
        })
    }

    fn wanted<T: Role>(&self, meta: &FileMeta) -> Wanted {
        self.wanted_file::<T>(T::NAME.as_str(), meta)
    }

    /// `stem` is the role's name as a segment of a URL.
    fn wanted_file<T: Role>(&self, stem: &str, meta: &FileMeta) -> Wanted {
        let file = if self.root.body().consistent_snapshot {
            format!("{}.{stem}.json", meta.version)
        } else {
            format!("{stem}.json")
        };
        let size_bytes_max = meta.length_bytes.unwrap_or(T::SIZE_BYTES_MAX).min(T::SIZE_BYTES_MAX);
        Wanted { file, size_bytes_max }
    }
}

fn is_named(meta: &FileMeta, version: u64, bytes: &[u8]) -> bool {
    meta.version == version && meta.check("", bytes).is_ok()
}

fn keys_changed(old: &Root, new: &Root, role: RoleName) -> bool {
    let (old_role, new_role) = (old.role(role), new.role(role));
    old_role != new_role || old_role.keyids.iter().any(|id| old.keys.get(id) != new.keys.get(id))
}

fn not_older(role: RoleName, found: u64, trusted: u64) -> Result<(), TufError> {
    if found < trusted { Err(TufError::Replayed { role, found, trusted }) } else { Ok(()) }
}

fn same_version(role: RoleName, found: u64, named: u64, by: RoleName) -> Result<(), TufError> {
    if found == named {
        return Ok(());
    }
    let reason = format!("version {found} came, the {by} names version {named}");
    Err(TufError::Inconsistent { role, reason })
}

fn nothing_lost(trusted: &Snapshot, next: &Snapshot) -> Result<(), TufError> {
    for (file, old) in &trusted.files {
        let Some(new) = next.files.get(file) else {
            let reason = format!("{file:?} was in version {} and is gone", trusted.version);
            return Err(TufError::Inconsistent { role: RoleName::Snapshot, reason });
        };
        not_older(RoleName::Targets, new.version, old.version)?;
    }
    Ok(())
}

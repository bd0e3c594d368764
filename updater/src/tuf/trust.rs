//! Trusted metadata in a folder, kept up to date from a source.

use super::{
    FloorMarks, Found, Fresh, Role, RoleName, Root, Rotated, Search, Snapshot, Target, Targets, Timestamp,
    Trusted, TufError, Visit, Wanted, file_stem, plausible_time,
};
use crate::{
    disk::{Disk, Files, create_dirs, write_atomically},
    transport::TransportError,
};
use bytes::Bytes;
use semver::Version;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};
use time::OffsetDateTime;
use whimbrel_wire::ModelName;

/// Most roots followed in one refresh. More are followed in the next one.
pub const ROOT_ROTATIONS_MAX: u32 = 256;
/// Largest accepted file of floors.
const FLOORS_BYTES_MAX: u64 = 4 << 20;
/// The file of floors. Without an ending, so that no role's file has its name.
pub const FLOORS_FILE: &str = "floors";
/// The root before the trusted one, while what the new one makes void is being removed.
const FORMER_ROOT_FILE: &str = "root.before";
const ENDING: &str = ".json";

/// Where metadata files come from.
pub trait Source: Send + Sync {
    /// A metadata file by its name; `None` when the source has none of that name.
    ///
    /// # Errors
    /// When it could not be had whole, or is longer than `size_bytes_max`.
    fn metadata(
        &self,
        file: &str,
        size_bytes_max: u64,
    ) -> impl Future<Output = Result<Option<Bytes>, TransportError>> + Send;
}

impl<S: Source> Source for Arc<S> {
    fn metadata(
        &self,
        file: &str,
        size_bytes_max: u64,
    ) -> impl Future<Output = Result<Option<Bytes>, TransportError>> + Send {
        S::metadata(self, file, size_bytes_max)
    }
}

/// Trusted metadata in a folder: `root.json`, `timestamp.json`, `snapshot.json`, `targets.json` and those of delegated roles
/// as they came, and `floors`. An accepted file is on disk before it is acted upon, so that no restart forgets it.
#[derive(Debug)]
pub struct Trust {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    trusted: Trusted,
    floors: FloorMarks,
    /// What the root on disk made void and is still there.
    unfinished: Option<Rotated>,
}

impl Trust {
    /// Begins a trust folder from a root that was obtained in a trusted way (its hash came with the enrolment).
    ///
    /// # Errors
    /// When the root is not signed as it demands itself, or cannot be written.
    pub fn init(dir: &Path, root: &[u8]) -> Result<Self, TufError> {
        Self::init_on(Arc::new(Files), dir, root)
    }

    /// [`Trust::init`] on another disk.
    ///
    /// # Errors
    /// As [`Trust::init`].
    pub fn init_on(disk: Arc<dyn Disk>, dir: &Path, root: &[u8]) -> Result<Self, TufError> {
        let trusted = Trusted::new(root)?;
        create_dirs(&*disk, dir)?;
        for name in disk.list(dir)? {
            // The root is replaced in one step.
            let role = name != *RoleName::Root.file() && name.to_string_lossy().ends_with(ENDING);
            if role || name == FORMER_ROOT_FILE {
                disk.remove_file(&dir.join(name))?;
            }
        }
        write_atomically(&*disk, &dir.join(RoleName::Root.file()), root)?;
        let floors = read_floors(&*disk, dir)?;
        let trust = Self { dir: dir.to_owned(), floors, disk, trusted, unfinished: None };
        Ok(trust)
    }

    /// Opens a trust folder and checks all that is in it again, save expiry.
    ///
    /// # Errors
    /// When a file cannot be read, is damaged, or is not signed by the trusted root: never taken for a first start.
    pub fn open(dir: &Path) -> Result<Self, TufError> {
        Self::open_on(Arc::new(Files), dir)
    }

    /// [`Trust::open`] on another disk.
    ///
    /// # Errors
    /// As [`Trust::open`].
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, TufError> {
        let damaged = |role: RoleName, e: &dyn std::fmt::Display| TufError::Damaged {
            path: dir.join(role.file()),
            reason: e.to_string(),
        };
        let read = |role: RoleName, max| disk.read(&dir.join(role.file()), max);
        let root = read(RoleName::Root, Root::SIZE_BYTES_MAX)?
            .ok_or_else(|| damaged(RoleName::Root, &"it is missing; enrol the device again"))?;
        let mut trusted = Trusted::new(&root).map_err(|e| damaged(RoleName::Root, &e))?;
        let former = disk.read(&dir.join(FORMER_ROOT_FILE), Root::SIZE_BYTES_MAX)?;
        let targets = read(RoleName::Targets, Targets::SIZE_BYTES_MAX)?;
        let unfinished = match &former {
            Some(former) => {
                Some(rotated(former, &root, targets.as_deref()).map_err(|e| damaged(RoleName::Root, &e))?)
            }
            None => None,
        };
        let void = unfinished.unwrap_or_default();
        if let Some(bytes) = read(RoleName::Timestamp, Timestamp::SIZE_BYTES_MAX)?.filter(|_| !void.online) {
            trusted.restore_timestamp(&bytes).map_err(|e| damaged(RoleName::Timestamp, &e))?;
        }
        if let Some(bytes) = read(RoleName::Snapshot, Snapshot::SIZE_BYTES_MAX)?.filter(|_| !void.online) {
            trusted.restore_snapshot(&bytes).map_err(|e| damaged(RoleName::Snapshot, &e))?;
        }
        if let Some(bytes) = targets.filter(|_| !void.targets) {
            trusted.restore_targets(&bytes).map_err(|e| damaged(RoleName::Targets, &e))?;
        }
        let mut floors = read_floors(&*disk, dir)?;
        if let Some(targets) = trusted.targets() {
            floors.heed(&targets.body().floors, &targets.body().downgrades);
        }
        Ok(Self { dir: dir.to_owned(), floors, disk, trusted, unfinished })
    }

    /// Brings the four top-level roles up to date (section 5). On failure everything accepted so far stays, and nothing else
    /// changes. `clock` is the machine's; see [`plausible_time`].
    ///
    /// # Errors
    /// What could not be fetched, or why it is not trusted.
    pub async fn refresh(&mut self, source: &impl Source, clock: OffsetDateTime) -> Result<(), TufError> {
        self.finish_rotation()?;
        self.refresh_root(source, self.plausible(clock)).await?;
        // Each file is checked on a copy, which replaces the trusted set only once the file is on disk.
        let bytes = fetch(source, self.trusted.timestamp_wanted()).await?;
        let mut next = self.trusted.clone();
        if next.update_timestamp(&bytes, self.plausible(clock))? == Fresh::New {
            self.keep(RoleName::Timestamp.as_str(), &bytes)?;
            self.trusted = next;
        }
        let now = self.plausible(clock);
        if let Some(wanted) = self.trusted.snapshot_wanted()? {
            let bytes = fetch(source, wanted).await?;
            let mut next = self.trusted.clone();
            next.update_snapshot(&bytes, now)?;
            self.keep(RoleName::Snapshot.as_str(), &bytes)?;
            self.trusted = next;
            self.drop_unnamed()?;
        }
        if let Some(wanted) = self.trusted.targets_wanted(now)? {
            let bytes = fetch(source, wanted).await?;
            let mut next = self.trusted.clone();
            next.update_targets(&bytes, now)?;
            self.keep_floors(&next)?;
            self.keep(RoleName::Targets.as_str(), &bytes)?;
            self.trusted = next;
        }
        self.trusted.finish(now)
    }

    /// Looks a target up, through delegations where there are some. Only after a refresh that succeeded is it known to be the
    /// newest. A delegated role's file comes from the folder where that is the current one, else from `source`.
    ///
    /// # Errors
    /// When a role on the way cannot be fetched or trusted.
    pub async fn find(
        &mut self,
        path: &str,
        source: &impl Source,
        clock: OffsetDateTime,
    ) -> Result<Option<Target>, TufError> {
        let now = self.plausible(clock);
        let mut search = Search::new(path);
        loop {
            match search.advance(&self.trusted, now)? {
                Found::Target(target) => return Ok(Some(*target)),
                Found::Nothing => return Ok(None),
                Found::Needs(visit, wanted) => self.load_delegated(&visit, wanted, source, now).await?,
            }
        }
    }

    /// The metadata itself.
    #[must_use]
    pub const fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// The lowest version of a model that may be installed: the highest floor ever seen.
    #[must_use]
    pub fn floor(&self, model: &ModelName) -> Option<&Version> {
        self.floors.floors.get(model)
    }

    async fn refresh_root(&mut self, source: &impl Source, now: OffsetDateTime) -> Result<(), TufError> {
        for _ in 0..ROOT_ROTATIONS_MAX {
            let Wanted { file, size_bytes_max } = self.trusted.root_wanted();
            let Some(bytes) = source.metadata(&file, size_bytes_max).await? else { break };
            let mut next = self.trusted.clone();
            let rotated = next.update_root(&bytes)?;
            if rotated != Rotated::default() {
                // With the former root beside it, a cut on the way leaves no doubt about which files the new one made void. Were they
                // removed first, a cut would forget what was trusted while the former root still is.
                let former = self.trusted.root().bytes();
                write_atomically(&*self.disk, &self.dir.join(FORMER_ROOT_FILE), former)?;
            }
            self.keep(RoleName::Root.as_str(), &bytes)?;
            self.trusted = next;
            self.unfinished = (rotated != Rotated::default()).then_some(rotated);
            self.finish_rotation()?;
        }
        self.trusted.finish_root(now)
    }

    /// Removes what the root made void.
    fn finish_rotation(&mut self) -> Result<(), TufError> {
        let Some(Rotated { online, targets }) = self.unfinished else { return Ok(()) };
        if online {
            self.forget(RoleName::Timestamp)?;
            self.forget(RoleName::Snapshot)?;
        }
        if targets {
            self.forget(RoleName::Targets)?;
        }
        self.disk.remove_file(&self.dir.join(FORMER_ROOT_FILE))?;
        self.disk.sync_dir(&self.dir)?;
        self.unfinished = None;
        Ok(())
    }

    /// The time to check dates against.
    fn plausible(&self, clock: OffsetDateTime) -> OffsetDateTime {
        plausible_time(clock, self.trusted.timestamp().and_then(|timestamp| timestamp.body().signed_at))
    }

    async fn load_delegated(
        &mut self,
        visit: &Visit,
        wanted: Wanted,
        source: &impl Source,
        now: OffsetDateTime,
    ) -> Result<(), TufError> {
        let stem = file_stem(&visit.role);
        // Unlike the top-level files this one is only a copy: whether it is current, the snapshot says.
        let kept = self.disk.read(&self.dir.join(format!("{stem}{ENDING}")), Targets::SIZE_BYTES_MAX);
        if let Ok(Some(bytes)) = kept
            && self.trusted.update_delegated(visit, &bytes, now).is_ok()
        {
            return Ok(());
        }
        let bytes = fetch(source, wanted).await?;
        let mut next = self.trusted.clone();
        next.update_delegated(visit, &bytes, now)?;
        self.keep(&stem, &bytes)?;
        self.trusted = next;
        Ok(())
    }

    /// Removes the files of delegated roles that the snapshot does not name any more.
    fn drop_unnamed(&self) -> Result<(), TufError> {
        let Some(snapshot) = self.trusted.snapshot() else { return Ok(()) };
        let named = snapshot.body().files.keys().filter_map(|file| file.strip_suffix(ENDING)).map(file_stem);
        let mut known: BTreeSet<String> = named.collect();
        known.extend(RoleName::ALL.map(|role| role.to_string()));
        for name in self.disk.list(&self.dir)? {
            let stem = name.to_str().and_then(|name| name.strip_suffix(ENDING));
            if stem.is_some_and(|stem| !known.contains(stem)) {
                self.disk.remove_file(&self.dir.join(name))?;
            }
        }
        Ok(())
    }

    fn keep(&self, stem: &str, bytes: &[u8]) -> Result<(), TufError> {
        Ok(write_atomically(&*self.disk, &self.dir.join(format!("{stem}{ENDING}")), bytes)?)
    }

    fn forget(&self, role: RoleName) -> Result<(), TufError> {
        self.disk.remove_file(&self.dir.join(role.file()))?;
        Ok(self.disk.sync_dir(&self.dir)?)
    }

    /// Heeds what the targets role says about floors; on disk before the targets are, so that no restart forgets it.
    fn keep_floors(&mut self, next: &Trusted) -> Result<(), TufError> {
        let Some(targets) = next.targets() else { return Ok(()) };
        let mut floors = self.floors.clone();
        floors.heed(&targets.body().floors, &targets.body().downgrades);
        if floors != self.floors {
            let text = serde_json::to_vec(&floors)
                .map_err(|e| TufError::Malformed { role: RoleName::Targets, reason: e.to_string() })?;
            write_atomically(&*self.disk, &self.dir.join(FLOORS_FILE), &text)?;
            self.floors = floors;
        }
        Ok(())
    }
}

async fn fetch(source: &impl Source, wanted: Wanted) -> Result<Bytes, TufError> {
    let Wanted { file, size_bytes_max } = wanted;
    source.metadata(&file, size_bytes_max).await?.ok_or(TufError::Absent { file })
}

/// What the step from the former root to the trusted one made void, or nothing where that step was not done yet.
fn rotated(former: &[u8], root: &[u8], targets: Option<&[u8]>) -> Result<Rotated, TufError> {
    if former == root {
        return Ok(Rotated::default());
    }
    let mut trusted = Trusted::new(former)?;
    if let Some(bytes) = targets {
        // Targets that the former root did not sign came after it: they stand or fall with the trusted one.
        let _ = trusted.restore_targets(bytes);
    }
    trusted.update_root(root)
}

fn read_floors(disk: &dyn Disk, dir: &Path) -> Result<FloorMarks, TufError> {
    let path = dir.join(FLOORS_FILE);
    let Some(bytes) = disk.read(&path, FLOORS_BYTES_MAX)? else { return Ok(FloorMarks::default()) };
    serde_json::from_slice(&bytes).map_err(|e| TufError::Damaged { path, reason: e.to_string() })
}

//! A disk in memory whose power can be cut.

mod calls;
mod careless;
mod content;
mod survive;
mod tree;

pub use careless::{Careless, Carelessness, Forgotten};
pub use survive::Image;

use content::Content;
use std::{
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;
use tree::{Node, Tree};
use whimbrel_updater::disk::DiskError;

/// What space is given out in.
pub const BLOCK_BYTES: u64 = 4096;
/// The size of a disk where nothing else is asked for.
const CAPACITY_BYTES: u64 = 256 << 20;

/// How a disk refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `EIO`.
    Io,
    /// `ENOSPC`.
    Full,
    /// `EROFS`.
    ReadOnly,
}

/// A disk in memory, as one process has it. Clones are the same disk.
///
/// Every call that changes something is an operation with a number, from 0; the power can be cut before any of them. A
/// call that changes nothing (a sync with nothing to sync, a removal of what is absent) is none. After the cut every
/// call fails; [`SimDisk::survivor`] is the disk that the next process finds.
#[derive(Clone)]
pub struct SimDisk(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    off: watch::Sender<bool>,
}

#[derive(Clone)]
struct State {
    tree: Tree,
    operations: u64,
    /// What the operations were, mixed into one number.
    fingerprint: u64,
    /// The operation that was about to be done when the power was cut.
    cut_at: Option<String>,
    off: bool,
    cut_before: Option<u64>,
    /// From which operation on, how many, and how.
    refuse: Option<(u64, u64, Refusal)>,
    read_only: bool,
    capacity_bytes: u64,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("operations", &self.operations()).finish_non_exhaustive()
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::of(Tree::new(), CAPACITY_BYTES)
    }
}

impl SimDisk {
    fn of(tree: Tree, capacity_bytes: u64) -> Self {
        let state = State {
            tree,
            operations: 0,
            fingerprint: 0,
            cut_at: None,
            off: false,
            cut_before: None,
            refuse: None,
            read_only: false,
            capacity_bytes,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), off: watch::channel(false).0 }))
    }

    /// Operations done.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// A number that differs when the operations, or their order, do.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.lock().fingerprint
    }

    /// The operation that was about to be done when the power was cut.
    #[must_use]
    pub fn cut_at(&self) -> Option<String> {
        self.lock().cut_at.clone()
    }

    /// Cuts the power before this operation; not at all with `None`.
    pub fn cut_before(&self, operation: Option<u64>) {
        self.lock().cut_before = operation;
    }

    /// Cuts the power now.
    pub fn cut(&self) {
        self.lock().off = true;
        self.0.off.send_replace(true);
    }

    /// Whether the power was cut.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.lock().off
    }

    /// Waits until the power is cut.
    pub async fn until_off(&self) {
        let mut off = self.0.off.subscribe();
        // The sender lives as long as the disk.
        let _ = off.wait_for(|off| *off).await;
    }

    /// The disk after a power cut at this moment.
    #[must_use]
    pub fn survivor(&self, image: Image) -> Self {
        let state = self.lock().clone();
        Self::of(survive::survive(state.tree, image), state.capacity_bytes)
    }

    /// The disk as another process finds it after this one ended and the power did not: all that was written is there, but
    /// no more of it is durable than was. Faults stay, also a cut that is still to come; this process can do no more.
    #[must_use]
    pub fn handed_over(&self) -> Self {
        let state = State { off: false, ..self.lock().clone() };
        self.cut();
        Self(Arc::new(Shared { state: Mutex::new(state), off: watch::channel(false).0 }))
    }

    /// A disk with the same content that goes its own way from now on.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.lock().clone();
        Self(Arc::new(Shared { state: Mutex::new(state), off: watch::channel(false).0 }))
    }

    /// Refuses `count` operations from the one numbered `from`.
    pub fn refuse(&self, from: u64, count: u64, how: Refusal) {
        self.lock().refuse = Some((from, count, how));
    }

    /// Refuses nothing any more.
    pub fn heal(&self) {
        let mut state = self.lock();
        (state.refuse, state.read_only, state.capacity_bytes) = (None, false, CAPACITY_BYTES);
    }

    /// Refuses all operations.
    pub fn set_read_only(&self) {
        self.lock().read_only = true;
    }

    /// Leaves this much free space.
    pub fn set_free_bytes(&self, bytes: u64) {
        let mut state = self.lock();
        state.capacity_bytes = state.tree.used_bytes(BLOCK_BYTES).saturating_add(bytes);
    }

    /// Every file there is, by its path.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut open = vec![std::path::PathBuf::from("/")];
        while let Some(dir) = open.pop() {
            let state = self.lock();
            let Some(Node::Folder(folder)) = state.tree.find(&dir).map(|id| &state.tree.nodes[id]) else {
                continue;
            };
            for (name, id) in &folder.live {
                match &state.tree.nodes[*id] {
                    Node::File(_) => files.push(dir.join(name).display().to_string()),
                    Node::Folder(_) => open.push(dir.join(name)),
                }
            }
        }
        files.sort();
        files
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look<T>(
        &self,
        attempted: &'static str,
        path: &Path,
        look: impl FnOnce(&Tree) -> io::Result<T>,
    ) -> Result<T, DiskError> {
        let state = self.lock();
        let result = if state.off { Err(power_is_off()) } else { look(&state.tree) };
        result.map_err(|source| DiskError { attempted, path: path.to_owned(), source })
    }

    /// Does an operation, unless `change` says that there is nothing to do.
    fn operate(
        &self,
        attempted: &'static str,
        path: &Path,
        is_needed: impl FnOnce(&Tree) -> bool,
        change: impl FnOnce(&mut State) -> io::Result<()>,
    ) -> Result<(), DiskError> {
        let mut state = self.lock();
        let result = state
            .begin(attempted, path, is_needed)
            .and_then(|begun| if begun { change(&mut state) } else { Ok(()) });
        let off = state.off;
        drop(state);
        if off {
            self.0.off.send_replace(true);
        }
        result.map_err(|source| DiskError { attempted, path: path.to_owned(), source })
    }
}

impl State {
    /// Counts an operation that is about to be done; `false` where there is nothing to do.
    fn begin(
        &mut self,
        attempted: &str,
        path: &Path,
        is_needed: impl FnOnce(&Tree) -> bool,
    ) -> io::Result<bool> {
        if self.off {
            return Err(power_is_off());
        }
        // As on Linux, where a removal on a read-only file system fails even when there is nothing to remove.
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if !is_needed(&self.tree) {
            return Ok(false);
        }
        if self.cut_before == Some(self.operations) {
            self.off = true;
            self.cut_at = Some(format!("{attempted} {}", path.display()));
            return Err(power_is_off());
        }
        let number = self.operations;
        self.operations += 1;
        for byte in attempted.bytes().chain(path.to_string_lossy().bytes()) {
            self.fingerprint = (self.fingerprint ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        match self.refuse {
            Some((from, count, how)) if number >= from && number - from < count => Err(how.error()),
            _ => Ok(true),
        }
    }

    fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.tree.used_bytes(BLOCK_BYTES))
    }

    fn open_or_create(&mut self, path: &Path) -> io::Result<tree::NodeId> {
        match self.tree.find(path) {
            Some(id) => Ok(id),
            None => self.tree.create(path, Node::File(Content::default())),
        }
    }

    /// How long a file may become.
    fn room_bytes(&self, id: tree::NodeId) -> io::Result<usize> {
        let taken = (self.tree.file(id)?.live.len() as u64).div_ceil(BLOCK_BYTES) * BLOCK_BYTES;
        Ok(usize::try_from(taken.saturating_add(self.free_bytes())).unwrap_or(usize::MAX))
    }

    /// Writes as much as there is room for.
    fn fill(&mut self, id: tree::NodeId, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let fits = bytes.len().min(self.room_bytes(id)?.saturating_sub(offset));
        self.tree.file_mut(id)?.write_at(offset, &bytes[..fits]);
        if fits == bytes.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

impl Refusal {
    fn error(self) -> io::Error {
        match self {
            // What Linux numbers EIO; there is no kind of that name.
            Self::Io => io::Error::from_raw_os_error(5),
            Self::Full => io::ErrorKind::StorageFull.into(),
            Self::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
        }
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

#[cfg(test)]
mod tests;

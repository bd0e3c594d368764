//! Writing beside the first answers, so that readers see the old file or the new one.

use super::{file, record::Written};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

/// How long writing waits, so that the first answers have the machine to themselves.
const DELAY: Duration = Duration::from_secs(1);

/// What is being written. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(super) struct Pending(Arc<Mutex<Vec<Job>>>);

/// A thread, and what makes it begin at once when it is dropped.
type Job = (JoinHandle<()>, Sender<()>);

impl Pending {
    /// Waits until all is written.
    pub(super) fn finish(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (thread, begin) in all {
            drop(begin);
            // A panic has said why.
            let _ = thread.join();
        }
    }

    /// Does something soon, on a thread of its own.
    pub(super) fn start(&self, work: impl FnOnce() + Send + 'static) {
        let (begin, wait) = channel::<()>();
        let work = move || {
            // Ends at once where somebody waits for it.
            let _ = wait.recv_timeout(DELAY);
            work();
        };
        match std::thread::Builder::new().name("plan-cache".to_owned()).spawn(work) {
            Ok(thread) => self.0.lock().unwrap_or_else(PoisonError::into_inner).push((thread, begin)),
            Err(error) => tracing::warn!(%error, "the plan cache is not written"),
        }
    }
}

/// Writes a file; whether it was done here, rather than by somebody else at the same time.
///
/// # Errors
/// The disk or the system refuses.
pub(super) fn write(path: &Path, key: &[u8], record: &Written) -> io::Result<bool> {
    let new = new_path(path);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&new)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Another may have renamed it between the two calls: it is a file in use now, never to be changed.
    if !is_at(&file, &new)? {
        return Ok(false);
    }
    let written = write_whole(&file, key, record).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        fs::remove_file(&new).ok();
    }
    written?;
    // A file that is gone after a power cut is made again, so what the folder's own write says does not matter.
    let folder = path.parent().and_then(|folder| File::open(folder).ok());
    folder.map(|folder| folder.sync_all());
    Ok(true)
}

fn write_whole(file: &File, key: &[u8], record: &Written) -> io::Result<()> {
    file.set_len(0)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file::write(file, key, record)?;
    file.sync_all()
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let here = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((here.dev(), here.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn new_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

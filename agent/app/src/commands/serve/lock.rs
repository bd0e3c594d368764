//! Only one agent per state folder.

use crate::failure::Failure;
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::Path,
};
use whimbrel_updater::disk::{Files, create_dirs};

const FILE: &str = "agent.lock";

/// The right to use a state folder; ends with the process, however that ends.
#[derive(Debug)]
pub(in crate::commands) struct Lock {
    /// `None` where the folder cannot be used.
    state: Option<State>,
}

#[derive(Debug)]
enum State {
    Locked {
        _file: File,
    },
    /// The disk would not make the lock file: full, or read-only. What is there already can still be served.
    Unlocked,
}

impl Lock {
    /// Takes the lock, and makes the folder where it is absent. Where the folder cannot be made and is not `needed`, the
    /// agent goes without state.
    ///
    /// # Errors
    /// Another agent has the folder, or it cannot be made and is needed.
    pub(in crate::commands) fn take(dir: &Path, needed: bool) -> Result<Self, Failure> {
        let attempted = || format!("using the state folder {}", dir.display());
        if let Err(error) = create_dirs(&Files, dir) {
            if needed {
                return Err(Failure::failed(attempted(), error)
                    .hint("make the folder and give it to this user, or name another with --state-dir"));
            }
            tracing::warn!(dir = %dir.display(), %error, "no state folder: nothing is kept, and no fleet is followed");
            return Ok(Self { state: None });
        }
        let path = dir.join(FILE);
        let file = match OpenOptions::new().create(true).truncate(false).write(true).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied && !needed => {
                tracing::warn!(dir = %dir.display(), "no permission in the state folder: nothing is kept");
                return Ok(Self { state: None });
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::ReadOnlyFilesystem) => {
                tracing::error!(dir = %dir.display(), error = %e, "the lock cannot be made; going on without");
                return Ok(Self { state: Some(State::Unlocked) });
            }
            Err(e) => return Err(Failure::failed(attempted(), format!("opening {}: {e}", path.display()))),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = std::fs::read_to_string(&path).unwrap_or_default();
                let who = pid
                    .trim()
                    .parse::<u32>()
                    .map_or_else(|_| String::new(), |pid| format!(" (process {pid})"));
                return Err(Failure::failed(attempted(), format!("another agent is using it{who}"))
                    .hint("stop the other agent, or name another folder with --state-dir"));
            }
            Err(TryLockError::Error(e)) => {
                return Err(Failure::failed(attempted(), format!("locking {}: {e}", path.display())));
            }
        }
        // Only for the message above.
        let _ = file.set_len(0).and_then(|()| (&file).write_all(std::process::id().to_string().as_bytes()));
        Ok(Self { state: Some(State::Locked { _file: file }) })
    }

    /// Whether there is a folder to keep things in.
    pub(super) const fn state_is_usable(&self) -> bool {
        self.state.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_refused_with_the_first_ones_process_and_comes_in_after_its_end() {
        let dir = tempfile::tempdir().expect("folder");
        let state = dir.path().join("state");
        let first = Lock::take(&state, true).expect("free");
        assert!(first.state_is_usable());
        let failure = Lock::take(&state, true).expect_err("taken").to_string();
        assert!(failure.contains(&std::process::id().to_string()), "{failure}");
        assert!(Lock::take(&state, false).is_err());
        drop(first);
        Lock::take(&state, true).expect("free again");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error_only_where_it_is_needed() {
        let dir = tempfile::tempdir().expect("folder");
        std::fs::write(dir.path().join("file"), b"").expect("written");
        let state = dir.path().join("file/state");
        assert!(Lock::take(&state, true).is_err());
        assert!(!Lock::take(&state, false).expect("goes without").state_is_usable());
    }
}

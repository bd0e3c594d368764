//! The newest desired state: from whichever way it came, remembered over restarts.

use crate::failure::chain;
use std::{
    fs, io,
    io::Read,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};
use tokio::sync::watch;
use whimbrel_updater::disk::{Files, write_atomically};
use whimbrel_wire::{Message, decode, desired::DesiredState, encode};

/// Takes desired states in, keeps the newest on disk, and passes it on.
pub(crate) struct Inbox {
    path: PathBuf,
    /// `None` once closed.
    sender: Mutex<Option<watch::Sender<Option<DesiredState>>>>,
}

/// What became of a desired state.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is new and was passed on.
    New { serial: u64 },
    /// It is the one that is known.
    Same,
    /// It is older than the one that is known.
    Older { serial: u64, known: u64 },
    /// It is none.
    Bad(String),
    /// The agent is stopping.
    Closed,
}

impl Inbox {
    /// Begins with the state that the file holds. A file that cannot be read is set aside: the server will say it again.
    pub(crate) fn open(path: PathBuf) -> (Self, watch::Receiver<Option<DesiredState>>) {
        let known = read(&path).unwrap_or_else(|why| {
            let aside = path.with_extension("unreadable");
            tracing::error!(path = %path.display(), why, aside = %aside.display(), "the desired state is set aside");
            if let Err(error) = fs::rename(&path, &aside) {
                tracing::warn!(%error, "it could not be set aside");
            }
            None
        });
        let (sender, receiver) = watch::channel(known);
        (Self { path, sender: Mutex::new(Some(sender)) }, receiver)
    }

    /// Takes the bytes of a message.
    pub(crate) fn take(&self, bytes: &[u8]) -> Taken {
        let state = match decode::<DesiredState>(bytes) {
            Ok(state) => state,
            Err(e) => return Taken::Bad(e.to_string()),
        };
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = &*sender else { return Taken::Closed };
        let serial = state.serial;
        if let Some(known) = sender.borrow().as_ref().map(|s| s.serial)
            && serial <= known
        {
            return if serial == known { Taken::Same } else { Taken::Older { serial, known } };
        }
        if let Err(error) = encode(&state)
            .map_err(|e| e.to_string())
            .and_then(|bytes| write_atomically(&Files, &self.path, &bytes).map_err(|e| chain(&e)))
        {
            // It is followed all the same; only a restart without the server would not know it.
            tracing::warn!(error, "the desired state could not be remembered");
        }
        sender.send_replace(Some(state));
        Taken::New { serial }
    }

    /// Serial of the newest state; 0 before the first.
    pub(crate) fn serial(&self) -> u64 {
        self.look(|state| state.serial).unwrap_or(0)
    }

    /// Seconds between polls that the server asks for.
    pub(crate) fn poll_s(&self) -> Option<u32> {
        self.look(|state| state.poll_s)
    }

    /// Nothing is taken any more, and whoever follows the states sees their end.
    pub(crate) fn close(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn look<T>(&self, look: impl FnOnce(&DesiredState) -> T) -> Option<T> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().and_then(|s| s.borrow().as_ref().map(look))
    }
}

fn read(path: &Path) -> Result<Option<DesiredState>, String> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.to_string()),
    };
    let mut bytes = Vec::new();
    file.take(DesiredState::SIZE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    decode(&bytes).map(Some).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(serial: u64) -> Vec<u8> {
        encode(&DesiredState { serial, models: vec![], poll_s: 30 }).expect("encodes")
    }

    #[test]
    fn the_newest_state_is_followed_and_survives_a_restart() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("desired.wbd");
        {
            let (inbox, receiver) = Inbox::open(path.clone());
            assert_eq!((inbox.serial(), inbox.poll_s()), (0, None));
            assert_eq!(inbox.take(&state(3)), Taken::New { serial: 3 });
            assert_eq!(inbox.take(&state(3)), Taken::Same);
            assert_eq!(inbox.take(&state(2)), Taken::Older { serial: 2, known: 3 });
            assert!(matches!(inbox.take(b"\x01\xff"), Taken::Bad(_)));
            assert_eq!(receiver.borrow().as_ref().map(|s| s.serial), Some(3));
        }
        let (inbox, mut receiver) = Inbox::open(path);
        assert_eq!(receiver.borrow_and_update().as_ref().map(|s| s.serial), Some(3));
        assert_eq!(inbox.take(&state(2)), Taken::Older { serial: 2, known: 3 });
        inbox.close();
        assert_eq!(inbox.take(&state(4)), Taken::Closed);
        assert!(receiver.has_changed().is_err());
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_a_disk_that_refuses_stops_nothing() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("desired.wbd");
        fs::write(&path, b"\x01damaged").expect("written");
        let (inbox, _receiver) = Inbox::open(path.clone());
        assert_eq!(inbox.serial(), 0);
        assert!(path.with_extension("unreadable").exists());
        let (inbox, receiver) = Inbox::open(dir.path().join("absent/desired.wbd"));
        assert_eq!(inbox.take(&state(9)), Taken::New { serial: 9 });
        assert_eq!(receiver.borrow().as_ref().map(|s| s.serial), Some(9));
    }
}

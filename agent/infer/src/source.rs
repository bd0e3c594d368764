//! Where a model's bytes come from: memory, or a file that is read piece by piece.

use std::{
    fmt,
    fs::{File, Metadata},
    io,
    ops::Range,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// The bytes of a model file. Cloning shares them.
///
/// A file stays open, and is read again when a plan for other shapes needs its weights: memory holds them once, packed.
#[derive(Clone)]
pub struct Source(Arc<Kind>);

enum Kind {
    Memory(Vec<u8>),
    File { file: File, len: u64, modified: Option<SystemTime>, stamp: Option<String> },
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl Source {
    /// Bytes in memory.
    #[must_use]
    pub fn of_bytes(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Kind::Memory(bytes)))
    }

    /// A file.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            // A pipe or a device has no length and cannot be read twice.
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(&file, PIPE_BYTES_MAX), &mut bytes)?;
            return Ok(Self::of_bytes(bytes));
        }
        Ok(Self(Arc::new(Kind::File {
            len: about.len(),
            modified: about.modified().ok(),
            stamp: stamp(&about),
            file,
        })))
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &*self.0 {
            Kind::Memory(bytes) => bytes.len() as u64,
            Kind::File { len, .. } => *len,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `into` with the bytes from `at` on.
    ///
    /// # Errors
    /// There are not as many, or the file cannot be read or was changed since it was opened.
    pub fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        match &*self.0 {
            Kind::Memory(bytes) => {
                let start = usize::try_from(at).unwrap_or(usize::MAX);
                let from = bytes.get(start..).and_then(|rest| rest.get(..into.len()));
                into.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Kind::File { file, len, modified, .. } => {
                file.read_exact_at(into, at)?;
                let now = file.metadata()?;
                if now.len() == *len && now.modified().ok() == *modified {
                    return Ok(());
                }
                Err(io::Error::other("the file was changed while the model was in use"))
            }
        }
    }

    /// A part as bytes of their own.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn bytes(&self, range: &Range<u64>) -> io::Result<Vec<u8>> {
        let len = range.end.min(self.len()).saturating_sub(range.start);
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        self.read(range.start, &mut bytes)?;
        Ok(bytes)
    }

    /// What tells a file from others and from what it may become; `None` for memory, and for a file that was changed so lately that a
    /// change to come might look the same.
    pub(crate) fn stamp(&self) -> Option<&str> {
        match &*self.0 {
            Kind::Memory(_) => None,
            Kind::File { stamp, .. } => stamp.as_deref(),
        }
    }

    /// All bytes, where they are in memory.
    #[must_use]
    pub fn in_memory(&self) -> Option<&[u8]> {
        match &*self.0 {
            Kind::Memory(bytes) => Some(bytes),
            Kind::File { .. } => None,
        }
    }
}

/// Most bytes that are read of what is no file; the limits of the import say less.
const PIPE_BYTES_MAX: u64 = 1 << 31;

/// Systems count the time of changes in steps of up to this.
const TIME_STEP: Duration = Duration::from_secs(2);

fn stamp(about: &Metadata) -> Option<String> {
    let changed = Duration::new(about.ctime().try_into().ok()?, about.ctime_nsec().try_into().ok()?);
    let settled = SystemTime::UNIX_EPOCH.checked_add(changed)?.max(about.modified().ok()?);
    SystemTime::now().duration_since(settled).is_ok_and(|age| age > TIME_STEP).then(|| {
        let times = [about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()];
        format!("{}:{} {} {times:?}", about.dev(), about.ino(), about.len())
    })
}

/// Elements of a tensor that lie in a source.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) source: Source,
    pub(crate) range: Range<u64>,
    /// Read for those who want them as a slice, and then kept.
    pub(crate) kept: Arc<std::sync::OnceLock<Option<Vec<u8>>>>,
}

impl Stored {
    pub(crate) fn new(source: Source, range: Range<u64>) -> Self {
        Self { source, range, kept: Arc::default() }
    }

    pub(crate) fn kept(&self) -> Option<&[u8]> {
        self.kept.get_or_init(|| self.source.bytes(&self.range).ok()).as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_not_read_any_more() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("model");
        std::fs::write(&path, b"weights").expect("written");
        let source = Source::open(&path).expect("opened");
        assert_eq!(source.bytes(&(2..6)).expect("read"), b"ight");
        assert!(source.bytes(&(5..9)).is_ok_and(|bytes| bytes == b"ts"));
        assert!(source.read(5, &mut [0; 3]).is_err());
        std::fs::write(&path, b"other weights").expect("written");
        assert!(source.bytes(&(2..6)).is_err());
    }

    #[test]
    fn a_file_has_a_stamp_once_it_has_settled() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("model");
        std::fs::write(&path, b"weights").expect("written");
        assert_eq!(Source::open(&path).expect("opened").stamp(), None);
        let about = path.metadata().expect("there");
        assert_eq!(stamp(&about), None);
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let here = Source::open(&here).expect("older than this program");
        assert!(here.stamp().is_some_and(|stamp| stamp.contains(&here.len().to_string())));
    }

    #[test]
    fn memory_and_files_read_alike() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("model");
        std::fs::write(&path, b"0123456789").expect("written");
        let (file, memory) = (Source::open(&path).expect("opened"), Source::of_bytes(b"0123456789".to_vec()));
        for range in [0..10, 3..4, 9..20] {
            assert_eq!(file.bytes(&range).ok(), memory.bytes(&range).ok(), "{range:?}");
        }
    }
}

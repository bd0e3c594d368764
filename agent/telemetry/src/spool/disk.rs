//! The spool's folders on disk: names, sizes, moving aside, removing.

use super::SpoolError;
use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

const PREFIX: &str = "generation-";

pub(super) fn generation_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{number:010}"))
}

/// The generations in a folder, oldest first, and the highest number that any folder, moved aside or not, bears.
pub(super) fn list(dir: &Path) -> Result<(Vec<(u64, PathBuf)>, u64), SpoolError> {
    let fail = |source| SpoolError::Io { attempted: "listing", path: dir.to_owned(), source };
    let (mut found, mut highest) = (Vec::new(), 0);
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let Some(rest) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(PREFIX))
        else {
            continue;
        };
        let (digits, aside) = match rest.split_once('.') {
            Some((digits, _)) => (digits, true),
            None => (rest, false),
        };
        let Ok(number) = digits.parse::<u64>() else { continue };
        highest = highest.max(number);
        if !aside {
            found.push((number, path));
        }
    }
    found.sort();
    Ok((found, highest))
}

/// Moves a damaged generation to `NAME.corrupt-TIME`, for inspection.
pub(super) fn move_aside(path: &Path, now_ms: i64) -> Result<PathBuf, SpoolError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".corrupt-{now_ms}"));
    let to = PathBuf::from(name);
    fs::rename(path, &to).map_err(|source| SpoolError::Io {
        attempted: "moving aside the damaged generation",
        path: path.to_owned(),
        source,
    })?;
    Ok(to)
}

/// Removes the oldest folders that were moved aside until what is left takes at most `size_bytes_max`.
pub(super) fn trim_aside(dir: &Path, size_bytes_max: u64) -> io::Result<()> {
    let mut aside: Vec<PathBuf> = fs::read_dir(dir)?
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.contains(".corrupt-")))
        .collect();
    aside.sort();
    let mut sizes: Vec<u64> = aside.iter().map(|p| size_bytes(p)).collect();
    for path in aside {
        if sizes.iter().sum::<u64>() <= size_bytes_max {
            break;
        }
        remove(&path)?;
        sizes.remove(0);
    }
    Ok(())
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

const MARK: &str = "mark";

/// Writes the mark: what the spool knew after its last append. Replaced whole, so it is the old or the new one.
pub(super) fn write_mark(dir: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join("mark.new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(MARK))?;
    fs::File::open(dir)?.sync_all()
}

pub(super) fn read_mark(dir: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::File::open(dir.join(MARK)) {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(256).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// What a file or folder takes on disk. Files that vanish meanwhile count as nothing.
pub(super) fn size_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    let own = meta.blocks().saturating_mul(512);
    if !meta.is_dir() {
        return own;
    }
    let Ok(entries) = fs::read_dir(path) else { return own };
    entries.filter_map(Result::ok).fold(own, |sum, e| sum.saturating_add(size_bytes(&e.path())))
}

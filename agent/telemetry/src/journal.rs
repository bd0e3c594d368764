//! The file of an open window.
//!
//! ```text
//! name    {boot:016x}-{sequence:016x}.journal     identity of the first batch that the window becomes
//! offset  0  magic "WHBJ"      4  format u32 = 1   8  boot u64   16  sequence u64   24  crc32 of bytes 0..24
//! then frames, little-endian:  length u32 of kind and payload, crc32 u32 of both, kind u8, payload
//!   kind 1  declares the next model version: model, version, features (name, edges), confidence edges
//!   kind 2  one entry: index u16 of the model version, in order of declaration, and what was observed
//! ```
//! A file ends where the first frame is short, has a wrong CRC or makes no sense: a write that was cut off. What comes
//! before it counts.

use crate::{
    bytes::{Reader, put_numbers, put_text},
    spool::BatchId,
    window::{Declared, Entry, OpenWindow},
};
use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};
use whimbrel_wire::telemetry::{EDGES_MAX, FEATURES_MAX};

const MAGIC: &[u8; 4] = b"WHBJ";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 28;
const FRAME_HEAD_BYTES: usize = 8;
/// Largest accepted frame: a declaration of every allowed feature with every allowed edge is 150 KiB.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// Largest file that replay reads; the recorder stays far below.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Most model versions in one file.
pub(crate) const DECLARED_MAX: usize = 1024;
const EXTENSION: &str = "journal";

const DECLARE: u8 = 1;
const ENTRY: u8 = 2;

/// An open journal file, written at its end.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    /// Where the next frame goes. Bytes beyond are the rest of a write that failed.
    len: u64,
    /// Whether there may be bytes beyond `len`.
    torn: bool,
}

impl Journal {
    /// Makes the file of a new window, durably, so that its identity is never handed out again.
    pub(crate) fn create(dir: &Path, id: BatchId) -> io::Result<Self> {
        let path = dir.join(file_name(id));
        let mut file = OpenOptions::new().create_new(true).write(true).open(&path)?;
        let made = file
            .write_all(&header(id))
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(dir)?.sync_all());
        if let Err(e) = made {
            // Best effort: an empty journal that stays is recognised by replay and removed there.
            let _ = std::fs::remove_file(&path);
            return Err(e);
        }
        Ok(Self { file, path, len: HEADER_BYTES as u64, torn: false })
    }

    /// Opens a file that was replayed, to go on after its last good frame.
    pub(crate) fn resume(path: &Path, good_bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(good_bytes)?;
        let mut journal = Self { file, path: path.to_owned(), len: good_bytes, torn: true };
        journal.rewind()?;
        Ok(journal)
    }

    /// Appends frames with one write. On failure the file is as before, or made so by the next call.
    pub(crate) fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        if self.torn {
            self.rewind()?;
        }
        self.torn = true;
        self.file.write_all(frames)?;
        self.torn = false;
        self.len += frames.len() as u64;
        Ok(())
    }

    fn rewind(&mut self) -> io::Result<()> {
        use std::io::{Seek, SeekFrom};
        self.file.set_len(self.len)?;
        self.file.seek(SeekFrom::Start(self.len))?;
        self.torn = false;
        Ok(())
    }

    /// A second handle to the same file, so that `fsync` need not hold up writers.
    pub(crate) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    #[cfg(test)]
    pub(crate) fn set_file(&mut self, file: File) {
        (self.file, self.torn) = (file, true);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }
}

/// What a journal file held.
#[derive(Debug)]
pub struct Replayed {
    /// The identity of the first batch it becomes.
    pub id: BatchId,
    /// Its windows, in order of declaration.
    pub windows: Vec<OpenWindow>,
    /// Entries counted.
    pub entries: u64,
    /// Bytes of the header and the good frames.
    pub good_bytes: u64,
    /// Bytes after them.
    pub torn_bytes: u64,
}

/// The journals in a folder with the identity in their name, in order.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<(BatchId, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if let Some(id) = id_of(&path) {
            found.push((id, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a journal. `None` when its header was never completed: it holds nothing then.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn replay(path: &Path) -> io::Result<Option<Replayed>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(parse(&bytes))
}

/// Reads the bytes of a journal; see [`Replayed`]. Any bytes are acceptable.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Replayed> {
    let id = parse_header(bytes)?;
    let mut windows: Vec<OpenWindow> = Vec::new();
    let (mut at, mut entries) = (HEADER_BYTES, 0);
    while let Some((kind, payload, next)) = frame_at(bytes, at) {
        let understood = match kind {
            DECLARE if windows.len() < DECLARED_MAX => {
                parse_declared(payload).map(|d| windows.push(OpenWindow::new(d)))
            }
            ENTRY => parse_entry(payload, &windows).map(|(index, entry)| {
                if let Some(window) = windows.get_mut(index) {
                    window.add(&entry);
                    entries += 1;
                }
            }),
            _ => None,
        };
        if understood.is_none() {
            break;
        }
        at = next;
    }
    let (good_bytes, torn_bytes) = (at as u64, (bytes.len() - at) as u64);
    Some(Replayed { id, windows, entries, good_bytes, torn_bytes })
}

/// Appends the frame that declares a model version.
pub(crate) fn put_declared(out: &mut Vec<u8>, declared: &Declared) {
    put_frame(out, DECLARE, |out| {
        put_text(out, declared.model.as_str());
        put_text(out, &declared.version.to_string());
        let features = &declared.features[..declared.features.len().min(FEATURES_MAX)];
        out.extend_from_slice(&u16::try_from(features.len()).unwrap_or(u16::MAX).to_le_bytes());
        for (name, edges) in features {
            put_text(out, name);
            put_numbers(out, edges);
        }
        put_numbers(out, &declared.confidence_edges);
    });
}

/// Appends the frame of one entry.
pub(crate) fn put_entry(out: &mut Vec<u8>, index: u16, entry: &Entry) {
    put_frame(out, ENTRY, |out| {
        out.extend_from_slice(&index.to_le_bytes());
        out.extend_from_slice(&entry.at_ms.to_le_bytes());
        out.extend_from_slice(&entry.latency_ms.to_le_bytes());
        let flag = |is: bool, bit: u8| u8::from(is) << bit;
        out.push(
            flag(entry.error.is_some(), 0) | flag(entry.class.is_some(), 1) | flag(entry.score.is_some(), 2),
        );
        if let Some(error) = &entry.error {
            put_text(out, error);
        }
        if let Some(class) = &entry.class {
            put_text(out, class);
        }
        if let Some(score) = entry.score {
            out.extend_from_slice(&score.to_le_bytes());
        }
        put_numbers(out, &entry.features);
    });
}

fn put_frame(out: &mut Vec<u8>, kind: u8, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
    out.push(kind);
    payload(out);
    let body = &out[start + FRAME_HEAD_BYTES..];
    let (len, crc) = (u32::try_from(body.len()).unwrap_or(u32::MAX), crc32fast::hash(body));
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + FRAME_HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// The frame at an offset: its kind, its payload and where it ends.
fn frame_at(bytes: &[u8], at: usize) -> Option<(u8, &[u8], usize)> {
    let mut r = Reader(bytes.get(at..)?);
    let (len, crc) = (usize::try_from(r.u32()?).ok()?, r.u32()?);
    if len == 0 || len > FRAME_BYTES_MAX {
        return None;
    }
    let body = r.take(len)?;
    let (kind, payload) = body.split_first()?;
    (crc32fast::hash(body) == crc).then_some((*kind, payload, at + FRAME_HEAD_BYTES + len))
}

fn parse_declared(payload: &[u8]) -> Option<Declared> {
    let mut r = Reader(payload);
    let (model, version) = (r.text()?.parse().ok()?, r.text()?.parse().ok()?);
    let count = usize::from(r.u16()?);
    if count > FEATURES_MAX {
        return None;
    }
    let mut features = Vec::with_capacity(count);
    for _ in 0..count {
        let (name, edges) = (r.text()?.to_owned(), r.numbers()?);
        if edges.len() > EDGES_MAX {
            return None;
        }
        features.push((name, edges));
    }
    let confidence_edges = r.numbers()?;
    let whole = r.is_done() && confidence_edges.len() <= EDGES_MAX;
    whole.then_some(Declared { model, version, features, confidence_edges })
}

fn parse_entry(payload: &[u8], windows: &[OpenWindow]) -> Option<(usize, Entry)> {
    let mut r = Reader(payload);
    let index = usize::from(r.u16()?);
    windows.get(index)?;
    let (at_ms, latency_ms, flags) = (r.i64()?, r.f64()?, r.byte()?);
    let error = if flags & 1 != 0 { Some(r.text()?.to_owned()) } else { None };
    let class = if flags & 2 != 0 { Some(r.text()?.to_owned()) } else { None };
    let score = if flags & 4 != 0 { Some(r.f64()?) } else { None };
    let features = r.numbers()?;
    r.is_done().then_some((index, Entry { at_ms, latency_ms, error, features, class, score }))
}

fn header(id: BatchId) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&id.boot.to_le_bytes());
    out.extend_from_slice(&id.sequence.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    out
}

fn parse_header(bytes: &[u8]) -> Option<BatchId> {
    let mut r = Reader(bytes);
    let (magic, format) = (r.take(4)?, r.u32()?);
    let id = BatchId { boot: r.u64()?, sequence: r.u64()? };
    let crc = r.u32()?;
    (magic == MAGIC && format == FORMAT && crc == crc32fast::hash(&bytes[..HEADER_BYTES - 4])).then_some(id)
}

fn file_name(id: BatchId) -> String {
    format!("{:016x}-{:016x}.{EXTENSION}", id.boot, id.sequence)
}

fn id_of(path: &Path) -> Option<BatchId> {
    if path.extension() != Some(OsStr::new(EXTENSION)) {
        return None;
    }
    let (boot, sequence) = path.file_stem()?.to_str()?.split_once('-')?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    Some(BatchId { boot: number(boot)?, sequence: number(sequence)? })
}

#[cfg(test)]
mod tests;

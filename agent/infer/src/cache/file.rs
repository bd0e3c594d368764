//! The bytes of a file. Numbers are little-endian.
//!
//! | bytes | hold |
//! |---|---|
//! | 0..8 | `WHIMPLAN` |
//! | 8..12 | the version of this table |
//! | 12..16 | CRC-32 of bytes 16 to the end of the description |
//! | 16..24 | length of the file |
//! | 24..32 | length of the key |
//! | 32..40 | length of the description |
//! | 40..48 | where the packed parts begin |
//! | 48.. | the key, the description, and from a multiple of 64 on the packed parts, each at a multiple of 64 |
//!
//! The description is a [`Record`] as postcard writes it; it has the place and the CRC-32 of each part. Bytes between parts mean
//! nothing. The form changes with the build that is named in the key: no other has to read it.

use super::{
    Blob,
    mapping::Mapping,
    record::{Described, Record, Written},
};
use crate::plan::Plan;
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, BufWriter, ErrorKind, Read as _, Write},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
};

/// What packed parts are aligned to.
pub(super) const ALIGNMENT_BYTES: usize = 64;

const MAGIC: &[u8; 8] = b"WHIMPLAN";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 48;
/// First byte under the sum.
const SUMMED: usize = 16;
/// Longest key and description. A model with larger constants outside its packed weights is not kept.
const TEXT_BYTES_MAX: usize = 32 << 20;

/// Where a part lies among the parts, and its sum.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Place {
    at: u64,
    len: u64,
    sum: u32,
}

/// Writes a file.
///
/// # Errors
/// Writing fails, or the description is too long.
pub(super) fn write(file: &File, key: &[u8], record: &Written) -> io::Result<()> {
    let (mut next, mut parts) = (0, Vec::new());
    let places = record.map(
        |plan| Some(plan.as_slice()),
        |part| {
            let bytes = part.as_ref().as_ref();
            let place = Place { at: next, len: bytes.len() as u64, sum: crc32fast::hash(bytes) };
            next = (next + place.len).next_multiple_of(ALIGNMENT_BYTES as u64);
            parts.push(bytes);
            Some(place)
        },
    );
    let places = places.ok_or(ErrorKind::InvalidInput)?;
    let description = postcard::to_extend(&places, Vec::new()).map_err(io::Error::other)?;
    let text = [key, &description].concat();
    if text.len() > TEXT_BYTES_MAX {
        return Err(io::Error::new(ErrorKind::FileTooLarge, "the description is too long"));
    }
    let parts_at = (HEAD_BYTES + text.len()).next_multiple_of(ALIGNMENT_BYTES) as u64;
    let mut head = Vec::with_capacity(HEAD_BYTES);
    for number in [parts_at + next, key.len() as u64, description.len() as u64, parts_at] {
        head.extend_from_slice(&number.to_le_bytes());
    }
    let mut sum = crc32fast::Hasher::new();
    sum.update(&head);
    sum.update(&text);
    let mut to = BufWriter::new(file);
    to.write_all(MAGIC)?;
    to.write_all(&VERSION.to_le_bytes())?;
    to.write_all(&sum.finalize().to_le_bytes())?;
    to.write_all(&head)?;
    to.write_all(&text)?;
    pad(&mut to, HEAD_BYTES + text.len())?;
    for bytes in parts {
        to.write_all(bytes)?;
        pad(&mut to, bytes.len())?;
    }
    to.flush()
}

fn pad(to: &mut impl Write, len: usize) -> io::Result<()> {
    to.write_all(&[0; ALIGNMENT_BYTES][..len.next_multiple_of(ALIGNMENT_BYTES) - len])
}

/// Reads a file; `None` where it was made for another key.
///
/// # Errors
/// It cannot be read, is not as it was written, or others may have written it.
pub(super) fn read(path: &Path, key: &[u8]) -> io::Result<Option<Described>> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    let ours = std::fs::metadata("/proc/self")?.uid();
    if !about.is_file() || about.mode() & 0o022 != 0 || about.uid() != ours {
        return Err(damaged("others may have written it"));
    }
    let mut head = [0; HEAD_BYTES];
    (&file).read_exact(&mut head)?;
    if head[..8] != *MAGIC || head[8..12] != VERSION.to_le_bytes() {
        return Ok(None);
    }
    let number =
        |at: usize| head[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let [len, key_len, description_len, parts_at] = [number(16), number(24), number(32), number(40)];
    let text_len = key_len.checked_add(description_len).filter(|len| *len <= TEXT_BYTES_MAX as u64);
    let text_len = text_len.ok_or_else(|| damaged("its lengths make no sense"))? as usize;
    if len != about.len() || HEAD_BYTES as u64 + text_len as u64 > parts_at || parts_at > len {
        return Err(damaged("it is not whole"));
    }
    let mapping = Arc::new(Mapping::of(&file, usize::try_from(len).map_err(io::Error::other)?)?);
    if !mapping.is_readable(&(0..HEAD_BYTES + text_len)) {
        return Err(damaged("it cannot be read"));
    }
    let summed = &mapping.as_bytes()[SUMMED..HEAD_BYTES + text_len];
    if crc32fast::hash(summed).to_le_bytes() != head[12..16] {
        return Err(damaged("its sum is another"));
    }
    let (found, description) = summed[HEAD_BYTES - SUMMED..].split_at(key_len as usize);
    if found != key {
        return Ok(None);
    }
    let described = describe(description, &mapping, parts_at as usize);
    described.map(Some).ok_or_else(|| damaged("its description makes no sense"))
}

fn describe(bytes: &[u8], mapping: &Arc<Mapping>, parts_at: usize) -> Option<Described> {
    let (record, rest) = postcard::take_from_bytes::<Record<&[u8], Place>>(bytes).ok()?;
    let plan = |bytes: &&[u8]| {
        let (plan, rest) = postcard::take_from_bytes::<Plan>(bytes).ok()?;
        rest.is_empty().then_some(plan)
    };
    let part = |place: &Place| {
        let start = parts_at.checked_add(usize::try_from(place.at).ok()?)?;
        let end = start.checked_add(usize::try_from(place.len).ok()?)?;
        Blob::new(mapping, start..end, place.sum)
    };
    let described = record.map(plan, part)?;
    rest.is_empty().then_some(described)
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

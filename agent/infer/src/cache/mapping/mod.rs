//! Files as memory.
//!
//! What is mapped must not change while it is used. Files of a cache do not: they belong to the user of this process and nobody
//! else may write to them (checked when one is opened), and this program, their only writer, never changes one. It writes under
//! another name, with a lock that keeps a second writer away, and renames; whoever mapped the file before keeps the old one. A file
//! removed meanwhile stays until it is unmapped. Whoever acts as this user could change this process's memory as well.
#![allow(unsafe_code, reason = "the compiler cannot see that nobody changes a file")]

use memmap2::{Advice, Mmap, MmapOptions};
use std::{fs::File, io, ops::Range};

/// Reading failed, or the memory behind it did.
const FAILURES: [i32; 2] = [14, 133];

/// A file, mapped to be read.
#[derive(Debug)]
pub(super) struct Mapping(Mmap);

impl Mapping {
    /// Maps the first `len` bytes of a file of a cache, which must have as many.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn of(file: &File, len: usize) -> io::Result<Self> {
        // SAFETY: nobody changes a cache's file, for the reasons given above: the bytes stay as they are, and as many, for as
        // long as they are mapped.
        let map = unsafe { MmapOptions::new().len(len).map(file)? };
        Ok(Self(map))
    }

    /// The bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads a range into memory; whether that went well. A failure found here is an answer, one found by touching the bytes ends
    /// the process. Systems before Linux 5.14 cannot tell.
    pub(super) fn is_readable(&self, range: &Range<usize>) -> bool {
        match self.0.advise_range(Advice::PopulateRead, range.start, range.len()) {
            Ok(()) => true,
            Err(error) => error.raw_os_error().is_none_or(|code| !FAILURES.contains(&code)),
        }
    }
}

//! Files of a repository over MQTT, where HTTPS is blocked: metadata, targets and chunks, asked for piece by piece.
//!
//! A device publishes a [`Get`] on `…/chunk/get`; the server answers each [`Want`] with one [`Part`]: a chunk, which is always one
//! message, on `…/chunk/{hash}`, a part of another file on `…/file`. No more than [`WINDOW_ITEMS`] answers are outstanding for
//! one device. Nothing here is promised to arrive: a device asks again, with the same id, for what did not come, and from the
//! offset that it has.

use crate::{
    cbor::Message,
    id::Digest,
    index::{CHUNK_BYTES_MAX, Index},
    manifest::limit,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Most answers outstanding for one device; the server drops what goes beyond.
pub const WINDOW_ITEMS: usize = 8;
/// Most bytes in one part: the largest chunk as stored (see [`crate::index::Chunk`]).
pub const PART_BYTES_MAX: usize = CHUNK_BYTES_MAX as usize + 1024;
/// Largest file that is moved in parts.
pub const FILE_BYTES_MAX: u64 = Index::SIZE_BYTES_MAX as u64;
/// Longest name of a file.
pub const FILE_NAME_BYTES_MAX: usize = 512;

/// What a device wants next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// At least one, at most [`WINDOW_ITEMS`].
    pub wants: Vec<Want>,
}

/// One file, or the rest of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// Chosen by the device and repeated in the answer. The same one again asks for the same again.
    pub id: u64,
    /// Which file.
    pub item: Item,
    /// Where the answer is to begin; 0 for a chunk.
    pub offset: u64,
    /// Longest file that the device accepts.
    pub size_bytes_max: u64,
}

/// A file of the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Item {
    /// A chunk.
    Chunk {
        /// SHA-256 of its stored bytes.
        stored: Digest,
    },
    /// Metadata, as below `/tuf/`.
    Metadata {
        /// E.g. `timestamp.json`.
        file: String,
    },
    /// A target, as below `/tuf/targets/`.
    Target {
        /// E.g. `digits/HASH.1.0.0.wbi`.
        file: String,
    },
}

/// The answer to one want.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The want's.
    pub id: u64,
    /// The bytes, or why there are none.
    pub content: Content,
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Content {
    /// As many bytes as fit, from the offset asked for.
    Bytes {
        /// Where they belong.
        offset: u64,
        /// Size of the whole file.
        total_bytes: u64,
        /// The bytes: at least one, unless the file is empty.
        bytes: Bytes,
    },
    /// There is no such file.
    NotFound {},
    /// The file is longer than the device accepts.
    TooLarge {
        /// Its size.
        total_bytes: u64,
    },
    /// Not now.
    Busy {
        /// Seconds to leave the server alone.
        retry_after_s: u32,
    },
}

impl Item {
    /// Checks the name.
    ///
    /// # Errors
    /// A sentence naming the rule it breaks.
    pub fn validate(&self) -> Result<(), String> {
        let (Self::Metadata { file } | Self::Target { file }) = self else { return Ok(()) };
        limit("file", file.len(), FILE_NAME_BYTES_MAX)?;
        if file.is_empty() || file.chars().any(char::is_control) {
            return Err("file: expected a name without control characters".into());
        }
        Ok(())
    }
}

impl Message for Get {
    const NAME: &'static str = "get";
    const SIZE_BYTES_MAX: usize = 8 << 10;
    const DEPTH_MAX: usize = 5;
    const ITEMS_MAX: usize = 200;

    fn validate(&self) -> Result<(), String> {
        if self.wants.is_empty() {
            return Err("wants: at least one is expected".into());
        }
        limit("wants", self.wants.len(), WINDOW_ITEMS)?;
        for (i, want) in self.wants.iter().enumerate() {
            want.item.validate()?;
            if want.offset > 0 && matches!(want.item, Item::Chunk { .. }) {
                return Err("offset: a chunk is moved whole".into());
            }
            if want.size_bytes_max > FILE_BYTES_MAX || want.offset > want.size_bytes_max {
                return Err(format!(
                    "{} bytes from {}: at most {FILE_BYTES_MAX} are moved",
                    want.size_bytes_max, want.offset
                ));
            }
            if self.wants[..i].iter().any(|other| other.id == want.id) {
                return Err(format!("wants: the id {} is there twice", want.id));
            }
        }
        Ok(())
    }
}

impl Message for Part {
    const NAME: &'static str = "part";
    const SIZE_BYTES_MAX: usize = PART_BYTES_MAX + 256;
    const DEPTH_MAX: usize = 4;
    const ITEMS_MAX: usize = 20;

    fn validate(&self) -> Result<(), String> {
        let Content::Bytes { offset, total_bytes, bytes } = &self.content else { return Ok(()) };
        limit("bytes", bytes.len(), PART_BYTES_MAX)?;
        let end = offset.checked_add(bytes.len() as u64).filter(|end| end <= total_bytes);
        match end {
            None => Err(format!("{} bytes at {offset}: beyond the file's {total_bytes}", bytes.len())),
            Some(_) if bytes.is_empty() && *total_bytes > 0 => {
                Err("bytes: none, of a file that has some".into())
            }
            Some(_) => Ok(()),
        }
    }
}

//! Which bundle of a model is active and previous, and how far its last update came: `journal/NAME.journal`.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 4 | magic `WBJL` |
//! | 4 | 1 | version of this layout, 1 |
//! | 5 | 3 | zero |
//! | 8 | 4 | length of the body, little endian |
//! | 12 | 4 | CRC-32 of bytes 0 to 11 and of the body, little endian |
//! | 16 | | the body: one [`Record`] message |
//!
//! A record is replaced in one step and synced. A file that does not read back whole is an error, never an empty journal:
//! forgetting that a candidate failed would let it serve again.

use crate::disk::{Disk, DiskError, create_dirs, write_atomically};
use semver::Version;
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use whimbrel_wire::{
    DecodeError, Digest, Message, ModelName,
    cbor::EncodeError,
    decode,
    desired::DesiredModel,
    encode,
    report::{Installed, Progress, Reason},
};

const MAGIC: &[u8; 4] = b"WBJL";
const LAYOUT: u8 = 1;
const HEADER_BYTES: usize = 16;
const SUFFIX: &str = ".journal";

/// What must survive a restart about one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The confirmed version.
    pub active: Option<Installed>,
    /// The one confirmed before it.
    pub previous: Option<Installed>,
    /// The last update that came as far as a self-test or an end.
    pub update: Option<UpdateRecord>,
}

/// An update that came as far as a self-test or an end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRecord {
    /// What was asked for.
    pub offer: Offer,
    /// How far it came.
    pub stage: Stage,
}

/// What the fleet asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The version.
    pub version: Version,
    /// The target that holds it.
    pub target: String,
    /// Counts offers of this version.
    pub attempt: u32,
    /// The rollout that asks.
    pub rollout: String,
}

impl From<&DesiredModel> for Offer {
    fn from(model: &DesiredModel) -> Self {
        Self {
            version: model.version.clone(),
            target: model.target.clone(),
            attempt: model.attempt,
            rollout: model.rollout.clone(),
        }
    }
}

/// How far an update came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Stage {
    /// The self-test began.
    Testing {
        /// The candidate.
        candidate: Digest,
        /// How often it began without coming to an end, this time included.
        starts: u32,
    },
    /// The candidate serves.
    Probation {
        /// The candidate.
        candidate: Digest,
        /// Processes that ended without being asked to while it served.
        crashes: u32,
        /// Whether the last process ended in order.
        stopped: bool,
    },
    /// Nothing more comes of it.
    Done {
        /// What became of it.
        outcome: Outcome,
    },
}

/// What became of an update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// Confirmed.
    Active {},
    /// Refused before it served.
    Rejected {
        /// Why.
        reason: Reason,
    },
    /// Taken back after it served.
    RolledBack {
        /// Why.
        reason: Reason,
    },
}

impl From<&Outcome> for Progress {
    fn from(outcome: &Outcome) -> Self {
        match outcome.clone() {
            Outcome::Active {} => Self::Active {},
            Outcome::Rejected { reason } => Self::Rejected { reason },
            Outcome::RolledBack { reason } => Self::RolledBack { reason },
        }
    }
}

impl Message for Record {
    const NAME: &'static str = "journal record";
    const SIZE_BYTES_MAX: usize = 64 << 10;
    const ITEMS_MAX: usize = 200;
}

impl Record {
    /// The bytes of a journal file.
    ///
    /// # Errors
    /// When the record is beyond its own limits.
    pub fn to_file(&self) -> Result<Vec<u8>, EncodeError> {
        let body = encode(self)?;
        // The message is limited to far less than 4 GiB.
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[LAYOUT, 0, 0, 0]);
        bytes.extend_from_slice(&length.to_le_bytes());
        let crc = crc(&bytes, &body);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    /// Reads the bytes of a journal file.
    ///
    /// # Errors
    /// A sentence saying what is wrong with them.
    pub fn from_file(bytes: &[u8]) -> Result<Self, String> {
        let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or("shorter than its header")?;
        if &header[..4] != MAGIC {
            return Err("it does not begin like a journal".into());
        }
        if header[4] != LAYOUT {
            return Err(format!("layout {}, this build reads layout {LAYOUT}", header[4]));
        }
        let number =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if number(8) as usize != body.len() {
            return Err(format!("{} bytes follow the header, expected {}", body.len(), number(8)));
        }
        if number(12) != crc(&header[..12], body) {
            return Err("its checksum is wrong".into());
        }
        decode(body).map_err(|e: DecodeError| e.to_string())
    }
}

/// Why a journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk said no.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file is not what was written.
    #[error("read journal {}: {reason}; remove the file to start the model anew", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The record is beyond its own limits.
    #[error("write journal: {0}")]
    Encode(#[from] EncodeError),
}

/// The folder `journal/`.
#[derive(Debug, Clone)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Journal {
    /// Opens the folder, making it when absent.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, DiskError> {
        create_dirs(&*disk, dir)?;
        Ok(Self { disk, dir: dir.to_owned() })
    }

    /// The models that have a journal.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn models(&self) -> Result<Vec<ModelName>, DiskError> {
        let names = self.disk.list(&self.dir)?;
        Ok(names.iter().filter_map(|n| n.to_str()?.strip_suffix(SUFFIX)?.parse().ok()).collect())
    }

    /// A model's record; `None` when it has none yet.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub fn read(&self, model: &ModelName) -> Result<Option<Record>, JournalError> {
        let path = self.path(model);
        let bytes_max = (Record::SIZE_BYTES_MAX + HEADER_BYTES) as u64;
        let Some(bytes) = self.disk.read(&path, bytes_max)? else { return Ok(None) };
        Record::from_file(&bytes).map(Some).map_err(|reason| JournalError::Damaged { path, reason })
    }

    /// Replaces a model's record, durably.
    ///
    /// # Errors
    /// When it cannot be written; the old one is then still there.
    pub fn write(&self, model: &ModelName, record: &Record) -> Result<(), JournalError> {
        let bytes = record.to_file()?;
        Ok(write_atomically(&*self.disk, &self.path(model), &bytes)?)
    }

    fn path(&self, model: &ModelName) -> PathBuf {
        self.dir.join(format!("{model}{SUFFIX}"))
    }
}

fn crc(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Files;
    use whimbrel_wire::report::ReasonKind;

    fn record() -> Record {
        let installed = |n| Installed { version: Version::new(1, n, 0), bundle: Digest::new([n as u8; 32]) };
        let offer = Offer {
            version: Version::new(1, 3, 0),
            target: "m/1.3.0.wbi".into(),
            attempt: 2,
            rollout: "r".into(),
        };
        let reason = Reason::new(ReasonKind::ErrorRate, "5 of 9");
        let stage = Stage::Done { outcome: Outcome::RolledBack { reason } };
        let update = Some(UpdateRecord { offer, stage });
        Record { active: Some(installed(2)), previous: Some(installed(1)), update }
    }

    #[test]
    fn a_record_comes_back() {
        let dir = tempfile::tempdir().expect("temp dir");
        let journal = Journal::open(Arc::new(Files), &dir.path().join("journal")).expect("opens");
        let model: ModelName = "m".parse().expect("a name");
        assert_eq!(journal.read(&model).expect("reads"), None);
        journal.write(&model, &record()).expect("writes");
        assert_eq!(journal.read(&model).expect("reads"), Some(record()));
        assert_eq!(journal.models().expect("lists"), [model]);
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_seen() {
        let bytes = record().to_file().expect("packs");
        for end in 0..bytes.len() {
            assert!(Record::from_file(&bytes[..end]).is_err(), "{end} bytes were accepted");
        }
        for at in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(Record::from_file(&bad).is_err(), "bit {at} went unseen");
        }
    }

    #[test]
    fn a_damaged_journal_is_an_error_and_not_an_empty_one() {
        let dir = tempfile::tempdir().expect("temp dir");
        let journal = Journal::open(Arc::new(Files), dir.path()).expect("opens");
        std::fs::write(dir.path().join("m.journal"), b"").expect("writes");
        let model = "m".parse().expect("a name");
        assert!(matches!(journal.read(&model), Err(JournalError::Damaged { .. })));
    }
}

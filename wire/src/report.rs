//! What a device says about itself.

use crate::{
    cbor::Message,
    desired::MODELS_MAX,
    id::{Digest, ModelName},
    manifest::limit,
};
use semver::Version;
use serde::{Deserialize, Serialize};

/// Longest detail of a reason.
pub const DETAIL_BYTES_MAX: usize = 1024;

/// Sent on `…/report` after every change, and now and then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Random, made anew at each start of the agent.
    pub boot: u64,
    /// Counts reports since that start.
    pub sequence: u64,
    /// Device clock, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// The agent's version.
    pub agent: Version,
    /// What the device is.
    pub platform: Platform,
    /// Serial of the desired state that the report answers; 0 before the first.
    pub desired_serial: u64,
    /// Every model on the device.
    pub models: Vec<ModelReport>,
}

/// What a device is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// Architecture, as Rust names it (`x86_64`, `aarch64`, `arm`).
    pub arch: String,
    /// Board, or the best that is known of it.
    pub board: String,
    /// Logical cores.
    pub cores: u32,
    /// Memory of the machine.
    pub memory_bytes: u64,
}

/// One model on the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelReport {
    /// Which model.
    pub name: ModelName,
    /// The version that is confirmed and serves (or serves again if the candidate fails).
    pub active: Option<Installed>,
    /// The last update, and how far it came.
    pub update: Option<Update>,
}

/// A version on the device's disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// Its version.
    pub version: Version,
    /// SHA-256 of its index.
    pub bundle: Digest,
}

/// An update, and how far it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// The version asked for.
    pub version: Version,
    /// The attempt asked for.
    pub attempt: u32,
    /// The rollout that asked.
    #[serde(default)]
    pub rollout: String,
    /// How far it came.
    pub progress: Progress,
    /// Why it is not further, where something failed that is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Reason>,
}

/// How far an update came. The last three are final.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Progress {
    /// Metadata is being refreshed.
    Resolving {},
    /// Chunks are being fetched.
    Fetching {
        /// Bytes on the device.
        done_bytes: u64,
        /// Bytes to be moved in all.
        total_bytes: u64,
    },
    /// Golden vectors are running.
    SelfTest {},
    /// The candidate serves and is watched.
    Probation {
        /// Live requests so far.
        requests: u64,
        /// Failed ones among them.
        errors: u64,
    },
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

impl Progress {
    /// Whether nothing more will come of this attempt.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Active {} | Self::Rejected { .. } | Self::RolledBack { .. })
    }

    /// One word for lists and metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Resolving {} => "resolving",
            Self::Fetching { .. } => "fetching",
            Self::SelfTest {} => "self_test",
            Self::Probation { .. } => "probation",
            Self::Active {} => "active",
            Self::Rejected { .. } => "rejected",
            Self::RolledBack { .. } => "rolled_back",
        }
    }
}

/// Why an update did not stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{kind}: {detail}")]
pub struct Reason {
    /// For programs.
    pub kind: ReasonKind,
    /// For people.
    pub detail: String,
}

impl Reason {
    /// A reason whose detail is cut to what a report may carry.
    #[must_use]
    pub fn new(kind: ReasonKind, detail: impl ToString) -> Self {
        let mut detail = detail.to_string();
        let mut end = detail.len().min(DETAIL_BYTES_MAX);
        while !detail.is_char_boundary(end) {
            end -= 1;
        }
        detail.truncate(end);
        Self { kind, detail }
    }
}

macro_rules! reason_kinds {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// Why an update did not stay, for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ReasonKind { $($(#[$doc])* #[serde(rename = $text)] $variant,)* }
        impl ReasonKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
            /// Its stable name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}
reason_kinds! {
    /// A signature is missing, wrong, or by too few or other keys.
    Signature = "signature",
    /// Metadata is past its date.
    Expired = "expired",
    /// Metadata is older than already trusted.
    Replayed = "replayed",
    /// Metadata files do not belong together, or a target is not in them.
    Inconsistent = "inconsistent",
    /// The version is below the signed floor.
    BelowFloor = "below_floor",
    /// Longer than announced or allowed.
    TooLarge = "too_large",
    /// Bytes do not have the signed hash or length.
    Corrupt = "corrupt",
    /// Signed, but not of the format.
    Malformed = "malformed",
    /// Needs a newer agent.
    AgentTooOld = "agent_too_old",
    /// Not enough memory for its stated need.
    Memory = "memory",
    /// Not enough disk, or the disk refused.
    Disk = "disk",
    /// The model cannot be loaded here.
    Load = "load",
    /// Golden vectors gave other answers.
    GoldenMismatch = "golden_mismatch",
    /// Golden vectors took too long.
    Latency = "latency",
    /// Too many live requests failed.
    ErrorRate = "error_rate",
    /// The process crashed while the candidate served.
    Crashed = "crashed",
    /// Too few live requests to confirm.
    NotEnoughTraffic = "not_enough_traffic",
    /// Bytes could not be fetched.
    Network = "network",
    /// Whoever answered in the server's place could not prove to be it.
    Tls = "tls",
    /// The model uses operators that the agent does not have.
    Operators = "operators",
    /// The backend that the bundle needs is not there.
    Backend = "backend",
    /// The device's own rules say: not now.
    Policy = "policy",
    /// Another version was asked for meanwhile.
    Superseded = "superseded",
}
impl std::fmt::Display for ReasonKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Message for Report {
    const NAME: &'static str = "report";
    const SIZE_BYTES_MAX: usize = 256 << 10;
    const ITEMS_MAX: usize = 10_000;

    fn validate(&self) -> Result<(), String> {
        limit("models", self.models.len(), MODELS_MAX)?;
        limit("platform.arch", self.platform.arch.len(), 64)?;
        limit("platform.board", self.platform.board.len(), 255)?;
        for update in self.models.iter().filter_map(|m| m.update.as_ref()) {
            limit("rollout", update.rollout.len(), 64)?;
            if let Progress::Rejected { reason } | Progress::RolledBack { reason } = &update.progress {
                limit("reason.detail", reason.detail.len(), DETAIL_BYTES_MAX)?;
            }
        }
        Ok(())
    }
}

/// Retained on `…/status`; also the last will, with `online` false.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Whether the device is connected.
    pub online: bool,
    /// The start of the agent that said so.
    pub boot: u64,
}

impl Message for Status {
    const NAME: &'static str = "status";
    const SIZE_BYTES_MAX: usize = 256;
    const ITEMS_MAX: usize = 16;
}

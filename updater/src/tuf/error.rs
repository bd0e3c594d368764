//! Why metadata or a target was not trusted.

use super::{KeyError, RoleName};
use crate::{disk::DiskError, transport::TransportError};
use std::path::PathBuf;
use whimbrel_wire::report::{Reason, ReasonKind};

/// Why metadata or a target was not trusted.
#[derive(Debug, thiserror::Error)]
pub enum TufError {
    /// Too few distinct keys of the role signed.
    #[error("check {role} metadata against {by}: signed by {valid} of its keys, {threshold} are needed")]
    Signature {
        /// The role.
        role: RoleName,
        /// Whose list of keys was used.
        by: String,
        /// Distinct keys with a good signature.
        valid: usize,
        /// How many are needed.
        threshold: u64,
    },
    /// Past its date.
    #[error("check {role} metadata: it expired at {expires}, and it is {clock} by this machine's clock")]
    Expired {
        /// The role.
        role: RoleName,
        /// When.
        expires: String,
        /// The time it was checked at.
        clock: String,
    },
    /// Older than what is trusted already.
    #[error("check {role} metadata: version {found} is offered, version {trusted} is trusted already")]
    Replayed {
        /// The role whose version fell.
        role: RoleName,
        /// The version offered.
        found: u64,
        /// The version trusted.
        trusted: u64,
    },
    /// Files that do not belong together.
    #[error("check {role} metadata: {reason}")]
    Inconsistent {
        /// The role.
        role: RoleName,
        /// What does not fit.
        reason: String,
    },
    /// Not the signed length or hash.
    #[error("check {what}: {reason}")]
    Corrupt {
        /// Which file.
        what: String,
        /// What differs.
        reason: String,
    },
    /// Longer than accepted.
    #[error("read {role} metadata: {size_bytes} bytes, at most {size_bytes_max} are accepted")]
    TooLarge {
        /// The role.
        role: RoleName,
        /// What came.
        size_bytes: u64,
        /// What is accepted.
        size_bytes_max: u64,
    },
    /// Not of the format.
    #[error("read {role} metadata: {reason}")]
    Malformed {
        /// The role.
        role: RoleName,
        /// What is wrong.
        reason: String,
    },
    /// The server has no such metadata.
    #[error("fetch {file}: the server has no such file")]
    Absent {
        /// Its name.
        file: String,
    },
    /// Metadata could not be fetched.
    #[error(transparent)]
    Fetch(#[from] TransportError),
    /// The trust folder could not be read or written.
    #[error("keep trusted metadata: {0}")]
    Disk(#[from] DiskError),
    /// A file in the trust folder is not what was written there.
    #[error("open the trust folder: {} is damaged: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A delegated role's file was not trusted.
    #[error("delegated role {role:?}: {source}")]
    Delegated {
        /// The role.
        role: String,
        /// Why.
        source: Box<TufError>,
    },
    /// A key that cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl TufError {
    /// The reason to report to the fleet.
    #[must_use]
    pub fn reason(&self) -> Reason {
        Reason::new(self.kind(), self)
    }

    /// Whether trying later may help: the network may come back, and a server that is behind may catch up. Time passes as
    /// well: a clock that was wrong is put right.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Fetch(e) => e.is_temporary(),
            Self::Expired { .. } | Self::Replayed { .. } | Self::Absent { .. } => true,
            Self::Delegated { source, .. } => source.is_temporary(),
            _ => false,
        }
    }

    /// The error as one about a delegated role.
    pub(super) fn of(self, role: &str) -> Self {
        Self::Delegated { role: role.to_owned(), source: Box::new(self) }
    }

    fn kind(&self) -> ReasonKind {
        match self {
            Self::Signature { .. } => ReasonKind::Signature,
            Self::Expired { .. } => ReasonKind::Expired,
            Self::Replayed { .. } => ReasonKind::Replayed,
            Self::Inconsistent { .. } => ReasonKind::Inconsistent,
            Self::Corrupt { .. } => ReasonKind::Corrupt,
            Self::TooLarge { .. } | Self::Fetch(TransportError::TooLarge { .. }) => ReasonKind::TooLarge,
            Self::Malformed { .. } | Self::Key(_) => ReasonKind::Malformed,
            Self::Fetch(TransportError::Tls { .. }) => ReasonKind::Tls,
            Self::Absent { .. } | Self::Fetch(_) => ReasonKind::Network,
            Self::Disk(_) | Self::Damaged { .. } => ReasonKind::Disk,
            Self::Delegated { source, .. } => source.kind(),
        }
    }
}

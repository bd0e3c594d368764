//! Why a request was not carried out, in terms of whose fault it is.

use crate::{bus::BusError, ca::CaError, rollout::Refused, store::StoreError};
use std::error::Error;

/// Whose fault it is, and so which status says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request breaks a rule.
    Invalid,
    /// No or a wrong credential.
    Unauthorised,
    /// The credential does not allow it.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// It does not fit what is there.
    Conflict,
    /// The server cannot, now.
    Internal,
}

/// Why a request was not carried out: what was attempted, on what, why, what to do.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct Fault {
    /// Whose fault.
    pub(crate) kind: Kind,
    /// For people.
    pub(crate) detail: String,
}

impl Fault {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, detail)
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, detail)
    }

    /// A failure of our own: the cause is logged here, the caller is told no more than what was attempted.
    pub(crate) fn internal(error: &dyn Error) -> Self {
        tracing::error!("{}", chain(error));
        Self::new(Kind::Internal, format!("{error}: the server's log says why; try again later"))
    }
}

/// An error and everything below it, on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<BusError> for Fault {
    fn from(error: BusError) -> Self {
        Self::internal(&error)
    }
}

impl From<CaError> for Fault {
    fn from(error: CaError) -> Self {
        if matches!(error, CaError::Request(_)) {
            Self::invalid(error.to_string())
        } else {
            Self::internal(&error)
        }
    }
}

impl From<Refused> for Fault {
    fn from(error: Refused) -> Self {
        Self::conflict(error.to_string())
    }
}

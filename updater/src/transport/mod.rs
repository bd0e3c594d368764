//! Where metadata, targets and chunks come from. A transport moves bytes and bounds them; it verifies nothing.
//!
//! There are two, and a third that goes from one to the other whenever one does not work: [`Https`], [`Mqtt`], [`Switching`].

mod backoff;
pub mod headers;
mod https;
mod mqtt;
mod switching;

pub use backoff::Backoff;
pub use https::{FetchError, Https, Sink};
pub use mqtt::{Mqtt, MqttPort, mqtt};
pub use switching::Switching;

use crate::tuf::Source;
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use whimbrel_wire::Digest;

/// Moves the files of a repository.
pub trait Transport: Source + 'static {
    /// A target by the name it has on the server (`dir/HASH.file`).
    ///
    /// # Errors
    /// When it could not be had whole, or is longer than `size_bytes_max`.
    fn target(
        &self,
        file: &str,
        size_bytes_max: u64,
    ) -> impl Future<Output = Result<Bytes, TransportError>> + Send;

    /// A chunk by the hash of its stored bytes.
    ///
    /// # Errors
    /// When it could not be had whole, or is longer than `size_bytes_max`.
    fn chunk(
        &self,
        stored: Digest,
        size_bytes_max: u64,
    ) -> impl Future<Output = Result<Bytes, TransportError>> + Send;
}

impl<T: Transport> Transport for Arc<T> {
    fn target(
        &self,
        file: &str,
        size_bytes_max: u64,
    ) -> impl Future<Output = Result<Bytes, TransportError>> + Send {
        T::target(self, file, size_bytes_max)
    }

    fn chunk(
        &self,
        stored: Digest,
        size_bytes_max: u64,
    ) -> impl Future<Output = Result<Bytes, TransportError>> + Send {
        T::chunk(self, stored, size_bytes_max)
    }
}

/// Why bytes could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The server has no such file.
    #[error("fetch {what}: the server has no such file")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The server will not give it; asking again would not help.
    #[error("fetch {what}: the server refused: {why}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Its answer.
        why: String,
    },
    /// Longer than announced or allowed.
    #[error("fetch {what}: longer than the {size_bytes_max} bytes accepted")]
    TooLarge {
        /// What was asked for.
        what: String,
        /// What is accepted.
        size_bytes_max: u64,
    },
    /// Whoever answers is not the server, or cannot prove to be: another name, an unknown issuer, a date outside its certificate's.
    /// Asking later may help, as a network that wants a login first, or a wrong clock, looks the same.
    #[error("fetch {what}: no trusted connection: {why}")]
    Tls {
        /// What was asked for.
        what: String,
        /// What is wrong with the other side.
        why: String,
    },
    /// The network or the server does not work now; asking later may help.
    #[error("fetch {what}: {why}")]
    Unavailable {
        /// What was asked for.
        what: String,
        /// What happened.
        why: String,
        /// How long the server asks to be left alone.
        retry_after: Option<Duration>,
    },
}

impl TransportError {
    /// Whether asking later may help.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Tls { .. })
    }
}

//! Where the bytes of a file go as they come.

use crate::transport::TransportError;
use bytes::BytesMut;
use std::{convert::Infallible, error::Error};

/// Takes a file as it comes.
pub trait Sink: Send {
    /// Why it takes no more.
    type Error: Error + Send;

    /// How many bytes of the file it has.
    fn has_bytes(&self) -> u64;

    /// Hears how many more bytes are announced, which is within the limit; they may not come.
    ///
    /// # Errors
    /// When it cannot take so many.
    fn expect(&mut self, more_bytes: u64) -> Result<(), Self::Error> {
        let _ = more_bytes;
        Ok(())
    }

    /// Takes the next part.
    ///
    /// # Errors
    /// When it cannot, which ends the fetching.
    fn add(&mut self, part: &[u8]) -> Result<(), Self::Error>;

    /// Forgets what it has: the file comes again from its beginning.
    fn clear(&mut self);
}

/// Why a file did not come into a [`Sink`].
#[derive(Debug, thiserror::Error)]
pub enum FetchError<E: Error> {
    /// It could not be had.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// It could not be taken.
    #[error(transparent)]
    Sink(E),
}

impl Sink for BytesMut {
    type Error = Infallible;

    fn has_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn expect(&mut self, more_bytes: u64) -> Result<(), Infallible> {
        self.reserve(usize::try_from(more_bytes).unwrap_or_default());
        Ok(())
    }

    fn add(&mut self, part: &[u8]) -> Result<(), Infallible> {
        self.extend_from_slice(part);
        Ok(())
    }

    fn clear(&mut self) {
        Self::clear(self);
    }
}

//! SHA-2.

use sha2::Digest as _;
use whimbrel_wire::Digest;

/// The SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::new(sha2::Sha256::digest(bytes).into())
}

/// The SHA-512 of `bytes`.
#[must_use]
pub fn sha512(bytes: &[u8]) -> [u8; 64] {
    sha2::Sha512::digest(bytes).into()
}

/// A SHA-256 over bytes that come in parts.
#[derive(Debug, Clone, Default)]
pub struct Sha256(sha2::Sha256);

impl Sha256 {
    /// Takes the next part.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all parts.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest::new(self.0.finalize().into())
    }
}

/// A SHA-512 over bytes that come in parts.
#[derive(Debug, Clone, Default)]
pub struct Sha512(sha2::Sha512);

impl Sha512 {
    /// Takes the next part.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all parts.
    #[must_use]
    pub fn finish(self) -> [u8; 64] {
        self.0.finalize().into()
    }
}

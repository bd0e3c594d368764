//! Private keys in files.

use crate::tuf::{Key, KeyError};
use ed25519_dalek::{
    Signer,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, spki::der::pem::LineEnding},
};
use serde_json::json;
use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Longest accepted key file.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// Why a private key could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file system said no.
    #[error("{attempted} private key {}: {source}", path.display())]
    File {
        /// What was attempted.
        attempted: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Others than its owner can use the file.
    #[error("read private key {}: its mode {mode:04o} lets others use it; run `chmod 600` on it", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not an ed25519 key in PKCS#8 PEM.
    #[error("read private key {}: not an ed25519 key in PKCS#8 PEM", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
    },
    /// The system gave no random bytes.
    #[error("make a private key: no random bytes: {0}")]
    Random(String),
    /// The key could not be encoded.
    #[error("encode a private key: {0}")]
    Encode(String),
}

/// An ed25519 private key. Wiped from memory when dropped.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    /// A new key from the system's randomness.
    ///
    /// # Errors
    /// When the system has none.
    pub fn generate() -> Result<Self, KeyFileError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|e| KeyFileError::Random(e.to_string()))?;
        Ok(Self::from_seed(&seed))
    }

    /// The key of a seed. For tests and for keys derived elsewhere.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// Reads a PKCS#8 PEM file that only its owner can use.
    ///
    /// # Errors
    /// When it cannot be read, others can use it, or it holds something else.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let fail = |source| KeyFileError::File { attempted: "read", path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(fail)?;
        // Asked of the open file, so that it cannot be swapped in between.
        let mode = file.metadata().map_err(fail)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(fail)?;
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(&text);
        Ok(Self(key.map_err(|_| KeyFileError::Format { path: path.to_owned() })?))
    }

    /// Writes a new PKCS#8 PEM file with mode 0600. An existing file is never overwritten.
    ///
    /// # Errors
    /// When the file exists or cannot be written.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyFileError> {
        let pem = self.0.to_pkcs8_pem(LineEnding::LF).map_err(|e| KeyFileError::Encode(e.to_string()))?;
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(pem.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|source| KeyFileError::File { attempted: "write", path: path.to_owned(), source })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> Key {
        Key::ed25519(self.0.verifying_key())
    }

    /// Signs a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// Reads a public key in PEM (`BEGIN PUBLIC KEY`): ed25519, ECDSA P-256 or RSA, as the TUF key object that its type has.
///
/// # Errors
/// When it is of no type that this build can check.
pub fn public_key_from_pem(pem: &str) -> Result<Key, KeyError> {
    use ed25519_dalek::pkcs8::DecodePublicKey as _;
    if let Ok(key) = ed25519_dalek::VerifyingKey::from_public_key_pem(pem) {
        return Ok(Key::ed25519(key));
    }
    for (keytype, scheme) in [("ecdsa", "ecdsa-sha2-nistp256"), ("rsa", "rsassa-pss-sha256")] {
        let value = json!({"keytype": keytype, "scheme": scheme, "keyval": {"public": pem}});
        let key = Key::from_value(&value)?;
        if key.is_usable() {
            return Ok(key);
        }
    }
    Err(KeyError("not an ed25519, ECDSA P-256 or RSA public key in PEM".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_file_and_is_never_overwritten() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("key.pem");
        let key = SigningKey::generate().expect("generates");
        key.write_new(&path).expect("writes");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let back = SigningKey::read(&path).expect("reads");
        assert!(back.public().verify(b"m", &key.sign(b"m")));
        assert!(key.write_new(&path).is_err());
    }

    #[test]
    fn exposed_and_foreign_files_are_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("key.pem");
        SigningKey::generate().expect("generates").write_new(&path).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(SigningKey::read(&path), Err(KeyFileError::Exposed { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        fs::write(&path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").expect("writes");
        assert!(matches!(SigningKey::read(&path), Err(KeyFileError::Format { .. })));
    }
}

//! Operators' keys.

use crate::error::{Exit, Failure};
use serde_json::Value;
use std::path::Path;
use whimbrel_updater::{
    repo::{KeyFileError, RepoError, SigningKey, public_key_from_pem},
    tuf,
};

/// A private key from its file.
#[derive(Debug)]
pub(crate) struct Key(SigningKey);

impl Key {
    /// Makes a key in a new file with mode 0600.
    ///
    /// # Errors
    /// When the file exists already or cannot be written.
    pub(crate) fn generate(file: &Path) -> Result<Self, Failure> {
        let key = SigningKey::generate().map_err(|e| key_failure(&e))?;
        key.write_new(file).map_err(|e| key_failure(&e))?;
        Ok(Self(key))
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// Bad input when it is no key file; refused when others than its owner can use it.
    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        SigningKey::read(file).map(Self).map_err(|e| key_failure(&e))
    }

    /// The public half.
    pub(crate) fn public(&self) -> tuf::Key {
        self.0.public()
    }

    /// The key's id.
    ///
    /// # Errors
    /// When it has none, which no ed25519 key lacks.
    pub(crate) fn id(&self) -> Result<String, Failure> {
        self.public().id().map_err(|e| Failure::failed("naming the key", e))
    }

    pub(super) const fn signing(&self) -> &SigningKey {
        &self.0
    }
}

/// A public key: a TUF key object as JSON, what `whimbrel key show --json` prints, or PEM (`BEGIN PUBLIC KEY`).
///
/// # Errors
/// A sentence when it is none of them, or of a type that devices cannot check.
pub(crate) fn public_key(bytes: &[u8]) -> Result<tuf::Key, String> {
    if let Some(pem) = std::str::from_utf8(bytes).ok().filter(|text| text.contains("BEGIN PUBLIC KEY")) {
        return public_key_from_pem(pem).map_err(|e| e.to_string());
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|e| format!("neither JSON nor PEM: {e}"))?;
    let key = tuf::Key::from_value(value.get("key").unwrap_or(&value)).map_err(|e| e.to_string())?;
    if key.is_usable() { Ok(key) } else { Err("not a public key that devices can check".to_owned()) }
}

/// The failure that a key file's error stands for.
fn key_failure(e: &KeyFileError) -> Failure {
    let (attempted, why, exit) = match e {
        KeyFileError::File { attempted, path, source } => {
            let exit = if *attempted == "write" { Exit::Failed } else { Exit::Usage };
            (format!("{attempted} the key file {}", path.display()), source.to_string(), exit)
        }
        KeyFileError::Exposed { path, mode } => {
            let why = format!("its mode {mode:04o} lets others use it");
            let failure = Failure::refused(format!("read the key file {}", path.display()), why);
            return failure
                .hint(format!("run `chmod 600 {}`, and replace the key if it was seen", path.display()));
        }
        KeyFileError::Format { path } => {
            let why = "it is not an ed25519 key in PKCS#8 PEM".to_owned();
            (format!("read the key file {}", path.display()), why, Exit::Usage)
        }
        KeyFileError::Random(_) | KeyFileError::Encode(_) => {
            ("make a key".to_owned(), e.to_string(), Exit::Failed)
        }
    };
    Failure::new(attempted, why, exit)
}

/// The failure that an error of the signing half stands for.
pub(crate) fn repo_failure(attempted: &str, e: &RepoError) -> Failure {
    match e {
        RepoError::KeyFile(e) => key_failure(e),
        RepoError::Tuf(e) => tuf_failure(attempted, e),
        RepoError::Key(_) | RepoError::Invalid { .. } => Failure::usage(attempted, e),
    }
}

/// The failure that distrusted metadata stands for.
pub(crate) fn tuf_failure(attempted: &str, e: &tuf::TufError) -> Failure {
    Failure::new(attempted, e, tuf_exit(e))
}

fn tuf_exit(e: &tuf::TufError) -> Exit {
    use tuf::TufError as E;
    match e {
        E::Signature { .. }
        | E::Expired { .. }
        | E::Replayed { .. }
        | E::Inconsistent { .. }
        | E::Corrupt { .. }
        | E::Absent { .. } => Exit::Refused,
        E::TooLarge { .. } | E::Malformed { .. } | E::Key(_) => Exit::Usage,
        E::Fetch(_) | E::Disk(_) | E::Damaged { .. } => Exit::Failed,
        E::Delegated { source, .. } => tuf_exit(source),
    }
}

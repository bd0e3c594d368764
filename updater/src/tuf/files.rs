//! What metadata says about files: their length and hashes, and, of a target, what it is.

use super::TufError;
use crate::hash::{sha256, sha512};
use semver::Version;
use serde_json::Value;
use std::str::FromStr;
use whimbrel_wire::{Digest, ModelName};

/// What is signed about another metadata file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMeta {
    /// Its version.
    pub version: u64,
    /// Its size, where stated.
    pub length_bytes: Option<u64>,
    /// Its hashes, where stated.
    pub hashes: Option<Hashes>,
}

/// One target.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its path.
    pub path: String,
    /// Its size.
    pub length_bytes: u64,
    /// Its hashes.
    pub hashes: Hashes,
    /// What the signer said about it.
    pub custom: Value,
}

/// Hashes of one file. Where neither is there, the file cannot be checked and is never accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    /// SHA-256.
    pub sha256: Option<Digest>,
    /// SHA-512.
    pub sha512: Option<[u8; 64]>,
}

impl FileMeta {
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        let version = value.get("version").and_then(Value::as_u64).filter(|v| *v > 0);
        Ok(Self {
            version: version.ok_or("no version above 0")?,
            length_bytes: value.get("length").map(|v| v.as_u64().ok_or("length is no number")).transpose()?,
            hashes: value.get("hashes").map(Hashes::read).transpose()?,
        })
    }

    /// Checks the stated length and hashes.
    pub(super) fn check(&self, what: &str, bytes: &[u8]) -> Result<(), TufError> {
        match self.length_bytes {
            Some(length) if length != bytes.len() as u64 => Err(length_error(what, length, bytes)),
            _ => self.hashes.as_ref().map_or(Ok(()), |hashes| hashes.check(what, bytes)),
        }
    }
}

impl Target {
    pub(super) fn read(path: &str, entry: &Value) -> Result<Self, String> {
        Ok(Self {
            path: path.to_owned(),
            length_bytes: entry.get("length").and_then(Value::as_u64).ok_or("no length")?,
            hashes: Hashes::read(entry.get("hashes").ok_or("no hashes")?)?,
            custom: entry.get("custom").cloned().unwrap_or(Value::Null),
        })
    }

    /// Its name on a server with consistent snapshots: `dir/HASH.file`.
    #[must_use]
    pub fn file(&self) -> String {
        let hash = match (&self.hashes.sha256, &self.hashes.sha512) {
            (Some(sha256), _) => sha256.to_string(),
            (None, Some(sha512)) => hex::encode(sha512),
            (None, None) => return self.path.clone(),
        };
        match self.path.rsplit_once('/') {
            Some((dir, file)) => format!("{dir}/{hash}.{file}"),
            None => format!("{hash}.{}", self.path),
        }
    }

    /// Checks that `bytes` are this target.
    ///
    /// # Errors
    /// [`TufError::Corrupt`].
    pub fn check(&self, bytes: &[u8]) -> Result<(), TufError> {
        if self.length_bytes != bytes.len() as u64 {
            return Err(length_error(&self.path, self.length_bytes, bytes));
        }
        self.hashes.check(&self.path, bytes)
    }

    /// The model and version that the signer says the target holds, where it says so.
    #[must_use]
    pub fn model(&self) -> Option<(ModelName, Version)> {
        let about = self.custom.get("whimbrel")?;
        let name = ModelName::from_str(about.get("model")?.as_str()?).ok()?;
        Some((name, Version::parse(about.get("version")?.as_str()?).ok()?))
    }
}

impl Hashes {
    /// Both hashes of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha256: Some(sha256(bytes)), sha512: Some(sha512(bytes)) }
    }

    fn read(value: &Value) -> Result<Self, String> {
        let text = |name: &str| value.get(name).map(|v| v.as_str().ok_or(format!("{name} is no text")));
        let sha256 = match text("sha256").transpose()? {
            Some(text) => Some(Digest::from_str(text).map_err(|e| e.to_string())?),
            None => None,
        };
        let sha512 = match text("sha512").transpose()? {
            Some(text) => {
                let mut bytes = [0; 64];
                hex::decode_to_slice(text, &mut bytes).map_err(|e| format!("sha512: {e}"))?;
                Some(bytes)
            }
            None => None,
        };
        if !value.is_object() {
            return Err("hashes is no object".into());
        }
        Ok(Self { sha256, sha512 })
    }

    fn check(&self, what: &str, bytes: &[u8]) -> Result<(), TufError> {
        if self.sha256.is_none() && self.sha512.is_none() {
            let reason = "neither sha256 nor sha512 is among its hashes".to_owned();
            return Err(TufError::Corrupt { what: what.to_owned(), reason });
        }
        let sha256_ok = self.sha256.is_none_or(|digest| digest == sha256(bytes));
        let sha512_ok = self.sha512.is_none_or(|digest| digest == sha512(bytes));
        if sha256_ok && sha512_ok {
            return Ok(());
        }
        Err(TufError::Corrupt { what: what.to_owned(), reason: "its hash is not the signed one".into() })
    }
}

fn length_error(what: &str, length: u64, bytes: &[u8]) -> TufError {
    TufError::Corrupt { what: what.to_owned(), reason: format!("{} bytes, {length} are signed", bytes.len()) }
}

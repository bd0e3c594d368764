//! What metadata says about files: their length and hashes, and, of a target, what it is.

use super::TufError;
use crate::hash::{Sha256, Sha512, sha256, sha512};
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
            Some(length) if length != bytes.len() as u64 => {
                Err(length_error(what, length, bytes.len() as u64))
            }
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
        let mut checker = self.checker();
        checker.update(bytes);
        checker.finish()
    }

    /// Checks bytes that come in parts.
    #[must_use]
    pub fn checker(&self) -> TargetChecker<'_> {
        TargetChecker { target: self, bytes: 0, hasher: self.hashes.hasher() }
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
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish(what, self)
    }

    /// Computes those hashes that are there.
    fn hasher(&self) -> Hasher {
        let (sha256, sha512) =
            (self.sha256.map(|_| Sha256::default()), self.sha512.map(|_| Sha512::default()));
        Hasher { sha256, sha512 }
    }
}

/// A target's length and hashes over bytes that come in parts.
#[derive(Debug, Clone)]
pub struct TargetChecker<'a> {
    target: &'a Target,
    bytes: u64,
    hasher: Hasher,
}

impl TargetChecker<'_> {
    /// Takes the next part. What goes beyond the signed length is counted and not hashed.
    pub fn update(&mut self, part: &[u8]) {
        self.bytes = self.bytes.saturating_add(part.len() as u64);
        if self.bytes <= self.target.length_bytes {
            self.hasher.update(part);
        }
    }

    /// How many bytes were taken.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Checks that all parts together are the target.
    ///
    /// # Errors
    /// [`TufError::Corrupt`].
    pub fn finish(self) -> Result<(), TufError> {
        let Target { path, length_bytes, hashes, .. } = self.target;
        if self.bytes != *length_bytes {
            return Err(length_error(path, *length_bytes, self.bytes));
        }
        self.hasher.finish(path, hashes)
    }
}

#[derive(Debug, Clone)]
struct Hasher {
    sha256: Option<Sha256>,
    sha512: Option<Sha512>,
}

impl Hasher {
    fn update(&mut self, part: &[u8]) {
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(part);
        }
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(part);
        }
    }

    /// Compares with the signed hashes, of which there must be one.
    fn finish(self, what: &str, signed: &Hashes) -> Result<(), TufError> {
        let found =
            Hashes { sha256: self.sha256.map(Sha256::finish), sha512: self.sha512.map(Sha512::finish) };
        let reason = match signed {
            Hashes { sha256: None, sha512: None } => "neither sha256 nor sha512 is among its hashes",
            signed if *signed == found => return Ok(()),
            _ => "its hash is not the signed one",
        };
        Err(TufError::Corrupt { what: what.to_owned(), reason: reason.into() })
    }
}

fn length_error(what: &str, length: u64, found: u64) -> TufError {
    TufError::Corrupt { what: what.to_owned(), reason: format!("{found} bytes, {length} are signed") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(hashes: Hashes) -> Target {
        Target { path: "t".into(), length_bytes: 6, hashes, custom: Value::Null }
    }

    fn check(target: &Target, parts: &[&str]) -> Result<(), TufError> {
        let mut checker = target.checker();
        parts.iter().for_each(|part| checker.update(part.as_bytes()));
        let (end, whole) = (checker.finish(), target.check(parts.concat().as_bytes()));
        assert_eq!(end.is_ok(), whole.is_ok(), "in parts as in one");
        end
    }

    #[test]
    fn a_target_is_known_by_its_length_and_every_hash_it_has_however_it_is_cut() {
        let (of, other) = (Hashes::of(b"signed"), Hashes::of(b"others"));
        for hashes in
            [of.clone(), Hashes { sha512: None, ..of.clone() }, Hashes { sha256: None, ..of.clone() }]
        {
            let target = target(hashes);
            for parts in [&["signed"][..], &["s", "igne", "", "d"]] {
                check(&target, parts).expect("the signed one");
            }
            for parts in [&["others"][..], &["sig", "ned", "!"], &["signed!"], &["sig"], &[]] {
                assert!(matches!(check(&target, parts), Err(TufError::Corrupt { .. })), "{parts:?}");
            }
        }
        for hashes in [
            Hashes { sha256: other.sha256, ..of.clone() },
            Hashes { sha512: other.sha512, ..of },
            Hashes { sha256: None, sha512: None },
        ] {
            assert!(check(&target(hashes), &["signed"]).is_err());
        }
    }
}

//! A metadata file: its signed part, its signatures, its bytes.

use super::{Key, Role, RoleKeys, RoleName, TufError, canonical::canonical, parse::parse};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Most signatures on one file.
const SIGNATURES_MAX: usize = 1024;

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Id of the key that is said to have made it.
    pub keyid: String,
    /// The signature; empty where it was not hexadecimal.
    pub sig: Vec<u8>,
}

/// A parsed metadata file. That it could be parsed says nothing about whether it may be trusted.
#[derive(Debug, Clone)]
pub struct Signed<T> {
    body: T,
    bytes: Vec<u8>,
    message: Vec<u8>,
    signatures: Vec<Signature>,
}

/// How many of a role's keys signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Distinct keys with a good signature.
    pub valid: usize,
    /// How many are needed.
    pub threshold: u64,
}

impl Standing {
    /// Whether that is enough.
    #[must_use]
    pub const fn is_met(&self) -> bool {
        self.valid as u64 >= self.threshold
    }
}

impl<T: Role> Signed<T> {
    /// Reads a file of this role, within its limits.
    ///
    /// # Errors
    /// When it is too large or not of the format.
    pub fn parse(bytes: &[u8]) -> Result<Self, TufError> {
        let role = T::NAME;
        if bytes.len() as u64 > T::SIZE_BYTES_MAX {
            return Err(TufError::TooLarge {
                role,
                size_bytes: bytes.len() as u64,
                size_bytes_max: T::SIZE_BYTES_MAX,
            });
        }
        let malformed = |reason: String| TufError::Malformed { role, reason };
        let value = parse(bytes).map_err(malformed)?;
        let signed = value.get("signed").ok_or_else(|| malformed("no \"signed\" part".into()))?;
        let message = canonical(signed).map_err(|e| malformed(e.to_string()))?;
        let signatures = signatures(&value).map_err(malformed)?;
        let body = T::from_signed(signed).map_err(malformed)?;
        Ok(Self { body, bytes: bytes.to_vec(), message, signatures })
    }

    /// What it says.
    #[must_use]
    pub const fn body(&self) -> &T {
        &self.body
    }

    /// The file as it came.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The signatures on it, good or not.
    #[must_use]
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// How many of `role`'s keys signed this file.
    #[must_use]
    pub fn standing(&self, role: &RoleKeys, keys: &BTreeMap<String, Key>) -> Standing {
        let mut counted: Vec<&Key> = Vec::new();
        for signature in &self.signatures {
            if !role.keyids.contains(&signature.keyid) {
                continue;
            }
            let Some(key) = keys.get(&signature.keyid) else { continue };
            if !counted.iter().any(|k| k.is_same(key)) && key.verify(&self.message, &signature.sig) {
                counted.push(key);
            }
        }
        Standing { valid: counted.len(), threshold: role.threshold }
    }

    /// Checks that enough of `role`'s keys signed; `by` names whose list it is.
    pub(super) fn verify(
        &self,
        role: &RoleKeys,
        keys: &BTreeMap<String, Key>,
        by: impl ToString,
    ) -> Result<(), TufError> {
        let standing = self.standing(role, keys);
        if standing.is_met() {
            return Ok(());
        }
        let Standing { valid, threshold } = standing;
        Err(TufError::Signature { role: T::NAME, by: by.to_string(), valid, threshold })
    }
}

impl Signed<super::Root> {
    /// Checks that enough of a role's keys, as this root lists them, signed `other`.
    ///
    /// # Errors
    /// [`TufError::Signature`].
    pub fn vouches_for<T: Role>(&self, other: &Signed<T>) -> Result<(), TufError> {
        let root = self.body();
        other.verify(root.role(T::NAME), &root.keys, format_args!("root {}", root.version))
    }
}

fn signatures(value: &Value) -> Result<Vec<Signature>, String> {
    let list = value.get("signatures").and_then(Value::as_array).ok_or("no list of \"signatures\"")?;
    if list.len() > SIGNATURES_MAX {
        return Err(format!("{} signatures, at most {SIGNATURES_MAX} are accepted", list.len()));
    }
    let read = |entry: &Value| {
        let keyid = entry.get("keyid")?.as_str()?.to_owned();
        let sig = hex::decode(entry.get("sig")?.as_str()?).unwrap_or_default();
        Some(Signature { keyid, sig })
    };
    let mut signatures = Vec::with_capacity(list.len());
    let mut keyids = BTreeSet::new();
    for entry in list {
        let signature = read(entry).ok_or_else(|| "a signature without keyid or sig".to_owned())?;
        // Section 4.2: a key id that signs twice makes the file void, whatever else is on it.
        if !keyids.insert(signature.keyid.clone()) {
            return Err(format!("two signatures by the key {:?}", signature.keyid));
        }
        signatures.push(signature);
    }
    Ok(signatures)
}

impl RoleName {
    /// The name of the role's file in the trust folder.
    #[must_use]
    pub fn file(self) -> String {
        format!("{self}.json")
    }
}

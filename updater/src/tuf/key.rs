//! Public keys.

use super::{canonical::canonical, scheme::Scheme};
use crate::hash::sha256;
use ed25519_dalek::VerifyingKey;
use serde_json::{Value, json};

/// A public key as TUF metadata carries it.
#[derive(Debug, Clone)]
pub struct Key {
    value: Value,
    scheme: Scheme,
}

impl PartialEq for Key {
    /// The scheme follows from the value.
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// Why a value is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read a public key: {0}")]
pub struct KeyError(pub(crate) String);

impl Key {
    /// An ed25519 key.
    #[must_use]
    pub fn ed25519(key: VerifyingKey) -> Self {
        let public = hex::encode(key.as_bytes());
        let value = json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}});
        Self { value, scheme: Scheme::Ed25519(key) }
    }

    /// Reads a TUF key object. A type that this build cannot check is accepted, but will never verify anything.
    ///
    /// # Errors
    /// When `keytype`, `scheme` or `keyval` is missing.
    pub fn from_value(value: &Value) -> Result<Self, KeyError> {
        let text = |field: &str| {
            value.get(field).and_then(Value::as_str).ok_or_else(|| KeyError(format!("no text in {field:?}")))
        };
        let (keytype, scheme) = (text("keytype")?, text("scheme")?);
        let keyval = value.get("keyval").filter(|v| v.is_object());
        let keyval = keyval.ok_or_else(|| KeyError("no object in \"keyval\"".into()))?;
        Ok(Self { scheme: Scheme::read(keytype, scheme, keyval), value: value.clone() })
    }

    /// The TUF key object.
    #[must_use]
    pub fn to_value(&self) -> Value {
        self.value.clone()
    }

    /// The key id: SHA-256 of the canonical form of the key object, hexadecimal.
    ///
    /// # Errors
    /// When the object holds numbers that have no canonical form.
    pub fn id(&self) -> Result<String, KeyError> {
        let plain = json!({
            "keytype": self.value["keytype"],
            "scheme": self.value["scheme"],
            "keyval": self.value["keyval"],
        });
        let bytes = canonical(&plain).map_err(|e| KeyError(e.to_string()))?;
        Ok(sha256(&bytes).to_string())
    }

    /// Whether this build can check signatures of the key.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.scheme.is_usable()
    }

    /// Whether `signature` over `message` is good.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.scheme.verify(message, signature)
    }

    /// Whether both are the same key, however they are written down: one key under two ids must not count twice.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.scheme.is_same_key(&other.scheme) || self.value == other.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The id that python's securesystemslib gives this key.
    #[test]
    fn the_key_id_is_the_hash_of_the_canonical_key() {
        let value = json!({
            "keyval": {"public": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"},
            "scheme": "ed25519", "keytype": "ed25519",
        });
        let key = Key::from_value(&value).expect("a key");
        let text = "{\"keytype\":\"ed25519\",\"keyval\":{\"public\":\"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\"},\"scheme\":\"ed25519\"}";
        assert_eq!(key.id().expect("an id"), sha256(text.as_bytes()).to_string());
        assert!(key.is_usable());
    }

    #[test]
    fn unknown_and_broken_keys_verify_nothing() {
        for value in [
            json!({"keytype": "rsa", "scheme": "future", "keyval": {"public": "x"}}),
            json!({"keytype": "rsa", "scheme": "rsassa-pss-sha256", "keyval": {"public": "x"}}),
            json!({"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"}}),
            json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "00"}}),
            json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {}}),
        ] {
            let key = Key::from_value(&value).expect("kept");
            assert!(!key.is_usable() && !key.verify(b"", &[0; 64]));
        }
        assert!(Key::from_value(&json!({"keytype": "ed25519"})).is_err());
    }
}

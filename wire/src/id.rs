//! Checked names. A value of one of these types is safe in a path, a topic, a URL and a log line.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// Why a name or digest was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value:?}: {expected}")]
pub struct IdError {
    kind: &'static str,
    value: String,
    expected: &'static str,
}

const NAME_LEN_MAX: usize = 64;
const NAME_RULE: &str = "expected 1 to 64 of a-z 0-9 . _ - starting with a letter or digit, without '..'";

fn is_name(s: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    !s.is_empty()
        && s.len() <= NAME_LEN_MAX
        && ok(s.as_bytes()[0])
        && s.bytes().all(|b| ok(b) || matches!(b, b'.' | b'_' | b'-'))
        && !s.contains("..")
}

/// Cuts a refused value so that an error stays one readable line whatever came in.
fn excerpt(s: &str) -> String {
    s.chars().take(80).collect()
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                if is_name(s) {
                    Ok(Self(s.to_owned()))
                } else {
                    Err(IdError { kind: $kind, value: excerpt(s), expected: NAME_RULE })
                }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

name_type!(
    /// A model's name, the same in every version of it.
    ModelName, "model name"
);
name_type!(
    /// A device's name: the common name of its certificate.
    DeviceId, "device id"
);
name_type!(
    /// The tenant a device belongs to.
    TenantId, "tenant id"
);

/// A SHA-256 digest. Text form: 64 lower-case hexadecimal digits; CBOR form: 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Wraps the 32 bytes of a finished SHA-256.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}
impl FromStr for Digest {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        let fail = || IdError {
            kind: "sha256",
            value: excerpt(s),
            expected: "expected 64 lower-case hexadecimal digits",
        };
        if s.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(fail());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(s, &mut bytes).map_err(|_| fail())?;
        Ok(Self(bytes))
    }
}
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}
impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.serialize_str(&self.to_string()) } else { s.serialize_bytes(&self.0) }
    }
}
impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Raw;
        impl de::Visitor<'_> for Raw {
            type Value = Digest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("32 bytes")
            }
            fn visit_bytes<E: de::Error>(self, v: &[u8]) -> Result<Digest, E> {
                v.try_into().map(Digest).map_err(|_| E::invalid_length(v.len(), &self))
            }
        }
        if d.is_human_readable() {
            String::deserialize(d)?.parse().map_err(de::Error::custom)
        } else {
            d.deserialize_bytes(Raw)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_escape_a_path_or_topic_are_refused() {
        let long = "a".repeat(65);
        for bad in ["", ".", "..", "a/b", "a..b", "-a", "A", "a b", "a+", "#", "a\0", "é", long.as_str()] {
            assert!(bad.parse::<DeviceId>().is_err(), "accepted {bad:?}");
        }
        for good in ["a", "0", "cam-7", "line_3.left", &"a".repeat(64)] {
            assert!(good.parse::<DeviceId>().is_ok(), "refused {good:?}");
        }
    }

    #[test]
    fn digests_have_one_text_form() {
        let text = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        assert_eq!(text.parse::<Digest>().expect("parses").to_string(), text);
        assert!(text.to_uppercase().parse::<Digest>().is_err());
        assert!(text[1..].parse::<Digest>().is_err());
    }
}

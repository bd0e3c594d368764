//! Envelope and limits around CBOR.
//!
//! The CBOR library is unmaintained, so it is used here only, behind a scan that bounds what it will ever see. The scan is
//! iterative, allocates nothing that grows with the claimed lengths, and rejects indefinite lengths and tags, which no
//! message of ours uses.

use serde::{Serialize, de::DeserializeOwned};

/// A type with a fixed place in the protocol: its version byte and its limits.
pub trait Message: Serialize + DeserializeOwned {
    /// What the message is called in errors.
    const NAME: &'static str;
    /// The version byte written first.
    const VERSION: u8 = 1;
    /// Longest accepted encoding, envelope included.
    const SIZE_BYTES_MAX: usize;
    /// Deepest accepted nesting of arrays and maps.
    const DEPTH_MAX: usize = 12;
    /// Most CBOR items accepted in one message.
    const ITEMS_MAX: usize = 200_000;

    /// Checks what the type itself cannot express; called after decoding and before encoding.
    ///
    /// # Errors
    /// A sentence naming the field and the rule it breaks.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Why bytes were not accepted as a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing was there, not even the version byte.
    #[error("{name}: empty message")]
    Empty {
        /// The message's name.
        name: &'static str,
    },
    /// Longer than the message may be.
    #[error("{name}: {size_bytes} bytes, at most {size_bytes_max} are accepted")]
    TooLarge {
        /// The message's name.
        name: &'static str,
        /// What came.
        size_bytes: usize,
        /// What is accepted.
        size_bytes_max: usize,
    },
    /// A version this build does not read.
    #[error("{name}: version {found}, this build reads version {expected}")]
    Version {
        /// The message's name.
        name: &'static str,
        /// The byte that came.
        found: u8,
        /// The byte that is read.
        expected: u8,
    },
    /// Not well-formed, or beyond the depth or item limit.
    #[error("{name}: byte {offset}: {reason}")]
    Malformed {
        /// The message's name.
        name: &'static str,
        /// Where, counted from the version byte.
        offset: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// Well-formed, but not of this type.
    #[error("{name}: {reason}")]
    Shape {
        /// The message's name.
        name: &'static str,
        /// What the type expected.
        reason: String,
    },
    /// Of this type, but breaking one of its rules.
    #[error("{name}: {reason}")]
    Invalid {
        /// The message's name.
        name: &'static str,
        /// The rule.
        reason: String,
    },
}

/// Why a message could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct EncodeError {
    /// The message's name.
    pub name: &'static str,
    /// What stood in the way.
    pub reason: String,
}

/// Writes the version byte and the CBOR item.
///
/// # Errors
/// When the value breaks its own rules or its size limit: such a message would be refused by whoever reads it.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, EncodeError> {
    let fail = |reason: String| EncodeError { name: M::NAME, reason };
    message.validate().map_err(fail)?;
    let mut out = vec![M::VERSION];
    serde_cbor::to_writer(&mut out, message).map_err(|e| fail(e.to_string()))?;
    if out.len() > M::SIZE_BYTES_MAX {
        return Err(fail(format!("{} bytes, at most {} are accepted", out.len(), M::SIZE_BYTES_MAX)));
    }
    Ok(out)
}

/// Reads one message, whole: nothing may follow it.
///
/// # Errors
/// See [`DecodeError`]; the bytes are never partly accepted.
pub fn decode<M: Message>(bytes: &[u8]) -> Result<M, DecodeError> {
    let name = M::NAME;
    if bytes.len() > M::SIZE_BYTES_MAX {
        return Err(DecodeError::TooLarge {
            name,
            size_bytes: bytes.len(),
            size_bytes_max: M::SIZE_BYTES_MAX,
        });
    }
    let (&found, body) = bytes.split_first().ok_or(DecodeError::Empty { name })?;
    if found != M::VERSION {
        return Err(DecodeError::Version { name, found, expected: M::VERSION });
    }
    scan(body, M::DEPTH_MAX, M::ITEMS_MAX).map_err(|(offset, reason)| DecodeError::Malformed {
        name,
        offset: offset + 1,
        reason,
    })?;
    let message: M =
        serde_cbor::from_slice(body).map_err(|e| DecodeError::Shape { name, reason: e.to_string() })?;
    message.validate().map_err(|reason| DecodeError::Invalid { name, reason })?;
    Ok(message)
}

/// Checks that `body` is exactly one CBOR item within the limits. On failure: the offset and the reason.
fn scan(body: &[u8], depth_max: usize, items_max: usize) -> Result<(), (usize, &'static str)> {
    // For each open container, how many items it still waits for.
    let mut open: Vec<u64> = Vec::with_capacity(depth_max);
    let mut at = 0usize;
    let mut items = 0usize;
    loop {
        items += 1;
        if items > items_max {
            return Err((at, "more items than are accepted"));
        }
        let (children, next) = item(body, at)?;
        at = next;
        if children > 0 {
            // Each item takes at least one byte, so a larger claim is a lie about what follows.
            if children > (body.len() - at) as u64 {
                return Err((at, "a container claims more items than bytes follow"));
            }
            if open.len() == depth_max {
                return Err((at, "nested deeper than is accepted"));
            }
            open.push(children);
            continue;
        }
        while let Some(left) = open.last_mut() {
            *left -= 1;
            if *left > 0 {
                break;
            }
            open.pop();
        }
        if open.is_empty() {
            return if at == body.len() { Ok(()) } else { Err((at, "bytes follow the message")) };
        }
    }
}

/// Reads one item's head at `at`: how many items it contains, and where its own bytes end.
fn item(body: &[u8], at: usize) -> Result<(u64, usize), (usize, &'static str)> {
    let head = *body.get(at).ok_or((at, "ends in the middle"))?;
    let (major, info) = (head >> 5, head & 0x1f);
    let argument_len = match info {
        0..=23 => 0,
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return Err((at, "indefinite or reserved length")),
    };
    let start = at + 1;
    let argument = body.get(start..start + argument_len).ok_or((at, "ends in the middle"))?;
    let value = if argument_len == 0 {
        u64::from(info)
    } else {
        argument.iter().fold(0u64, |sum, &b| (sum << 8) | u64::from(b))
    };
    let end = start + argument_len;
    match major {
        0 | 1 | 7 => Ok((0, end)),
        2 | 3 => {
            let len = usize::try_from(value).map_err(|_| (at, "a string longer than the message"))?;
            match end.checked_add(len) {
                Some(stop) if stop <= body.len() => Ok((0, stop)),
                _ => Err((at, "a string longer than the message")),
            }
        }
        4 => Ok((value, end)),
        5 => Ok((value.checked_mul(2).ok_or((at, "a map longer than the message"))?, end)),
        _ => Err((at, "tags are not used")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Small {
        n: Vec<u32>,
    }
    impl Message for Small {
        const NAME: &'static str = "small";
        const SIZE_BYTES_MAX: usize = 64;
        const DEPTH_MAX: usize = 3;
        fn validate(&self) -> Result<(), String> {
            if self.n.len() > 4 { Err("n has more than 4 entries".into()) } else { Ok(()) }
        }
    }

    #[test]
    fn round_trip_keeps_the_value_and_starts_with_the_version() {
        let bytes = encode(&Small { n: vec![1, 2, 300] }).expect("encodes");
        assert_eq!(bytes[0], 1);
        assert_eq!(decode::<Small>(&bytes).expect("decodes"), Small { n: vec![1, 2, 300] });
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = encode(&Small { n: vec![1, 2, 300] }).expect("encodes");
        for end in 0..bytes.len() {
            assert!(decode::<Small>(&bytes[..end]).is_err(), "accepted {end} of {} bytes", bytes.len());
        }
    }

    #[test]
    fn trailing_bytes_wrong_version_and_broken_rules_are_refused() {
        let mut bytes = encode(&Small { n: vec![] }).expect("encodes");
        bytes.push(0);
        assert!(matches!(decode::<Small>(&bytes), Err(DecodeError::Malformed { .. })));
        assert!(matches!(decode::<Small>(&[2, 0xa0]), Err(DecodeError::Version { found: 2, .. })));
        assert!(matches!(decode::<Small>(&[]), Err(DecodeError::Empty { .. })));
        assert!(matches!(decode::<Small>(&[0; 65]), Err(DecodeError::TooLarge { .. })));
        assert!(encode(&Small { n: vec![0; 5] }).is_err());
        let five = [1, 0xa1, 0x61, b'n', 0x85, 0, 0, 0, 0, 0];
        assert!(matches!(decode::<Small>(&five), Err(DecodeError::Invalid { .. })));
    }

    #[test]
    fn lies_about_length_and_depth_are_refused_before_parsing() {
        // An array that claims 2^63 items, a string that claims 4 GB, nesting beyond the limit, an indefinite array, a tag.
        for body in [
            &[0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..],
            &[0x7a, 0xff, 0xff, 0xff, 0xff],
            &[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x81, 0x81, 0x81, 0x81, 0x00],
            &[0x9f, 0xff],
            &[0xc0, 0x00],
        ] {
            let mut bytes = vec![1];
            bytes.extend_from_slice(body);
            assert!(matches!(decode::<Small>(&bytes), Err(DecodeError::Malformed { .. })), "{body:02x?}");
        }
    }
}

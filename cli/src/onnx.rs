//! The names of the operators in an ONNX file: a walk over its protobuf bytes, without what runs a model.
//!
//! Field numbers are those of `onnx.proto`: a model's graph (7), a graph's nodes (1), a node's operator (4), attributes (5) and
//! domain (7), an attribute's graph (6) and graphs (11).

use std::collections::BTreeSet;

/// Deepest graph within a graph.
const DEPTH_MAX: usize = 16;

/// The operators that a model uses, sorted, each once: `Conv`, and `com.microsoft.Gelu` outside ONNX's own domain. `None` when
/// the bytes are no model.
pub(crate) fn operators(model: &[u8]) -> Option<Vec<String>> {
    let mut found = BTreeSet::new();
    for (field, value) in fields(model) {
        if field? == 7 {
            graph(value, 0, &mut found)?;
        }
    }
    Some(found.into_iter().collect())
}

fn graph(bytes: &[u8], depth: usize, found: &mut BTreeSet<String>) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    for (field, value) in fields(bytes) {
        if field? == 1 {
            node(value, depth, found)?;
        }
    }
    Some(())
}

fn node(bytes: &[u8], depth: usize, found: &mut BTreeSet<String>) -> Option<()> {
    let (mut operator, mut domain) = ("", "");
    for (field, value) in fields(bytes) {
        match field? {
            4 => operator = std::str::from_utf8(value).ok()?,
            7 => domain = std::str::from_utf8(value).ok()?,
            5 => {
                for (field, value) in fields(value) {
                    if matches!(field?, 6 | 11) {
                        graph(value, depth + 1, found)?;
                    }
                }
            }
            _ => {}
        }
    }
    let plain = domain.is_empty() || domain == "ai.onnx";
    found.insert(if plain { operator.to_owned() } else { format!("{domain}.{operator}") });
    Some(())
}

/// The fields of a message with their bytes, which are empty for numbers. Ends with `None` where the bytes are no message.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (Option<u64>, &[u8])> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let next = field(bytes);
        bytes = next.map_or(&[][..], |(_, _, rest)| rest);
        Some(next.map_or((None, &[][..]), |(number, value, _)| (Some(number), value)))
    })
}

fn field(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (key, rest) = varint(bytes)?;
    let (value, rest) = match key & 7 {
        0 => (&[][..], varint(rest)?.1),
        1 => (&[][..], rest.get(8..)?),
        2 => {
            let (len, rest) = varint(rest)?;
            rest.split_at_checked(usize::try_from(len).ok()?)?
        }
        5 => (&[][..], rest.get(4..)?),
        _ => return None,
    };
    Some((key >> 3, value, rest))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(at).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field that holds bytes.
    fn put(number: u8, value: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(value.len()).expect("short")], value].concat()
    }

    #[test]
    fn operators_of_inner_graphs_and_other_domains_are_found() {
        let inner = put(1, &put(4, b"Relu"));
        let node = [put(4, b"If"), put(5, &put(6, &inner))].concat();
        let other = [put(4, b"Gelu"), put(7, b"com.microsoft")].concat();
        let model = [vec![0x08, 0x09], put(7, &[put(1, &node), put(1, &other)].concat())].concat();
        assert_eq!(operators(&model).expect("a model"), ["If", "Relu", "com.microsoft.Gelu"]);
    }

    #[test]
    fn what_is_no_message_is_no_model() {
        for bytes in [&b"\x3a\x7f"[..], b"\x3a\xff", b"\x0f", &[0xff; 12]] {
            assert_eq!(operators(bytes), None, "{bytes:02x?}");
        }
    }
}

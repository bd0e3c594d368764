//! A walk over the protobuf bytes that bounds what decoding them will cost.
//!
//! A decoder makes a struct of some 200 bytes out of an empty message of two, so that a file within the size limit
//! could still take a hundred times its size. This walk takes no memory, follows the messages that ONNX nests, and
//! counts their fields.

use crate::error::LoadError;

/// Deepest nesting that is followed: subgraphs within subgraphs.
const DEPTH_MAX: usize = 64;

#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Training,
    Function,
    Annotation,
    Leaf,
}

impl Message {
    /// The message that a length-delimited field of this message holds; `None` for strings, bytes and packed numbers.
    const fn child(self, field: u64) -> Option<Self> {
        Some(match (self, field) {
            (Self::Model, 7) | (Self::Training, 1 | 2) | (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Model, 20) => Self::Training,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => Self::Tensor,
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::SparseTensor,
            (Self::Graph, 11..=13) => Self::ValueInfo,
            (Self::Graph, 14) => Self::Annotation,
            (Self::Node, 5) => Self::Attribute,
            (Self::ValueInfo, 2) | (Self::Attribute, 14 | 15) => Self::Type,
            (Self::Type, 1) => Self::TensorType,
            (Self::TensorType, 2) => Self::Shape,
            (Self::Model, 8 | 14)
            | (Self::Training, 3 | 4)
            | (Self::Function, 9)
            | (Self::Annotation, 2)
            | (Self::Tensor, 13)
            | (Self::Shape, 1) => Self::Leaf,
            _ => return None,
        })
    }
}

/// Counts the fields of every message, at most `max` of them.
///
/// # Errors
/// There are more, the nesting is too deep, or the bytes are no protobuf.
pub(crate) fn scan(bytes: &[u8], max: usize) -> Result<(), LoadError> {
    let mut left = max;
    walk(bytes, Message::Model, DEPTH_MAX, &mut left).map_err(|stop| match stop {
        Stop::Malformed(why) => LoadError::Malformed { why: why.to_owned() },
        Stop::TooMany => LoadError::TooLarge {
            what: "the number of protobuf fields".into(),
            found: format!("more than {max}"),
            max,
        },
        Stop::TooDeep => {
            LoadError::TooLarge { what: "the nesting".into(), found: "deeper".into(), max: DEPTH_MAX }
        }
    })
}

enum Stop {
    Malformed(&'static str),
    TooMany,
    TooDeep,
}

fn walk(mut bytes: &[u8], message: Message, depth: usize, left: &mut usize) -> Result<(), Stop> {
    if depth == 0 {
        return Err(Stop::TooDeep);
    }
    while !bytes.is_empty() {
        *left = left.checked_sub(1).ok_or(Stop::TooMany)?;
        let key = varint(&mut bytes)?;
        match key & 7 {
            0 => {
                varint(&mut bytes)?;
            }
            1 => {
                take(&mut bytes, 8)?;
            }
            2 => {
                let len = usize::try_from(varint(&mut bytes)?).map_err(|_| TRUNCATED)?;
                let body = take(&mut bytes, len)?;
                if let Some(child) = message.child(key >> 3) {
                    walk(body, child, depth - 1, left)?;
                }
            }
            5 => {
                take(&mut bytes, 4)?;
            }
            _ => return Err(Stop::Malformed("a field has a wire type that ONNX does not use")),
        }
    }
    Ok(())
}

const TRUNCATED: Stop = Stop::Malformed("it ends in the middle of a field, or is no protobuf");

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], Stop> {
    let (head, tail) = bytes.split_at_checked(len).ok_or(TRUNCATED)?;
    *bytes = tail;
    Ok(head)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Stop> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Stop::Malformed("a number has more than ten bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tiny_messages_are_counted_before_they_cost_memory() {
        // A graph of empty nodes: two bytes each in the file.
        let nodes: Vec<u8> = [0x0a, 0].repeat(1000);
        let mut model = vec![0x3a, 0xd0, 0x0f];
        model.extend_from_slice(&nodes);
        assert!(scan(&model, 1001).is_ok());
        assert!(matches!(scan(&model, 1000), Err(LoadError::TooLarge { .. })));
    }

    #[test]
    fn nesting_ends() {
        // Node -> attribute -> graph -> node -> ... as far as lengths of one byte reach.
        let mut body = Vec::new();
        for _ in 0..40 {
            for key in [0x32u8, 0x2a, 0x0a] {
                let mut len = Vec::new();
                let mut n = body.len();
                while n > 0x7f {
                    len.push((n & 0x7f) as u8 | 0x80);
                    n >>= 7;
                }
                len.push(n as u8);
                body = [vec![key], len, body].concat();
            }
        }
        let mut model = vec![0x3a];
        let mut n = body.len();
        while n > 0x7f {
            model.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        model.push(n as u8);
        model.extend(body);
        assert!(matches!(scan(&model, 1_000_000), Err(LoadError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = scan(&bytes, 1000);
        }
    }
}

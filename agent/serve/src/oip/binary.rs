//! Tensors in the binary tensor data extension: little-endian elements; a byte string is its length in four bytes, and
//! its bytes.

use whimbrel_infer::{Datatype, Tensor, element_count};

/// Reads a tensor from exactly these bytes.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn read(datatype: Datatype, shape: Vec<usize>, bytes: &[u8]) -> Result<Tensor, String> {
    if datatype != Datatype::Bytes {
        return Tensor::from_le_bytes(datatype, shape, bytes.to_vec()).map_err(|e| e.to_string());
    }
    let count = element_count(&shape).ok_or("the shape is too large")?;
    // Each string has at least its length: more cannot be there, and memory is taken for what is there only.
    if count > bytes.len() / 4 {
        return Err(format!("{count} strings need at least 4 bytes each, found {} bytes", bytes.len()));
    }
    let mut strings = Vec::with_capacity(count);
    let mut rest = bytes;
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk::<4>().ok_or("a string's length is cut off")?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|e| e.to_string())?;
        let (string, tail) = tail.split_at_checked(length).ok_or("a string is cut off")?;
        if strings.len() == count {
            return Err(format!("there are more than {count} strings"));
        }
        strings.push(string.to_vec());
        rest = tail;
    }
    Tensor::from_strings(shape, strings).map_err(|e| e.to_string())
}

/// Appends a tensor; the number of bytes appended.
///
/// # Errors
/// A string is longer than its length can say.
pub(crate) fn write(tensor: &Tensor, out: &mut Vec<u8>) -> Result<usize, String> {
    let before = out.len();
    if let Some(bytes) = tensor.as_le_bytes() {
        out.extend_from_slice(bytes);
    }
    for string in tensor.as_strings().unwrap_or_default() {
        let length = u32::try_from(string.len()).map_err(|_| "a string is longer than 4 GiB".to_owned())?;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(string);
    }
    Ok(out.len() - before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_that_do_not_fit_are_refused() {
        for (shape, bytes) in [
            (vec![1], &b"\x01\0\0"[..]),
            (vec![1], b"\x02\0\0\0a"),
            (vec![1], b"\xff\xff\xff\xffa"),
            (vec![1], b"\x01\0\0\0ab"),
            (vec![2], b"\x01\0\0\0a\0\0\0"),
            (vec![2], b"\x04\0\0\0abcd"),
            (vec![0], b"\0\0\0\0"),
            (vec![usize::MAX, 2], b""),
            (vec![usize::MAX], b""),
        ] {
            assert!(read(Datatype::Bytes, shape.clone(), bytes).is_err(), "accepted {shape:?} {bytes:?}");
        }
        assert!(read(Datatype::Fp32, vec![2], &[0; 7]).is_err());
        assert!(read(Datatype::Bool, vec![1], &[2]).is_err());
    }

    proptest! {
        #[test]
        fn strings_come_back(strings in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9)) {
            let tensor = Tensor::from_strings(vec![strings.len()], strings).expect("valid");
            let mut out = vec![9];
            let n = write(&tensor, &mut out).expect("short");
            prop_assert_eq!(n, out.len() - 1);
            prop_assert_eq!(read(Datatype::Bytes, tensor.shape().to_vec(), &out[1..]).expect("whole"), tensor);
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..64), n in 0usize..9) {
            let _ = read(Datatype::Bytes, vec![n], &bytes);
        }
    }
}

//! One array: an npy file.

use super::header::{HEADER_BYTES_MAX, Header};
use std::io::{self, Read, Write};
use whimbrel_infer::{Datatype, Tensor, TensorError, element_count};

/// Most strings in an array: each costs memory beyond its own bytes.
const STRINGS_MAX: usize = 1 << 22;
/// Largest array of strings that is written, all of them as long as the longest.
const STRINGS_BYTES_MAX: usize = 1 << 30;

/// Why bytes are no array, or an array has no tensor to hold it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NpyError {
    /// It could not be read, unpacked or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The beginning is not that of an npy file.
    #[error("not an npy file")]
    Magic,
    /// The header is not of the form.
    #[error("its header is not one: {0}")]
    Header(&'static str),
    /// An element type without counterpart.
    #[error("elements are {0}, expected bool, (u)int8 to (u)int64, float16 to float64, str or bytes")]
    Datatype(String),
    /// Larger than accepted.
    #[error("shape {shape:?} takes more than the {max} bytes or strings accepted")]
    TooLarge {
        /// Its shape.
        shape: Vec<usize>,
        /// What is accepted.
        max: u64,
    },
    /// Data and shape disagree.
    #[error("the data is shorter or longer than the shape demands")]
    Length,
    /// A string that is no Unicode text.
    #[error("a str element is no Unicode text")]
    Text,
    /// Elements that are not of the type.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// How an element is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stored {
    kind: Kind,
    /// Bytes of one element.
    size: usize,
    big_endian: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number(Datatype),
    Bytes,
    Text,
}

/// Reads an npy file to its end.
///
/// # Errors
/// It is none, is damaged or too large, or its elements have no counterpart.
pub(super) fn read(input: &mut impl Read, array_bytes_max: u64) -> Result<Tensor, NpyError> {
    let header = Header::parse(&read_header(input)?)?;
    let stored = Stored::parse(&header.descr)?;
    let too_large = |max| NpyError::TooLarge { shape: header.shape.clone(), max };
    let count = element_count(&header.shape).ok_or_else(|| too_large(array_bytes_max))?;
    if !matches!(stored.kind, Kind::Number(_)) && count > STRINGS_MAX {
        return Err(too_large(STRINGS_MAX as u64));
    }
    let size_bytes = count.checked_mul(stored.size).filter(|n| *n as u64 <= array_bytes_max);
    let size_bytes = size_bytes.ok_or_else(|| too_large(array_bytes_max))?;
    // One byte more: the end is reached only then, and with it the archive's own check of the bytes.
    let mut bytes = Vec::new();
    input.take(size_bytes as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() != size_bytes {
        return Err(NpyError::Length);
    }
    if header.fortran_order {
        bytes = to_c_order(&bytes, &header.shape, stored.size);
    }
    stored.tensor(header.shape, bytes)
}

/// Writes a tensor as an npy file.
///
/// # Errors
/// It cannot be written.
pub(super) fn write(out: &mut impl Write, tensor: &Tensor) -> Result<(), NpyError> {
    let (descr, bytes) = match (tensor.as_le_bytes(), tensor.as_strings()) {
        (Some(bytes), _) => (number_descr(tensor.datatype())?.to_owned(), bytes.to_vec()),
        (None, strings) => encode_strings(strings.unwrap_or_default())?,
    };
    let header = Header { descr, fortran_order: false, shape: tensor.shape().to_vec() };
    out.write_all(&header.encode())?;
    Ok(out.write_all(&bytes)?)
}

fn read_header(input: &mut impl Read) -> Result<String, NpyError> {
    let mut start = [0; 8];
    input.read_exact(&mut start)?;
    let [b'\x93', b'N', b'U', b'M', b'P', b'Y', major, _] = start else { return Err(NpyError::Magic) };
    let len = if major == 1 {
        let mut len = [0; 2];
        input.read_exact(&mut len)?;
        usize::from(u16::from_le_bytes(len))
    } else {
        let mut len = [0; 4];
        input.read_exact(&mut len)?;
        u32::from_le_bytes(len) as usize
    };
    if !(1..=3).contains(&major) {
        return Err(NpyError::Magic);
    }
    if len > HEADER_BYTES_MAX {
        return Err(NpyError::Header("longer than 64 KiB"));
    }
    let mut text = vec![0; len];
    input.read_exact(&mut text)?;
    String::from_utf8(text).map_err(|_| NpyError::Header("not UTF-8"))
}

impl Stored {
    fn parse(descr: &str) -> Result<Self, NpyError> {
        let fail = || NpyError::Datatype(format!("{:?}", descr.chars().take(80).collect::<String>()));
        let order = descr.chars().next().ok_or_else(fail)?;
        let big_endian = match order {
            '<' | '|' => false,
            '>' => true,
            _ => return Err(fail()),
        };
        let mut rest = descr.chars();
        let kind = rest.by_ref().nth(1).ok_or_else(fail)?;
        let size: usize = rest.as_str().parse().map_err(|_| fail())?;
        let (kind, size) = match (kind, size) {
            ('S', _) => (Kind::Bytes, size),
            ('U', _) => (Kind::Text, size.checked_mul(4).ok_or_else(fail)?),
            _ => (Kind::Number(number(kind, size).ok_or_else(fail)?), size),
        };
        Ok(Self { kind, size, big_endian })
    }

    /// The tensor of elements in C order.
    fn tensor(self, shape: Vec<usize>, mut bytes: Vec<u8>) -> Result<Tensor, NpyError> {
        match self.kind {
            Kind::Bytes => {
                let strings = self.elements(&shape, &bytes).map(|e| without_padding(e).to_vec()).collect();
                Ok(Tensor::from_strings(shape, strings)?)
            }
            Kind::Text => {
                let texts = self.elements(&shape, &bytes).map(|e| decode_text(e, self.big_endian));
                let strings = texts.collect::<Result<_, _>>()?;
                Ok(Tensor::from_strings(shape, strings)?)
            }
            Kind::Number(datatype) => {
                if self.big_endian {
                    bytes.chunks_exact_mut(self.size).for_each(<[u8]>::reverse);
                }
                Ok(Tensor::from_le_bytes(datatype, shape, bytes)?)
            }
        }
    }

    /// The bytes of each element; elements of strings may have none.
    fn elements<'a>(self, shape: &[usize], bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let count = element_count(shape).unwrap_or(0);
        (0..count).map(move |i| bytes.get(i * self.size..(i + 1) * self.size).unwrap_or_default())
    }
}

fn number(kind: char, size: usize) -> Option<Datatype> {
    Some(match (kind, size) {
        ('b', 1) => Datatype::Bool,
        ('u', 1) => Datatype::Uint8,
        ('u', 2) => Datatype::Uint16,
        ('u', 4) => Datatype::Uint32,
        ('u', 8) => Datatype::Uint64,
        ('i', 1) => Datatype::Int8,
        ('i', 2) => Datatype::Int16,
        ('i', 4) => Datatype::Int32,
        ('i', 8) => Datatype::Int64,
        ('f', 2) => Datatype::Fp16,
        ('f', 4) => Datatype::Fp32,
        ('f', 8) => Datatype::Fp64,
        _ => return None,
    })
}

fn number_descr(datatype: Datatype) -> Result<&'static str, NpyError> {
    Ok(match datatype {
        Datatype::Bool => "|b1",
        Datatype::Uint8 => "|u1",
        Datatype::Uint16 => "<u2",
        Datatype::Uint32 => "<u4",
        Datatype::Uint64 => "<u8",
        Datatype::Int8 => "|i1",
        Datatype::Int16 => "<i2",
        Datatype::Int32 => "<i4",
        Datatype::Int64 => "<i8",
        Datatype::Fp16 => "<f2",
        Datatype::Fp32 => "<f4",
        Datatype::Fp64 => "<f8",
        Datatype::Bytes => return Err(NpyError::Datatype("byte strings".to_owned())),
    })
}

/// Strings, all as long as the longest: as `str` where all are UTF-8, as `bytes` otherwise.
fn encode_strings(strings: &[Vec<u8>]) -> Result<(String, Vec<u8>), NpyError> {
    let texts: Option<Vec<&str>> = strings.iter().map(|s| std::str::from_utf8(s).ok()).collect();
    let longest = match &texts {
        Some(texts) => texts.iter().map(|t| t.chars().count()).max(),
        None => strings.iter().map(Vec::len).max(),
    };
    // numpy itself never writes a length of 0.
    let longest = longest.unwrap_or(0).max(1);
    let element_bytes = if texts.is_some() { longest.saturating_mul(4) } else { longest };
    let size_bytes = element_bytes.saturating_mul(strings.len());
    if size_bytes > STRINGS_BYTES_MAX {
        return Err(NpyError::TooLarge { shape: vec![strings.len()], max: STRINGS_BYTES_MAX as u64 });
    }
    let mut bytes = Vec::with_capacity(size_bytes);
    for (index, string) in strings.iter().enumerate() {
        let end = bytes.len() + element_bytes;
        match &texts {
            Some(texts) => {
                texts[index].chars().for_each(|c| bytes.extend_from_slice(&u32::from(c).to_le_bytes()));
            }
            None => bytes.extend_from_slice(string),
        }
        bytes.resize(end, 0);
    }
    let descr = if texts.is_some() { format!("<U{longest}") } else { format!("|S{longest}") };
    Ok((descr, bytes))
}

fn decode_text(element: &[u8], big_endian: bool) -> Result<Vec<u8>, NpyError> {
    let code = |unit: &[u8]| {
        let unit = [unit[0], unit[1], unit[2], unit[3]];
        if big_endian { u32::from_be_bytes(unit) } else { u32::from_le_bytes(unit) }
    };
    let text: Option<String> = element.chunks_exact(4).map(|unit| char::from_u32(code(unit))).collect();
    let text = text.ok_or(NpyError::Text)?;
    Ok(text.trim_end_matches('\0').as_bytes().to_vec())
}

fn without_padding(element: &[u8]) -> &[u8] {
    let end = element.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    &element[..end]
}

/// Reorders elements from first index fastest to last index fastest.
fn to_c_order(bytes: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = vec![0usize; shape.len()];
    let count = bytes.len().checked_div(size).unwrap_or(0);
    for _ in 0..count {
        let offset = index.iter().zip(shape).rev().fold(0, |offset, (i, n)| offset * n + i);
        out.extend_from_slice(&bytes[offset * size..(offset + 1) * size]);
        for (i, n) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *n {
                break;
            }
            *i = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(descr: &str, fortran_order: bool, shape: &[usize], data: &[u8]) -> Result<Tensor, NpyError> {
        let mut file = Header { descr: descr.into(), fortran_order, shape: shape.to_vec() }.encode();
        file.extend_from_slice(data);
        read(&mut file.as_slice(), 1 << 20)
    }

    #[test]
    fn either_byte_order_and_index_order_give_the_same_tensor() {
        let expected = Tensor::from_values(vec![2, 3], &[1i16, 2, 3, 4, 5, 6]).expect("fits");
        let big = [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6];
        let fortran = [1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6, 0];
        assert_eq!(npy(">i2", false, &[2, 3], &big).expect("reads"), expected);
        assert_eq!(npy("<i2", true, &[2, 3], &fortran).expect("reads"), expected);
    }

    #[test]
    fn strings_lose_their_padding_only() {
        let read = npy("|S3", false, &[2], b"a\0\0\0b\0").expect("reads");
        assert_eq!(read.as_strings(), Some(&[b"a".to_vec(), b"\0b".to_vec()][..]));
        let read = npy("<U1", false, &[1], &0x1f426u32.to_le_bytes()).expect("reads");
        assert_eq!(read.as_strings(), Some(&["🐦".as_bytes().to_vec()][..]));
        assert!(npy("<U1", false, &[1], &0xd800u32.to_le_bytes()).is_err(), "a lone surrogate");
        assert_eq!(npy("|S0", false, &[2], b"").expect("reads").len(), 2);
    }

    #[test]
    fn claims_beyond_the_data_or_the_limits_are_refused_without_taking_memory() {
        let huge = 1 << 40;
        for (descr, shape) in [
            ("<f4", vec![huge]),
            ("<f4", vec![usize::MAX, usize::MAX]),
            ("|S0", vec![huge]),
            ("|S1099511627776", vec![1]),
            ("<U18446744073709551615", vec![1]),
        ] {
            assert!(npy(descr, false, &shape, &[0; 8]).is_err(), "accepted {descr} {shape:?}");
        }
        assert!(matches!(npy("<f4", false, &[2], &[0; 7]), Err(NpyError::Length)));
        assert!(matches!(npy("<f4", false, &[2], &[0; 9]), Err(NpyError::Length)));
        for descr in ["<c8", "|O", "<M8[ns]", "<f16", "=f4", "f", "", "é4", "<f-4"] {
            assert!(
                matches!(npy(descr, false, &[1], &[0; 8]), Err(NpyError::Datatype(_))),
                "accepted {descr:?}"
            );
        }
    }
}

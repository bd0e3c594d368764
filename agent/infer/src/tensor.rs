//! A checked array of elements: contiguous, row-major, little-endian.

use crate::{
    datatype::{Datatype, Element},
    source::{Source, Stored},
};
use half::f16;
use std::{borrow::Cow, ops::Range};

/// Why bytes and a shape do not make a tensor, or a tensor is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The product of the sizes does not fit into memory addresses.
    #[error("shape {shape:?} has more elements than can be addressed")]
    ShapeOverflow {
        /// The shape.
        shape: Vec<usize>,
    },
    /// Data and shape disagree.
    #[error("shape {shape:?} of {datatype} needs {expected} {unit}, found {found}")]
    Length {
        /// The shape.
        shape: Vec<usize>,
        /// The element type.
        datatype: Datatype,
        /// What the shape needs.
        expected: usize,
        /// What was given.
        found: usize,
        /// `bytes` or `elements`.
        unit: &'static str,
    },
    /// A BOOL element that is neither 0 nor 1.
    #[error("a BOOL element is {value}, expected 0 or 1")]
    NotBool {
        /// The byte found.
        value: u8,
    },
    /// Another element type than asked for.
    #[error("elements are {found}, expected {expected}")]
    Datatype {
        /// What was asked for.
        expected: &'static str,
        /// What the tensor has.
        found: Datatype,
    },
    /// The file that holds the elements cannot be read any more.
    #[error("the elements cannot be read from the model's file: {why}")]
    Unreadable {
        /// The system's words.
        why: String,
    },
}

#[derive(Debug, Clone)]
enum Data {
    Fixed(Vec<u8>),
    Strings(Vec<Vec<u8>>),
    /// Left in the model's file.
    Stored(Stored),
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Strings(a), Self::Strings(b)) => a == b,
            (Self::Strings(_), _) | (_, Self::Strings(_)) => false,
            _ => self.bytes().is_some_and(|bytes| Some(bytes) == other.bytes()),
        }
    }
}

impl Data {
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Fixed(bytes) => Some(bytes),
            Self::Stored(stored) => stored.kept(),
            Self::Strings(_) => None,
        }
    }
}

/// An array of elements of one type. Length and shape always agree.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    datatype: Datatype,
    shape: Vec<usize>,
    data: Data,
}

/// How many elements a shape has, `None` where that overflows. A shape without sizes has one.
#[must_use]
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))
}

impl Tensor {
    /// Takes little-endian bytes as elements of a fixed-size type.
    ///
    /// # Errors
    /// The shape overflows or needs another number of bytes; BYTES; a BOOL that is neither 0 nor 1.
    pub fn from_le_bytes(datatype: Datatype, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Self, TensorError> {
        let Some(size) = datatype.size_bytes() else {
            return Err(TensorError::Datatype { expected: "of fixed size", found: datatype });
        };
        let Some(expected) = element_count(&shape).and_then(|n| n.checked_mul(size)) else {
            return Err(TensorError::ShapeOverflow { shape });
        };
        if bytes.len() != expected {
            return Err(TensorError::Length { shape, datatype, expected, found: bytes.len(), unit: "bytes" });
        }
        if datatype == Datatype::Bool
            && let Some(value) = bytes.iter().copied().find(|b| *b > 1)
        {
            return Err(TensorError::NotBool { value });
        }
        Ok(Self { datatype, shape, data: Data::Fixed(bytes) })
    }

    /// Takes a part of a model's file as elements, which are read when somebody asks for them.
    ///
    /// # Errors
    /// The shape overflows or needs another number of bytes; BYTES and BOOL, whose elements have to be looked at.
    pub(crate) fn stored(
        datatype: Datatype,
        shape: Vec<usize>,
        source: &Source,
        range: Range<u64>,
    ) -> Result<Self, TensorError> {
        let Some(size) = datatype.size_bytes().filter(|_| datatype != Datatype::Bool) else {
            return Err(TensorError::Datatype { expected: "of fixed size", found: datatype });
        };
        let Some(expected) = element_count(&shape).and_then(|n| n.checked_mul(size)) else {
            return Err(TensorError::ShapeOverflow { shape });
        };
        let found = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        if found != expected {
            return Err(TensorError::Length { shape, datatype, expected, found, unit: "bytes" });
        }
        Ok(Self { datatype, shape, data: Data::Stored(Stored::new(source.clone(), range)) })
    }

    /// Takes values as elements.
    ///
    /// # Errors
    /// The shape overflows or needs another number of elements.
    pub fn from_values<T: Element>(shape: Vec<usize>, values: &[T]) -> Result<Self, TensorError> {
        check_count(&shape, T::DATATYPE, values.len())?;
        let mut bytes = Vec::with_capacity(values.len() * T::SIZE_BYTES);
        values.iter().for_each(|v| v.write_le(&mut bytes));
        Ok(Self { datatype: T::DATATYPE, shape, data: Data::Fixed(bytes) })
    }

    /// Takes byte strings as elements of a BYTES tensor.
    ///
    /// # Errors
    /// The shape overflows or needs another number of elements.
    pub fn from_strings(shape: Vec<usize>, strings: Vec<Vec<u8>>) -> Result<Self, TensorError> {
        check_count(&shape, Datatype::Bytes, strings.len())?;
        Ok(Self { datatype: Datatype::Bytes, shape, data: Data::Strings(strings) })
    }

    /// The element type.
    #[must_use]
    pub const fn datatype(&self) -> Datatype {
        self.datatype
    }

    /// The sizes, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.data {
            Data::Strings(strings) => strings.len(),
            _ => self.shape.iter().product(),
        }
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that its elements take in memory, were they all there.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match &self.data {
            Data::Fixed(bytes) => bytes.len(),
            Data::Stored(_) => self.len() * self.datatype.size_bytes().unwrap_or(0),
            Data::Strings(strings) => strings.iter().map(|s| s.len() + size_of::<Vec<u8>>()).sum(),
        }
    }

    /// Whether its elements lie in a file, and were not read yet.
    pub(crate) fn is_away(&self) -> bool {
        matches!(&self.data, Data::Stored(stored) if stored.kept.get().is_none())
    }

    /// The little-endian bytes; `None` for BYTES, and where a file that holds them cannot be read any more.
    #[must_use]
    pub fn as_le_bytes(&self) -> Option<&[u8]> {
        self.data.bytes()
    }

    /// The little-endian bytes, which are not kept in memory where they lie in a file.
    ///
    /// # Errors
    /// BYTES; the file cannot be read any more.
    pub fn le_bytes_once(&self) -> Result<Cow<'_, [u8]>, TensorError> {
        let kept = match &self.data {
            Data::Stored(stored) => match stored.kept.get() {
                None => {
                    let bytes = stored.source.bytes(&stored.range);
                    return bytes.map(Cow::Owned).map_err(|e| TensorError::Unreadable { why: e.to_string() });
                }
                Some(kept) => kept.as_deref(),
            },
            data => data.bytes(),
        };
        let wrong = TensorError::Datatype { expected: "of fixed size", found: self.datatype };
        kept.map(Cow::Borrowed).ok_or(wrong)
    }

    /// The elements of an FP32 tensor, which are not kept in memory where they lie in a file.
    ///
    /// # Errors
    /// The elements are of another type; the file cannot be read any more.
    pub fn f32s_once(&self) -> Result<Vec<f32>, TensorError> {
        if self.datatype != Datatype::Fp32 {
            return Err(TensorError::Datatype { expected: "FP32", found: self.datatype });
        }
        if let Data::Stored(stored) = &self.data
            && cfg!(target_endian = "little")
            && stored.kept.get().is_none()
        {
            let mut values = vec![0f32; self.len()];
            let read = stored.source.read(stored.range.start, bytemuck::cast_slice_mut(&mut values));
            return read.map(|()| values).map_err(|e| TensorError::Unreadable { why: e.to_string() });
        }
        let bytes = self.le_bytes_once()?;
        Ok(bytes.chunks_exact(f32::SIZE_BYTES).map(f32::read_le).collect())
    }

    /// The byte strings of a BYTES tensor; `None` for any other.
    #[must_use]
    pub fn as_strings(&self) -> Option<&[Vec<u8>]> {
        match &self.data {
            Data::Strings(strings) => Some(strings),
            _ => None,
        }
    }

    /// The elements in row-major order, without conversion.
    ///
    /// # Errors
    /// The elements are of another type.
    pub fn values<T: Element>(&self) -> Result<impl ExactSizeIterator<Item = T> + '_, TensorError> {
        match self.data.bytes() {
            Some(bytes) if self.datatype == T::DATATYPE => {
                Ok(bytes.chunks_exact(T::SIZE_BYTES).map(T::read_le))
            }
            _ => Err(TensorError::Datatype { expected: T::DATATYPE.as_str(), found: self.datatype }),
        }
    }

    /// The elements as f32, converted from any numeric type or BOOL. 64-bit values are rounded.
    ///
    /// # Errors
    /// The elements are BYTES.
    pub fn to_f32s(&self) -> Result<Vec<f32>, TensorError> {
        #[allow(clippy::cast_possible_truncation, reason = "rounding to f32 is what this does")]
        if self.datatype == Datatype::Fp32 {
            Ok(self.values::<f32>()?.collect())
        } else {
            Ok(self.to_f64s()?.into_iter().map(|v| v as f32).collect())
        }
    }

    /// The elements as f64, converted from any numeric type or BOOL. 64-bit integers are rounded.
    ///
    /// # Errors
    /// The elements are BYTES.
    pub fn to_f64s(&self) -> Result<Vec<f64>, TensorError> {
        #[allow(clippy::cast_precision_loss, reason = "rounding of 64-bit integers is documented")]
        Ok(match self.datatype {
            Datatype::Bool => self.values::<bool>()?.map(|v| f64::from(u8::from(v))).collect(),
            Datatype::Uint8 => self.values::<u8>()?.map(f64::from).collect(),
            Datatype::Uint16 => self.values::<u16>()?.map(f64::from).collect(),
            Datatype::Uint32 => self.values::<u32>()?.map(f64::from).collect(),
            Datatype::Uint64 => self.values::<u64>()?.map(|v| v as f64).collect(),
            Datatype::Int8 => self.values::<i8>()?.map(f64::from).collect(),
            Datatype::Int16 => self.values::<i16>()?.map(f64::from).collect(),
            Datatype::Int32 => self.values::<i32>()?.map(f64::from).collect(),
            Datatype::Int64 => self.values::<i64>()?.map(|v| v as f64).collect(),
            Datatype::Fp16 => self.values::<f16>()?.map(f64::from).collect(),
            Datatype::Fp32 => self.values::<f32>()?.map(f64::from).collect(),
            Datatype::Fp64 => self.values::<f64>()?.collect(),
            Datatype::Bytes => {
                return Err(TensorError::Datatype { expected: "numeric", found: self.datatype });
            }
        })
    }

    /// Whether any element is NaN or infinite. Always false for types that cannot be.
    #[must_use]
    pub fn has_non_finite(&self) -> bool {
        fn any<T: Element>(tensor: &Tensor, is_finite: impl Fn(T) -> bool) -> bool {
            tensor.values::<T>().is_ok_and(|mut values| values.any(|v| !is_finite(v)))
        }
        match self.datatype {
            Datatype::Fp16 => any::<f16>(self, f16::is_finite),
            Datatype::Fp32 => any::<f32>(self, f32::is_finite),
            Datatype::Fp64 => any::<f64>(self, f64::is_finite),
            _ => false,
        }
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    /// The shape overflows or needs another number of elements.
    pub fn reshaped(self, shape: Vec<usize>) -> Result<Self, TensorError> {
        check_count(&shape, self.datatype, self.len())?;
        Ok(Self { shape, ..self })
    }
}

fn check_count(shape: &[usize], datatype: Datatype, found: usize) -> Result<(), TensorError> {
    match element_count(shape) {
        None => Err(TensorError::ShapeOverflow { shape: shape.to_vec() }),
        Some(expected) if expected != found => {
            Err(TensorError::Length { shape: shape.to_vec(), datatype, expected, found, unit: "elements" })
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shape_and_data_must_agree() {
        let bad = [
            Tensor::from_le_bytes(Datatype::Fp32, vec![2], vec![0; 7]),
            Tensor::from_le_bytes(Datatype::Fp32, vec![usize::MAX, 2], vec![0; 8]),
            Tensor::from_le_bytes(Datatype::Fp32, vec![usize::MAX / 2], vec![0; 8]),
            Tensor::from_le_bytes(Datatype::Bytes, vec![1], vec![0; 8]),
            Tensor::from_le_bytes(Datatype::Bool, vec![2], vec![1, 2]),
            Tensor::from_values(vec![3], &[1.0f32]),
            Tensor::from_strings(vec![2], vec![b"a".to_vec()]),
        ];
        for result in bad {
            assert!(result.is_err(), "accepted {result:?}");
        }
        assert_eq!(Tensor::from_values(vec![], &[7i64]).expect("a scalar").len(), 1);
        assert!(Tensor::from_values::<f32>(vec![0, 4], &[]).expect("empty").is_empty());
    }

    #[test]
    fn views_refuse_another_type() {
        let t = Tensor::from_values(vec![2], &[1i32, 2]).expect("valid");
        assert!(t.values::<f32>().is_err());
        assert_eq!(t.to_f32s().expect("numeric"), [1.0, 2.0]);
        let s = Tensor::from_strings(vec![1], vec![b"x".to_vec()]).expect("valid");
        assert!(s.to_f64s().is_err());
        assert!(s.values::<u8>().is_err());
        assert!(s.as_le_bytes().is_none());
    }

    #[test]
    fn non_finite_is_found_in_every_float_type() {
        assert!(Tensor::from_values(vec![2], &[1.0, f32::NAN]).expect("valid").has_non_finite());
        assert!(Tensor::from_values(vec![1], &[f64::INFINITY]).expect("valid").has_non_finite());
        assert!(Tensor::from_values(vec![1], &[f16::NEG_INFINITY]).expect("valid").has_non_finite());
        assert!(!Tensor::from_values(vec![1], &[f32::MAX]).expect("valid").has_non_finite());
        assert!(!Tensor::from_values(vec![1], &[-1i8]).expect("valid").has_non_finite());
    }

    proptest! {
        #[test]
        fn values_come_back(values in proptest::collection::vec(any::<i64>(), 0..50)) {
            let t = Tensor::from_values(vec![values.len()], &values).expect("valid");
            prop_assert_eq!(t.values::<i64>().expect("same type").collect::<Vec<_>>(), values.clone());
            let bytes = t.as_le_bytes().expect("fixed size").to_vec();
            prop_assert_eq!(Tensor::from_le_bytes(Datatype::Int64, vec![values.len()], bytes).expect("valid"), t);
        }

        #[test]
        fn any_shape_is_answered(shape in proptest::collection::vec(any::<usize>(), 0..6), len in 0usize..64) {
            let made = Tensor::from_le_bytes(Datatype::Uint8, shape.clone(), vec![0; len]);
            prop_assert_eq!(made.is_ok(), element_count(&shape) == Some(len));
        }
    }
}

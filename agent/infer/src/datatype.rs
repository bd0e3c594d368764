//! Element types under their Open Inference Protocol names.

use half::f16;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

macro_rules! datatypes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $size:expr;)*) => {
        /// The element type of a tensor.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Datatype { $($(#[$doc])* $variant,)* }

        impl Datatype {
            /// Every element type.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in the Open Inference Protocol.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Bytes of one element; `None` for [`Datatype::Bytes`], whose elements differ in length.
            #[must_use]
            pub const fn size_bytes(self) -> Option<usize> {
                match self { $(Self::$variant => $size,)* }
            }
        }
    };
}
datatypes! {
    /// One byte, 0 or 1.
    Bool = "BOOL", Some(1);
    /// Unsigned, 8 bits.
    Uint8 = "UINT8", Some(1);
    /// Unsigned, 16 bits.
    Uint16 = "UINT16", Some(2);
    /// Unsigned, 32 bits.
    Uint32 = "UINT32", Some(4);
    /// Unsigned, 64 bits.
    Uint64 = "UINT64", Some(8);
    /// Signed, 8 bits.
    Int8 = "INT8", Some(1);
    /// Signed, 16 bits.
    Int16 = "INT16", Some(2);
    /// Signed, 32 bits.
    Int32 = "INT32", Some(4);
    /// Signed, 64 bits.
    Int64 = "INT64", Some(8);
    /// IEEE 754 half precision.
    Fp16 = "FP16", Some(2);
    /// IEEE 754 single precision.
    Fp32 = "FP32", Some(4);
    /// IEEE 754 double precision.
    Fp64 = "FP64", Some(8);
    /// Byte strings, each with its own length.
    Bytes = "BYTES", None;
}

impl Datatype {
    /// Whether elements are floating point numbers.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, Self::Fp16 | Self::Fp32 | Self::Fp64)
    }

    /// Whether elements are numbers (truth values and strings are not).
    #[must_use]
    pub const fn is_numeric(self) -> bool {
        !matches!(self, Self::Bool | Self::Bytes)
    }
}
impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl FromStr for Datatype {
    type Err = UnknownDatatype;
    fn from_str(s: &str) -> Result<Self, UnknownDatatype> {
        Self::ALL.iter().copied().find(|d| d.as_str() == s).ok_or(UnknownDatatype)
    }
}

/// A name that is no element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected BOOL, UINT8 to UINT64, INT8 to INT64, FP16, FP32, FP64 or BYTES")]
pub struct UnknownDatatype;

/// A Rust type that is the element of a tensor of fixed element size.
pub trait Element: Copy + 'static {
    /// Its element type.
    const DATATYPE: Datatype;
    /// Bytes of one element.
    const SIZE_BYTES: usize;
    /// Reads an element from its little-endian bytes; `bytes` has [`Self::SIZE_BYTES`] of them, missing ones read as 0.
    fn read_le(bytes: &[u8]) -> Self;
    /// Appends the element's little-endian bytes.
    fn write_le(self, out: &mut Vec<u8>);
}

macro_rules! element {
    ($($ty:ty => $variant:ident),* $(,)?) => {$(
        impl Element for $ty {
            const DATATYPE: Datatype = Datatype::$variant;
            const SIZE_BYTES: usize = size_of::<$ty>();
            fn read_le(bytes: &[u8]) -> Self {
                let mut buffer = [0; size_of::<$ty>()];
                for (to, from) in buffer.iter_mut().zip(bytes) {
                    *to = *from;
                }
                <$ty>::from_le_bytes(buffer)
            }
            fn write_le(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
element! {
    u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64,
    i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
    f16 => Fp16, f32 => Fp32, f64 => Fp64,
}
impl Element for bool {
    const DATATYPE: Datatype = Datatype::Bool;
    const SIZE_BYTES: usize = 1;
    fn read_le(bytes: &[u8]) -> Self {
        bytes.first().is_some_and(|b| *b != 0)
    }
    fn write_le(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_protocols() {
        for d in Datatype::ALL {
            assert_eq!(d.as_str().parse::<Datatype>(), Ok(*d));
        }
        for bad in ["", "fp32", "FLOAT", "BF16", "INT128"] {
            assert!(bad.parse::<Datatype>().is_err(), "accepted {bad:?}");
        }
    }
}

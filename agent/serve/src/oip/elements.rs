//! JSON arrays to tensors, without an intermediate tree: a tree of numbers takes ten times the text's size.

use half::f16;
use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use std::fmt;
use whimbrel_infer::{Datatype, Element, Tensor, element_count};

/// Reads a tensor from a JSON array, flat or nested.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn read(datatype: Datatype, shape: Vec<usize>, json: &str) -> Result<Tensor, String> {
    let count = element_count(&shape).ok_or("the shape is too large")?;
    // An element has at least one character and one of `,[]`: memory is taken for what can be there only.
    if count > json.len() / 2 + 1 {
        return Err(format!("the shape needs {count} elements and the data has fewer"));
    }
    let tensor = match datatype {
        Datatype::Bool => fixed::<bool>(shape, json, count),
        Datatype::Uint8 => fixed::<u8>(shape, json, count),
        Datatype::Uint16 => fixed::<u16>(shape, json, count),
        Datatype::Uint32 => fixed::<u32>(shape, json, count),
        Datatype::Uint64 => fixed::<u64>(shape, json, count),
        Datatype::Int8 => fixed::<i8>(shape, json, count),
        Datatype::Int16 => fixed::<i16>(shape, json, count),
        Datatype::Int32 => fixed::<i32>(shape, json, count),
        Datatype::Int64 => fixed::<i64>(shape, json, count),
        Datatype::Fp16 => fixed::<f16>(shape, json, count),
        Datatype::Fp32 => fixed::<f32>(shape, json, count),
        Datatype::Fp64 => fixed::<f64>(shape, json, count),
        Datatype::Bytes => {
            let strings = parse::<Vec<u8>>(json, count)?;
            Tensor::from_strings(shape, strings).map_err(|e| e.to_string())
        }
    };
    // The parser may repeat what it found.
    tensor.map_err(|why| why.chars().take(200).collect())
}

fn fixed<T: Element + FromJson>(shape: Vec<usize>, json: &str, count: usize) -> Result<Tensor, String> {
    let values = parse::<T>(json, count)?;
    Tensor::from_values(shape, &values).map_err(|e| e.to_string())
}

fn parse<T: FromJson>(json: &str, count: usize) -> Result<Vec<T>, String> {
    let mut values = Vec::with_capacity(count);
    let mut deserializer = serde_json::Deserializer::from_str(json);
    Fill { values: &mut values, count, nested: false }
        .deserialize(&mut deserializer)
        .map_err(|e| e.to_string())?;
    deserializer.end().map_err(|e| e.to_string())?;
    Ok(values)
}

/// An element that JSON can hold.
trait FromJson: Sized {
    /// What is expected, for errors.
    const EXPECTED: &str;
    fn from_bool(_: bool) -> Option<Self> {
        None
    }
    fn from_unsigned(_: u64) -> Option<Self> {
        None
    }
    fn from_signed(_: i64) -> Option<Self> {
        None
    }
    fn from_float(_: f64) -> Option<Self> {
        None
    }
    fn from_text(_: &str) -> Option<Self> {
        None
    }
}

impl FromJson for bool {
    const EXPECTED: &str = "true or false";
    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}
impl FromJson for Vec<u8> {
    const EXPECTED: &str = "a string";
    fn from_text(text: &str) -> Option<Self> {
        Some(text.as_bytes().to_vec())
    }
}

macro_rules! integers {
    ($($ty:ty => $expected:literal),* $(,)?) => {$(
        impl FromJson for $ty {
            const EXPECTED: &str = $expected;
            fn from_unsigned(value: u64) -> Option<Self> {
                value.try_into().ok()
            }
            fn from_signed(value: i64) -> Option<Self> {
                value.try_into().ok()
            }
        }
    )*};
}
integers! {
    u8 => "an integer from 0 to 255",
    u16 => "an integer from 0 to 65535",
    u32 => "an integer from 0 to 4294967295",
    u64 => "an integer of 64 bits, 0 or more",
    i8 => "an integer from -128 to 127",
    i16 => "an integer from -32768 to 32767",
    i32 => "an integer of 32 bits",
    i64 => "an integer of 64 bits",
}

macro_rules! floats {
    ($($ty:ty, $expected:literal, $from:expr);* $(;)?) => {$(
        #[allow(clippy::cast_precision_loss, reason = "a float holds what it can of an integer")]
        impl FromJson for $ty {
            const EXPECTED: &str = $expected;
            fn from_unsigned(value: u64) -> Option<Self> {
                Self::from_float(value as f64)
            }
            fn from_signed(value: i64) -> Option<Self> {
                Self::from_float(value as f64)
            }
            fn from_float(value: f64) -> Option<Self> {
                let converted: $ty = $from(value);
                converted.is_finite().then_some(converted)
            }
        }
    )*};
}
#[allow(clippy::cast_possible_truncation, reason = "rounding to f32; what overflows is refused")]
fn to_f32(value: f64) -> f32 {
    value as f32
}
floats! {
    f16, "a number within half precision", f16::from_f64;
    f32, "a number within single precision", to_f32;
    f64, "a number", std::convert::identity;
}

/// Appends the elements of an array, or of arrays within arrays.
struct Fill<'v, T> {
    values: &'v mut Vec<T>,
    count: usize,
    nested: bool,
}

impl<T: FromJson> Fill<'_, T> {
    fn push<E: de::Error>(self, value: Option<T>) -> Result<(), E> {
        let value = value.filter(|_| self.nested).ok_or_else(|| {
            E::custom(if self.nested {
                format!("expected {}", T::EXPECTED)
            } else {
                "expected an array".into()
            })
        })?;
        if self.values.len() == self.count {
            return Err(E::custom(format!("there are more than {} elements", self.count)));
        }
        self.values.push(value);
        Ok(())
    }
}

impl<'de, T: FromJson> DeserializeSeed<'de> for Fill<'_, T> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: FromJson> Visitor<'de> for Fill<'_, T> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} or an array of such", T::EXPECTED)
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.push(T::from_bool(value))
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.push(T::from_unsigned(value))
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.push(T::from_signed(value))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.push(T::from_float(value))
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.push(T::from_text(value))
    }
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.push(None)
    }
    fn visit_map<A: de::MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        self.push(None)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let (values, count) = (self.values, self.count);
        while items.next_element_seed(Fill { values: &mut *values, count, nested: true })?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nested_and_flat_arrays_are_the_same() {
        let flat = read(Datatype::Fp32, vec![2, 2], "[1, 2.5, -3e2, 4]").expect("valid");
        let nested = read(Datatype::Fp32, vec![2, 2], " [[1, 2.5], [-3e2, 4]] ").expect("valid");
        assert_eq!(flat, nested);
        assert_eq!(flat.to_f32s().expect("numbers"), [1.0, 2.5, -300.0, 4.0]);
        assert_eq!(
            read(Datatype::Bytes, vec![1], r#"["a\n"]"#).expect("valid").as_strings(),
            Some(&[b"a\n".to_vec()][..])
        );
        assert!(read(Datatype::Fp32, vec![0], "[]").expect("valid").is_empty());
        assert!(read(Datatype::Fp16, vec![], "[1]").is_ok());
    }

    #[test]
    fn elements_that_do_not_fit_are_refused() {
        for (datatype, json) in [
            (Datatype::Uint8, "[256]"),
            (Datatype::Uint8, "[-1]"),
            (Datatype::Uint8, "[1.0]"),
            (Datatype::Int64, "[9223372036854775808]"),
            (Datatype::Fp16, "[70000]"),
            (Datatype::Fp32, "[1e39]"),
            (Datatype::Fp64, "[1e400]"),
            (Datatype::Fp32, "[NaN]"),
            (Datatype::Fp32, "[\"1\"]"),
            (Datatype::Fp32, "[true]"),
            (Datatype::Fp32, "[null]"),
            (Datatype::Fp32, "[{}]"),
            (Datatype::Fp32, "[{\"a\": 1}]"),
            (Datatype::Bool, "[1]"),
            (Datatype::Bytes, "[1]"),
            (Datatype::Fp32, "1"),
            (Datatype::Fp32, "[1, 2]"),
            (Datatype::Fp32, "[]"),
            (Datatype::Fp32, "[1"),
        ] {
            let error = read(datatype, vec![1], json).expect_err(json);
            assert!(error.len() < 200, "{error}");
        }
        assert!(read(Datatype::Fp32, vec![usize::MAX, 2], "[1]").is_err());
        assert!(read(Datatype::Fp64, vec![usize::MAX], "[1]").is_err());
        assert!(read(Datatype::Fp32, vec![1], &"[".repeat(100_000)).is_err());
    }

    proptest! {
        #[test]
        fn integers_come_back_exactly(values in proptest::collection::vec(any::<i64>(), 0..20)) {
            let json = serde_json::to_string(&values).expect("numbers");
            let tensor = read(Datatype::Int64, vec![values.len()], &json).expect("valid");
            prop_assert_eq!(tensor.values::<i64>().expect("same type").collect::<Vec<_>>(), values);
        }

        #[test]
        fn any_text_is_answered(text in "[\\[\\],0-9a-z\"{}: .-]{0,60}", n in 0usize..9) {
            let _ = read(Datatype::Fp32, vec![n], &text);
        }
    }
}

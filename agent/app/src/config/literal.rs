//! One value as it was written, and the types that a key can have.

use toml::Value;

/// One value as it was written in a file, an environment variable or a flag.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Literal {
    value: Value,
    /// The text of an environment variable or a flag, where no quotes say that it is a string.
    text: Option<String>,
}

impl Literal {
    /// A value from a file.
    pub(crate) const fn typed(value: Value) -> Self {
        Self { value, text: None }
    }

    /// A value from an environment variable or a flag: a TOML scalar, or else the text itself.
    pub(crate) fn untyped(text: &str) -> Self {
        let value = match text.parse::<Value>() {
            Ok(value) if !value.is_table() && !value.is_array() => value,
            _ => Value::String(text.to_owned()),
        };
        Self { value, text: Some(text.to_owned()) }
    }

    /// As people would write it.
    pub(crate) fn shown(&self) -> String {
        match (&self.value, &self.text) {
            (Value::Table(_), _) => "a table".to_owned(),
            (Value::Array(_), _) => "an array".to_owned(),
            (value, _) => value.to_string(),
        }
    }
}

/// A type that a key can have.
pub(crate) trait Scalar: Sized {
    /// What to write, for errors.
    const EXPECTED: &'static str;

    /// Takes the value, if it is of this type.
    fn read(literal: &Literal) -> Option<Self>;

    /// The value as TOML.
    fn to_toml(&self) -> String;
}

impl Scalar for String {
    const EXPECTED: &'static str = "a string";

    fn read(literal: &Literal) -> Option<Self> {
        match (&literal.value, &literal.text) {
            (Value::String(text), _) | (_, Some(text)) => Some(text.clone()),
            _ => None,
        }
    }

    fn to_toml(&self) -> String {
        Value::String(self.clone()).to_string()
    }
}

impl Scalar for u64 {
    const EXPECTED: &'static str = "an integer, 0 or more";

    fn read(literal: &Literal) -> Option<Self> {
        literal.value.as_integer().and_then(|n| Self::try_from(n).ok())
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Scalar for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(literal: &Literal) -> Option<Self> {
        literal.value.as_bool()
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_a_scalar_where_it_reads_as_one_and_a_string_otherwise() {
        assert_eq!(u64::read(&Literal::untyped("60")), Some(60));
        assert_eq!(bool::read(&Literal::untyped("true")), Some(true));
        assert_eq!(String::read(&Literal::untyped("\"a b\"")).as_deref(), Some("a b"));
        for text in ["127.0.0.1:1", "/var/lib", "", "60", "true", "[1]", "a = 1", "2024-01-01"] {
            assert_eq!(String::read(&Literal::untyped(text)).as_deref(), Some(text));
        }
        assert_eq!(u64::read(&Literal::untyped("-1")), None);
        assert_eq!(u64::read(&Literal::untyped("1.5")), None);
    }

    #[test]
    fn a_file_has_types() {
        assert_eq!(String::read(&Literal::typed(Value::Integer(60))), None);
        assert_eq!(u64::read(&Literal::typed(Value::String("60".into()))), None);
        assert_eq!(bool::read(&Literal::typed(Value::String("true".into()))), None);
    }
}

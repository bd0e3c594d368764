//! What a node is told besides its inputs.

use crate::tensor::Tensor;
use std::{collections::HashMap, sync::Arc};

/// A value of an attribute.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Int(i64),
    Float(f32),
    Text(Vec<u8>),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Texts(Vec<Vec<u8>>),
    Tensor(Arc<Tensor>),
}

/// Attributes by name. One of another type than asked for reads as absent: its default then applies, as for a file that leaves
/// it out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes(HashMap<String, Value>);

impl Attributes {
    pub(crate) fn insert(&mut self, name: String, value: Value) {
        self.0.insert(name, value);
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        match self.0.get(name)? {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.int(name).is_some_and(|value| value != 0)
    }

    pub(crate) fn float(&self, name: &str) -> Option<f32> {
        match self.0.get(name)? {
            Value::Float(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Value::Text(value) => std::str::from_utf8(value).ok(),
            _ => None,
        }
    }

    pub(crate) fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.0.get(name)? {
            Value::Ints(values) => Some(values),
            _ => None,
        }
    }

    pub(crate) fn floats(&self, name: &str) -> Option<&[f32]> {
        match self.0.get(name)? {
            Value::Floats(values) => Some(values),
            _ => None,
        }
    }

    pub(crate) fn texts(&self, name: &str) -> Option<&[Vec<u8>]> {
        match self.0.get(name)? {
            Value::Texts(values) => Some(values),
            _ => None,
        }
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<&Arc<Tensor>> {
        match self.0.get(name)? {
            Value::Tensor(value) => Some(value),
            _ => None,
        }
    }

    /// The tensor that a `Constant` node stands for, whichever attribute says it.
    pub(crate) fn constant(&self) -> Option<Arc<Tensor>> {
        let (name, value) = self.0.iter().find(|(name, _)| name.starts_with("value"))?;
        let made = match (name.as_str(), value) {
            ("value", Value::Tensor(tensor)) => return Some(Arc::clone(tensor)),
            ("value_int", Value::Int(value)) => Tensor::from_values(vec![], &[*value]),
            ("value_ints", Value::Ints(values)) => Tensor::from_values(vec![values.len()], values),
            ("value_float", Value::Float(value)) => Tensor::from_values(vec![], &[*value]),
            ("value_floats", Value::Floats(values)) => Tensor::from_values(vec![values.len()], values),
            ("value_string", Value::Text(value)) => Tensor::from_strings(vec![], vec![value.clone()]),
            ("value_strings", Value::Texts(values)) => {
                Tensor::from_strings(vec![values.len()], values.clone())
            }
            _ => return None,
        };
        made.ok().map(Arc::new)
    }
}

//! The tensors of a request against what a model declares to read.

use crate::{
    backend::TensorInfo,
    error::RunError,
    limits::ImportLimits,
    tensor::{Tensor, element_count},
};
use std::collections::HashMap;

/// What a model reads.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) inputs: Vec<TensorInfo>,
    /// For each input, the name of each size that must be the same wherever the name stands.
    pub(crate) symbols: Vec<Vec<Option<String>>>,
}

impl Binding {
    /// The given tensors in the model's order.
    ///
    /// # Errors
    /// One is missing, of another type or shape, or beyond the limits.
    pub(crate) fn arrange<'t>(
        &self,
        given: &[(&str, &'t Tensor)],
        limits: &ImportLimits,
    ) -> Result<Vec<&'t Tensor>, RunError> {
        let mut bound: HashMap<&str, usize> = HashMap::new();
        let mut arranged = Vec::with_capacity(self.inputs.len());
        for (info, symbols) in self.inputs.iter().zip(&self.symbols) {
            let input = || info.name.clone();
            let Some((_, tensor)) = given.iter().find(|(name, _)| *name == info.name) else {
                return Err(RunError::MissingInput { input: input() });
            };
            if tensor.datatype() != info.datatype {
                let (expected, found) = (info.datatype, tensor.datatype());
                return Err(RunError::Datatype { input: input(), expected, found });
            }
            let symbols_agree = symbols
                .iter()
                .zip(tensor.shape())
                .filter_map(|(symbol, size)| symbol.as_deref().map(|s| (s, *size)))
                .all(|(symbol, size)| *bound.entry(symbol).or_insert(size) == size);
            if !info.accepts(tensor.shape()) || !symbols_agree {
                let (expected, found) = (info.shape_text(), tensor.shape().to_vec());
                return Err(RunError::Shape { input: input(), expected, found });
            }
            let max = limits.tensor_elements_max;
            if element_count(tensor.shape()).is_none_or(|n| n > max) {
                return Err(RunError::TooLarge { found: format!("{:?}", tensor.shape()), max });
            }
            let (found, max) = (tensor.memory_bytes(), limits.input_bytes_max);
            if found > max {
                return Err(RunError::InputTooLarge { input: input(), found, max });
            }
            arranged.push(*tensor);
        }
        Ok(arranged)
    }
}

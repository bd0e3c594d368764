//! Named tensors.

use std::{collections::BTreeMap, sync::Arc};
use whimbrel_infer::Tensor;

/// Named tensors. Copies share the tensors.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, Arc<Tensor>>);

impl Environment {
    /// The tensor of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Tensor>> {
        self.0.get(name)
    }

    /// Sets or replaces the tensor of that name.
    pub fn insert(&mut self, name: impl Into<String>, tensor: impl Into<Arc<Tensor>>) {
        self.0.insert(name.into(), tensor.into());
    }

    /// Every name and its tensor, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Tensor>)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }
}
impl<N: Into<String>, T: Into<Arc<Tensor>>> FromIterator<(N, T)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, T)>>(tensors: I) -> Self {
        Self(tensors.into_iter().map(|(name, tensor)| (name.into(), tensor.into())).collect())
    }
}

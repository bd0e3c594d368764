//! Constant elements that exist only while a step is made ready.

use std::{fmt, sync::Arc};

/// Makes the elements, or says why they cannot be had.
type Make<T> = dyn Fn() -> Result<Vec<T>, String> + Send + Sync;

/// Constant elements, made when they are asked for: an engine packs them and drops them, so that memory need not hold those of a
/// whole model twice. Cloning is cheap.
#[derive(Clone)]
pub struct Weights<T> {
    len: usize,
    make: Arc<Make<T>>,
}

impl<T> fmt::Debug for Weights<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} weights", self.len)
    }
}

impl<T: Clone + Send + Sync + 'static> Default for Weights<T> {
    /// None, as where they were packed before.
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl<T: Clone + Send + Sync + 'static> Weights<T> {
    /// Elements that are there.
    #[must_use]
    pub fn of(values: Vec<T>) -> Self {
        Self { len: values.len(), make: Arc::new(move || Ok(values.clone())) }
    }

    /// `len` elements that `make` makes.
    pub fn made(len: usize, make: impl Fn() -> Result<Vec<T>, String> + Send + Sync + 'static) -> Self {
        Self { len, make: Arc::new(make) }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements.
    ///
    /// # Errors
    /// The model's file cannot be read any more.
    pub fn get(&self) -> Result<Vec<T>, String> {
        let values = (self.make)()?;
        if values.len() == self.len {
            return Ok(values);
        }
        Err(format!("there are {} weights, expected {}", values.len(), self.len))
    }
}

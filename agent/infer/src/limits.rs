//! What a file from outside may ask for.

use crate::memory::{MemoryError, Purpose};

/// Bounds on an imported model. They hold before memory is taken for what the file declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportLimits {
    /// Largest ONNX file.
    pub file_size_bytes_max: usize,
    /// Most protobuf messages in the file: each costs memory beyond its own bytes.
    pub messages_max: usize,
    /// Most nodes, those of subgraphs included.
    pub nodes_max: usize,
    /// Most dimensions of any tensor.
    pub rank_max: usize,
    /// Most elements of any tensor: initialiser, input, output or in between.
    pub tensor_elements_max: usize,
    /// Most inputs, and most outputs.
    pub tensors_max: usize,
    /// Largest tensor that a run is given.
    pub input_bytes_max: usize,
    /// Most memory that the model may take, loaded and in all its runs at a time.
    pub memory_bytes_max: u64,
}

impl Default for ImportLimits {
    fn default() -> Self {
        Self {
            file_size_bytes_max: 1 << 30,
            messages_max: 4_000_000,
            nodes_max: 100_000,
            rank_max: 16,
            tensor_elements_max: 1 << 28,
            tensors_max: 64,
            input_bytes_max: 1 << 30,
            memory_bytes_max: u64::MAX,
        }
    }
}

impl ImportLimits {
    /// Whether so much memory at once is within the budget, whatever else is taken of it.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn check_memory(&self, needed_bytes: u64) -> Result<(), MemoryError> {
        let budget_bytes = self.memory_bytes_max;
        if needed_bytes <= budget_bytes {
            return Ok(());
        }
        Err(MemoryError { purpose: Purpose::Tensors, needed_bytes, taken_bytes: 0, budget_bytes })
    }
}

//! What a file from outside may ask for.

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
        }
    }
}

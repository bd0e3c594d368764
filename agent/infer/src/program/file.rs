//! The model's file, decoded when somebody asks.

use crate::{
    compile::CompileError,
    error::LoadError,
    graph::{self, Model},
    limits::ImportLimits,
    memory::{Budget, Purpose, Reservation},
    source::Source,
    tract,
};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What a node takes besides its constants, in the graph and in plans.
const NODE_BYTES: u64 = 8 << 10;

/// A model's file.
pub(super) struct ModelFile {
    source: Source,
    decoded: OnceLock<Decoded>,
    decoding: Mutex<()>,
}

/// What a file says, and the memory that it takes.
pub(super) struct Decoded {
    pub(super) model: Model,
    /// Constants, and the file where it is in memory.
    _held: Reservation,
}

impl Decoded {
    /// Decodes a file.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub(super) fn of(
        source: &Source,
        limits: &ImportLimits,
        budget: &Arc<Budget>,
        engine: &'static str,
    ) -> Result<Self, LoadError> {
        let model = graph::decode(tract::open(source, limits, engine)?, source)?;
        let [here, away] = model.graph.constant_bytes();
        // Packed, weights take at least about what they take in the file.
        drop(budget.reserve(Purpose::Weights, here.saturating_add(away)).map_err(LoadError::Memory)?);
        let file_bytes = source.in_memory().map_or(0, |bytes| bytes.len() as u64);
        let held = here.saturating_add(file_bytes).saturating_add(model.graph.node_count() * NODE_BYTES);
        let held = budget.reserve(Purpose::Weights, held).map_err(LoadError::Memory)?;
        Ok(Self { model, _held: held })
    }
}

impl ModelFile {
    /// One that is not decoded yet.
    pub(super) fn unread(source: Source) -> Self {
        Self { source, decoded: OnceLock::new(), decoding: Mutex::default() }
    }

    /// One that is.
    pub(super) fn read(source: Source, decoded: Decoded) -> Self {
        Self { source, decoded: OnceLock::from(decoded), decoding: Mutex::default() }
    }

    /// What it says.
    ///
    /// # Errors
    /// It cannot be read any more, or there is no memory for it.
    pub(super) fn model(
        &self,
        limits: &ImportLimits,
        budget: &Arc<Budget>,
        engine: &'static str,
    ) -> Result<&Model, CompileError> {
        if let Some(decoded) = self.decoded.get() {
            return Ok(&decoded.model);
        }
        // One at a time: a file takes memory while it is decoded.
        let _decoding = self.decoding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(decoded) = self.decoded.get() {
            return Ok(&decoded.model);
        }
        let decoded = Decoded::of(&self.source, limits, budget, engine).map_err(failed)?;
        Ok(&self.decoded.get_or_init(|| decoded).model)
    }
}

fn failed(error: LoadError) -> CompileError {
    match error {
        LoadError::Memory(error) => CompileError::Memory(error),
        error => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            CompileError::failed(format!("{error}{}", cause.unwrap_or_default()))
        }
    }
}

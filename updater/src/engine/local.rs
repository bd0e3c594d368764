//! Chunks that the active bundle shares with a new one: already on the device, whatever they were moved as.

use crate::{bundle::chunk::is_content, disk::Disk, slots::Slots};
use std::{collections::HashMap, path::PathBuf, sync::Arc};
use whimbrel_wire::{Digest, ModelName, index::Chunk};

/// Where the chunks of the active bundle lie in its files, by the hash of their content.
pub(super) struct Local {
    disk: Arc<dyn Disk>,
    parts: HashMap<Digest, (PathBuf, u64)>,
}

impl Local {
    /// Looks through the active bundle. One that cannot be read shares nothing: everything can be fetched.
    pub(super) fn open(
        slots: &Slots,
        disk: Arc<dyn Disk>,
        model: &ModelName,
        active: Option<Digest>,
    ) -> Self {
        let mut parts = HashMap::new();
        if let Some(active) = active
            && let Ok(index) = slots.index(model, active)
        {
            let dir = slots.path(model, active);
            for file in &index.files {
                let mut offset = 0;
                for part in &file.chunks {
                    parts.entry(part.raw).or_insert_with(|| (dir.join(&file.path), offset));
                    offset += u64::from(part.raw_bytes);
                }
            }
        }
        Self { disk, parts }
    }

    /// The content of a chunk, if it is there and still has its hash.
    pub(super) fn read(&self, part: &Chunk) -> Option<Vec<u8>> {
        let (path, offset) = self.parts.get(&part.raw)?;
        let raw = self.disk.read_at(path, *offset, part.raw_bytes as usize).ok()?;
        is_content(part, &raw).then_some(raw)
    }
}

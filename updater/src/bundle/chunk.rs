//! Cutting into chunks, and checking them.

use crate::hash::sha256;
use whimbrel_wire::index::{CHUNK_BYTES_MAX, Chunk};

/// Smallest chunk, save the last of a file.
pub const CHUNK_BYTES_MIN: usize = 16 << 10;
/// What chunks are on average.
pub const CHUNK_BYTES_AVERAGE: usize = 64 << 10;
/// Largest chunk as stored: a zstd frame of incompressible bytes is slightly longer than they are.
pub const STORED_BYTES_MAX: u64 = CHUNK_BYTES_MAX as u64 + 1024;
/// High, because a chunk is packed once and moved to every device; unpacking costs the same at any level.
const ZSTD_LEVEL: i32 = 19;

/// Why a chunk is not the signed one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The stored bytes differ from what is signed.
    #[error("check chunk {}: its hash or length is not the signed one", .0.stored)]
    Stored(Chunk),
    /// It does not unpack into what is signed.
    #[error("unpack chunk {}: not the signed content", .0.stored)]
    Content(Chunk),
    /// There is no decompressor.
    #[error("unpack a chunk: {0}")]
    Unpacker(String),
    /// It could not be packed.
    #[error("pack a chunk: {0}")]
    Pack(String),
}

/// Packs the bytes of one chunk.
///
/// # Errors
/// When the compressor fails.
pub fn pack(raw: &[u8]) -> Result<(Chunk, Vec<u8>), ChunkError> {
    let stored = zstd::bulk::compress(raw, ZSTD_LEVEL).map_err(|e| ChunkError::Pack(e.to_string()))?;
    let size = |n: usize| u32::try_from(n).map_err(|e| ChunkError::Pack(e.to_string()));
    let chunk = Chunk {
        stored: sha256(&stored),
        stored_bytes: size(stored.len())?,
        raw: sha256(raw),
        raw_bytes: size(raw.len())?,
    };
    Ok((chunk, stored))
}

/// Checks the stored form of a chunk.
///
/// # Errors
/// When its length or hash is not the signed one.
pub fn check(chunk: &Chunk, stored: &[u8]) -> Result<(), ChunkError> {
    if stored.len() as u64 == u64::from(chunk.stored_bytes) && sha256(stored) == chunk.stored {
        Ok(())
    } else {
        Err(ChunkError::Stored(*chunk))
    }
}

/// Checks and unpacks a chunk. Nothing is unpacked before its hash was right, nor beyond the signed size.
///
/// # Errors
/// When it is not the signed one.
pub fn unpack(chunk: &Chunk, stored: &[u8]) -> Result<Vec<u8>, ChunkError> {
    let mut unpacker = Unpacker::new()?;
    unpacker.unpack(chunk, stored)?;
    Ok(unpacker.raw)
}

/// Unpacks one chunk after another in the same memory.
pub struct Unpacker {
    decompressor: zstd::bulk::Decompressor<'static>,
    raw: Vec<u8>,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

impl Unpacker {
    /// Makes one, with room for no chunk yet.
    ///
    /// # Errors
    /// When the decompressor cannot be made.
    pub fn new() -> Result<Self, ChunkError> {
        let decompressor = zstd::bulk::Decompressor::new();
        let decompressor = decompressor.map_err(|e| ChunkError::Unpacker(e.to_string()))?;
        Ok(Self { decompressor, raw: Vec::new() })
    }

    /// Checks and unpacks a chunk. Nothing is unpacked before its hash was right, nor beyond the signed size.
    ///
    /// # Errors
    /// When it is not the signed one.
    pub fn unpack(&mut self, chunk: &Chunk, stored: &[u8]) -> Result<&[u8], ChunkError> {
        check(chunk, stored)?;
        let raw_bytes = (chunk.raw_bytes.min(CHUNK_BYTES_MAX)) as usize;
        self.raw.resize(raw_bytes, 0);
        let unpacked = self.decompressor.decompress_to_buffer(stored, &mut self.raw[..]);
        match unpacked {
            Ok(found) if found == raw_bytes && is_content(chunk, &self.raw) => Ok(&self.raw),
            _ => Err(ChunkError::Content(*chunk)),
        }
    }
}

/// Whether `raw` is the unpacked content of the chunk.
#[must_use]
pub fn is_content(chunk: &Chunk, raw: &[u8]) -> bool {
    raw.len() as u64 == u64::from(chunk.raw_bytes) && sha256(raw) == chunk.raw
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_back_and_any_change_is_seen() {
        let raw: Vec<u8> = (0..50_000u32).flat_map(|n| (n * n % 251).to_le_bytes()).collect();
        let (chunk, stored) = pack(&raw).expect("packs");
        assert_eq!(unpack(&chunk, &stored).expect("unpacks"), raw);
        assert_eq!(pack(&raw).expect("packs again").1, stored, "packing is deterministic");
        for i in [0, stored.len() / 2, stored.len() - 1] {
            let mut bad = stored.clone();
            bad[i] ^= 1;
            assert_eq!(unpack(&chunk, &bad), Err(ChunkError::Stored(chunk)));
        }
        assert!(unpack(&chunk, &stored[1..]).is_err());
    }

    #[test]
    fn a_frame_that_unpacks_into_more_than_signed_is_refused() {
        let (mut chunk, stored) = pack(&[7; 1000]).expect("packs");
        chunk.raw_bytes = 999;
        assert_eq!(unpack(&chunk, &stored), Err(ChunkError::Content(chunk)));
        chunk.raw_bytes = 1001;
        assert_eq!(unpack(&chunk, &stored), Err(ChunkError::Content(chunk)));
    }
}

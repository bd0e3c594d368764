//! A bundle as chunks: packed from a folder, written to and read from a `.wbundle` file, checked.

pub mod chunk;
mod file;
mod pack;
mod verify;

pub use file::{METADATA_FILES_MAX, Packed, ReadError};
pub use pack::{MANIFEST_FILE, PackError, pack};
pub use verify::{Verified, VerifyError};

#[cfg(test)]
mod tests;

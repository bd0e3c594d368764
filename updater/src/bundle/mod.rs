//! A bundle as chunks: packed from a folder, written to and read from a `.wbundle` file, checked.

mod archive;
pub mod chunk;
mod contents;
mod delta;
mod file;
mod pack;
mod verify;

pub use archive::Archive;
pub use contents::{Contents, Part};
pub use delta::{Delta, delta};
pub use file::{METADATA_FILES_MAX, Packed, ReadError};
pub use pack::{MANIFEST_FILE, PackError, pack};
pub use verify::{Verified, VerifyError};

#[cfg(test)]
mod tests;

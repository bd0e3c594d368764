//! TUF 1.0 (specification 1.0.34): what may be trusted.
//!
//! [`Trusted`] is the client workflow without I/O: bytes and the time go in, a verdict comes out. [`Trust`] keeps what it
//! accepted in a folder and drives it from a [`Source`]. Nothing is parsed beyond its limits, nothing is believed before
//! its signatures are checked, and files are kept byte for byte as they came.

pub mod canonical;
mod error;
mod key;
mod meta;
mod parse;
mod signed;
mod trust;
mod trusted;

pub use error::TufError;
pub use key::{Key, KeyError};
pub use meta::{
    FileMeta, Floors, Hashes, Role, RoleKeys, RoleName, Root, Snapshot, Target, Targets, Timestamp,
};
pub use parse::{DEPTH_MAX, ITEMS_MAX};
pub use signed::{Signature, Signed, Standing};
pub use trust::{ROOT_ROTATIONS_MAX, Source, Trust};
pub use trusted::{Fresh, Rotated, Trusted, Wanted};

#[cfg(test)]
mod tests;

//! TUF 1.0 (specification 1.0.34): what may be trusted.
//!
//! [`Trusted`] is the client workflow without I/O: bytes and the time go in, a verdict comes out. [`Trust`] keeps what it
//! accepted in a folder and drives it from a [`Source`]. Nothing is parsed beyond its limits, nothing is believed before
//! its signatures are checked, and files are kept byte for byte as they came.

pub mod canonical;
mod delegation;
mod error;
mod files;
mod key;
mod meta;
mod own;
mod parse;
mod scheme;
mod search;
mod signed;
mod trust;
mod trusted;

pub use delegation::{DelegatedRole, Delegations, ROLES_MAX, Scope, file_stem};
pub use error::TufError;
pub use files::{FileMeta, Hashes, Target, TargetChecker};
pub use key::{Key, KeyError};
pub use meta::{Role, RoleKeys, RoleName, Root, Snapshot, Targets, Timestamp};
pub use own::{Downgrade, Downgrades, FloorMarks, Floors, plausible_time};
pub use parse::{DEPTH_MAX, ITEMS_MAX};
pub use search::{Found, SEARCHED_ROLES_MAX, Search, Visit};
pub use signed::{Signature, Signed, Standing};
pub use trust::{FLOORS_FILE, ROOT_ROTATIONS_MAX, Source, Trust};
pub use trusted::{Fresh, Rotated, Trusted, Wanted};

#[cfg(test)]
mod tests;

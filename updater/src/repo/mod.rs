//! The signing half: keys, and making root, targets, snapshot and timestamp. Bytes go in, bytes come out; the time and the
//! numbers of days are the caller's.
//!
//! Operators sign `root` and `targets` with keys that never meet the server; the server signs `snapshot` and `timestamp`
//! with its own ([`snapshot`], [`timestamp`]) and takes over what operators upload only after [`check_root`] and [`check_targets`].

mod check;
mod draft;
mod keys;
mod online;
mod root;
mod targets;

pub use check::{check_root, check_targets, standing};
pub use draft::{RepoError, sign};
pub use keys::{KeyFileError, SigningKey};
pub use online::{snapshot, timestamp};
pub use root::{RoleSpec, RootSpec, new_root, next_root};
pub use targets::{NewTarget, TargetsEdit, new_targets, next_targets};

#[cfg(test)]
mod tests;

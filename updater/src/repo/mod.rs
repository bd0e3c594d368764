//! The signing half: keys, and making root, targets, delegated roles, snapshot and timestamp. Bytes go in, bytes come out;
//! the time and the numbers of days are the caller's.
//!
//! Operators sign `root`, `targets` and what targets delegate to with keys that never meet the server; the server signs
//! `snapshot` and `timestamp` with its own ([`snapshot`], [`timestamp`]) and takes over what operators upload only after
//! [`check_root`], [`check_targets`] and [`check_delegated`].

mod check;
mod delegations;
mod draft;
mod keys;
mod names;
mod online;
mod root;
mod targets;

pub use check::{check_delegated, check_root, check_targets, standing};
pub use delegations::Delegation;
pub use draft::{RepoError, sign};
pub use keys::{KeyFileError, SigningKey, public_key_from_pem};
pub use names::{file_name, parse_file_name};
pub use online::{NamedRole, next_snapshot, next_timestamp, snapshot, timestamp};
pub use root::{RoleSpec, RootSpec, amend_root, new_root, next_root};
pub use targets::{NewTarget, TargetsEdit, amend_targets, new_targets, next_targets};

#[cfg(test)]
mod tests;

//! Fetches, verifies and installs signed model bundles, and makes the signed metadata that it trusts.
//!
//! What a device may run is decided by TUF metadata ([`tuf`]) and nothing else: whoever serves the files can withhold
//! them, but can make no device run what the release keys never signed, nor a version below the signed floor.
//! This crate knows nothing about inference: loading and judging a model is left to a [`engine::Host`].
//!
//! | module | holds |
//! |---|---|
//! | [`tuf`] | metadata, signatures, the client workflow, the trust folder |
//! | [`repo`] | the signing half: keys, and making root, targets, snapshot and timestamp |
//! | [`bundle`] | packing a folder into chunks, `.wbundle` files, checking them |
//! | [`transport`] | where metadata, targets and chunks come from |
//! | [`slots`] | installed bundles, immutable, and those being put together |
//! | [`journal`] | which bundle is active, candidate and previous |
//! | [`machine`] | every decision of an update, pure |
//! | [`engine`] | runs the machine of every model against disk, network and host |
//! | [`disk`] | the only place that writes files |
//! | [`hash`] | SHA-2 |

pub mod bundle;
pub mod disk;
pub mod engine;
pub mod hash;
pub mod journal;
pub mod machine;
pub mod repo;
pub mod slots;
pub mod transport;
pub mod tuf;

#[cfg(test)]
mod testing;

//! Types that cross between device and server, or are written to disk.
//!
//! Every message is one version byte followed by one CBOR item (RFC 8949). Decoding checks the size, the nesting
//! depth and the number of items before anything is built from the bytes, and again validates what the types
//! promise (names, paths, counts). This crate knows no network, no file, no clock and no model.
//!
//! | module | holds |
//! |---|---|
//! | [`cbor`] | the only place that touches the CBOR library: envelope, limits, errors |
//! | [`id`] | checked names: tenants, devices, models, digests |
//! | [`manifest`] | what a bundle says about the model inside it |
//! | [`pipeline`] | the declared steps before and after the model |
//! | [`index`] | a bundle as a list of files and chunks: the signed target |
//! | [`desired`] | what the server wants a device to run |
//! | [`report`] | what a device says about itself |
//! | [`telemetry`] | windows of counts and sketches, batches, acknowledgements |
//! | [`api`] | bodies of the JSON API |
//! | [`topic`] | MQTT topic names |
//! | [`transfer`] | metadata, targets and chunks over MQTT |

pub mod api;
pub mod cbor;
pub mod desired;
pub mod id;
pub mod index;
pub mod manifest;
pub mod pipeline;
pub mod report;
pub mod telemetry;
pub mod topic;
pub mod transfer;

pub use cbor::{DecodeError, Message, decode, encode};
pub use id::{DeviceId, Digest, IdError, ModelName, TenantId};

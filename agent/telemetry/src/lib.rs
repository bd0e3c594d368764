//! Windows of sketches, and the spool that holds them while offline.
//!
//! `Observation -> Recorder (open window + journal) -> Batch -> Spool -> acknowledged by the server`
//!
//! - An observation is in the open window's journal file, by `write(2)`, before [`Recorder::record`] returns: killing
//!   the process loses none. `fsync` follows within a second or so ([`Recorder::sync`]), against power cuts.
//! - A window that is over becomes batches in the [`Spool`], and only then does its journal go. A batch's identity
//!   (incarnation, sequence) is fixed when its journal is made, so doing any of this twice changes nothing.
//! - Nothing here stops an answer: what cannot be written is kept in memory, tried again, and counted.
//!
//! | module | holds |
//! |---|---|
//! | [`observation`] | one answered request, and how a tensor becomes one number |
//! | [`window`] | counts and sketches of a span of time |
//! | [`journal`] | the file format of an open window, and its replay |
//! | [`recorder`] | the open window: record, seal, recover |
//! | [`spool`] | batches on disk until they are acknowledged |
//!
//! This crate knows no network, no model and no clock: times come from the caller.

mod bytes;
pub mod journal;
pub mod observation;
pub mod recorder;
pub mod spool;
pub mod window;

pub use observation::{Observation, reduce};
pub use recorder::{Recorder, RecorderConfig, RecorderError, RecorderStat};
pub use spool::{BatchId, SledSpool, Spool, SpoolConfig, SpoolError, SpoolStat};

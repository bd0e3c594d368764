//! Proves the updater against power cuts, full disks, hostile servers and wrong clocks.
//!
//! Everything is simulated but the updater itself: the disk ([`disk`]) knows what a power cut may leave of it, the server
//! ([`server`]) misbehaves as told, the host ([`host`]) checks every byte it is given, the clock ([`clock`]) jumps. What
//! is random follows from a seed ([`random`]).
//!
//! | module | holds |
//! |---|---|
//! | [`disk`] | files and names as the process sees them, and as they survive a cut |
//! | [`repository`], [`release`] | what is signed |
//! | [`server`] | who serves it, with faults |
//! | [`host`] | what runs it |
//! | [`device`], [`process`] | the engine on all these, started, killed and listened to |
//! | [`invariants`] | what must hold |
//! | [`scenario`] | the updates whose every moment is tried |
//! | [`cuts`] | the power cut at every moment of one |
//! | [`refusals`] | the disk refusing at every moment of one |
//! | [`walk`] | long random lives of a device |

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what tests share fails as a test does: by a panic that says why"
)]

pub mod clock;
pub mod cuts;
pub mod device;
pub mod disk;
pub mod host;
pub mod invariants;
pub mod process;
pub mod random;
pub mod refusals;
pub mod release;
pub mod repository;
pub mod scenario;
pub mod server;
pub mod walk;

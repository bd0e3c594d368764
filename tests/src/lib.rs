//! What the end-to-end tests share: the real programs as processes, in folders of their own, stopped when the test ends.
//!
//! `cargo xtask test` builds the programs first and says where they are (`WHIMBREL_BIN_DIR`) and which Python has the
//! client packages (`WHIMBREL_PYTHON`).

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what tests share fails as a test does: by a panic that says why"
)]

mod agent;
mod fleet;
mod http;
mod images;
mod kills;
mod process;
mod relay;
mod tuf;

pub use agent::Agent;
pub use fleet::{Fleet, Operator};
pub use http::{Answer, get, post};
pub use images::{digit, images, pixels};
pub use kills::{Kills, kill_again_and_again};
pub use process::{Finished, Process, binary, run};
pub use relay::Relay;
pub use tuf::{Client, Kind, Served, python, script};

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Longest wait for anything: generous, since only a broken program reaches it.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The folder `examples/`.
#[must_use]
pub fn examples() -> PathBuf {
    root().join("examples")
}

/// The folder of the workspace.
///
/// # Panics
/// Never in a checkout: this crate lies below it.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

/// Asks again and again until there is an answer; panics naming `what` when there is none within [`PATIENCE`].
///
/// # Panics
/// When time is up.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        // A pause between questions, not a guess at how long the answer takes.
        std::thread::sleep(Duration::from_millis(50));
    }
}

//! Fuzz targets: every parser that meets bytes from a network, a card or a disk. A target must not panic, hang or take
//! memory without bound, whatever the bytes; what it accepts must also hold what the target asserts.
//!
//! `corpus/TARGET/` holds inputs that reach far. The crate's test runs them, and mutations of them, on any machine; `cargo xtask
//! fuzz` runs the same functions under libFuzzer.

mod model;
mod plan;
mod targets;

/// A target: its name, which is that of its folder under `corpus/`, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("metadata", targets::metadata),
    ("key", targets::key),
    ("floors", targets::floors),
    ("pattern", targets::pattern),
    ("index", targets::index),
    ("manifest", targets::manifest),
    ("journal", targets::journal),
    ("wbundle", targets::wbundle),
    ("archive", targets::archive),
    ("chunk", targets::chunk),
    ("desired", targets::desired),
    ("report", targets::report),
    ("telemetry", targets::telemetry),
    ("topic", targets::topic),
    ("transfer", targets::transfer),
    ("headers", targets::headers),
    ("model", model::model),
    ("plan", plan::plan),
];

/// The function of a target.
#[must_use]
pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|target| target.0 == name).map(|target| target.1)
}

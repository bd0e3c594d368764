//! The device's clock, which may jump.

use std::cell::Cell;
use time::{Duration, OffsetDateTime, macros::datetime};

/// When every simulation begins.
pub const START: OffsetDateTime = datetime!(2030-01-01 00:00 UTC);

thread_local! {
    // The engine takes its clock as a plain function, and each simulation runs on one thread.
    static NOW: Cell<OffsetDateTime> = const { Cell::new(START) };
}

/// What the device's clock shows.
#[must_use]
pub fn now() -> OffsetDateTime {
    NOW.get()
}

/// Sets it, forwards or back.
pub fn set(now: OffsetDateTime) {
    NOW.set(now);
}

/// Lets it go on.
pub fn advance(by: Duration) {
    NOW.set(NOW.get().saturating_add(by));
}

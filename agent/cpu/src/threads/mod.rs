//! A fixed set of threads that work on parts of a step.
//!
//! The split is static: part `i` always runs on thread `i`, whose caches then hold what it needs next. Between steps the threads spin for a
//! moment, since the next step is microseconds away, and then park. There is one set in a process: a run that finds it taken works
//! alone, so that two models never have more threads running than there are processors.

mod team;

pub use team::{Claimed, Team};

use std::sync::OnceLock;

/// Most threads of a team, the caller's included.
pub const THREADS_MAX: usize = 32;

/// The process's threads: as many as there are processors, at most [`THREADS_MAX`].
pub fn team() -> &'static Team {
    static TEAM: OnceLock<Team> = OnceLock::new();
    TEAM.get_or_init(|| {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Team::new(processors.min(THREADS_MAX))
    })
}

/// The range of `count` items that part `index` of `parts` gets: sizes differ by one at most.
#[must_use]
pub const fn share(count: usize, parts: usize, index: usize) -> std::ops::Range<usize> {
    let (whole, rest) = (count / parts, count % parts);
    let start = index * whole + if index < rest { index } else { rest };
    let len = whole + if index < rest { 1 } else { 0 };
    start..start + len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once() {
        for count in 0..40 {
            for parts in 1..9 {
                let shares: Vec<_> = (0..parts).flat_map(|index| share(count, parts, index)).collect();
                assert!(shares.into_iter().eq(0..count), "{count} in {parts}");
            }
        }
    }
}

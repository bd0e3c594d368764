//! Threads that work on parts of a step, and how many of them a run gets.
//!
//! The split is static within a step: part `i` of a run that has the same processors always runs on the same thread, whose caches then hold what
//! it needs next. Between steps the threads spin for a moment, since the next step is microseconds away, and then park. Runs of all models
//! share the processors, so that never more threads are at work than there are processors.
//!
//! | module | holds |
//! |---|---|
//! | `processors` | who has which processors |
//! | `team` | threads by processor, and what runs have of them |
//! | `worker` | one such thread |
//! | `affinity` | which processors a thread may run on |

mod affinity;
mod processors;
mod team;
mod worker;

pub use team::{Claimed, Team};

use std::sync::OnceLock;
use whimbrel_infer::Cores;

/// Most threads of a run, the caller's included.
pub const THREADS_MAX: usize = 32;

/// The process's threads: those of all processors that it may use, of which as many are at work as its quota allows.
pub fn team() -> &'static Team {
    static TEAM: OnceLock<Team> = OnceLock::new();
    TEAM.get_or_init(|| {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let counted = || Cores::of(0..count.min(Cores::COUNT_MAX));
        let first = || Cores::of([0]);
        #[allow(clippy::unreachable, reason = "a set of one")]
        let all =
            affinity::of_this_thread().or_else(counted).or_else(first).unwrap_or_else(|| unreachable!());
        Team::new(all, count)
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

//! Threads by processor, and what runs have of them.
#![allow(unsafe_code, reason = "threads write to disjoint items of a slice")]

use super::{
    THREADS_MAX, affinity,
    processors::{Processors, Taken},
    worker::{self, Held, Worker},
};
use std::{cell::Cell, panic::resume_unwind, sync::OnceLock};
use whimbrel_infer::Cores;

/// The threads of a process. They are started when a run first needs them.
pub struct Team {
    processors: Processors,
    /// For each processor, a thread for runs that are not bound, which the system may move.
    floating: Vec<OnceLock<Option<Worker>>>,
    /// For each processor, a thread that is bound to it.
    bound: Vec<OnceLock<Option<Worker>>>,
}

thread_local! {
    /// Whether this thread has processors already: it is not to wait for more.
    static HAS: Cell<bool> = const { Cell::new(false) };
}

impl Team {
    /// A team for some of the machine's processors, of which at most `count` are at work at a time.
    #[must_use]
    pub fn new(all: Cores, count: usize) -> Self {
        let slots = all.numbers().last().map_or(0, |last| last + 1);
        let none = || (0..slots).map(|_| OnceLock::new()).collect();
        Self { processors: Processors::new(all, count), floating: none(), bound: none() }
    }

    /// The processors that it has.
    #[must_use]
    pub const fn processors(&self) -> Cores {
        self.processors.all()
    }

    /// Takes processors for a run of at most `threads` threads, bound to `cores` where these are named. Fewer where others have them;
    /// the caller waits where there is none.
    #[must_use]
    pub fn claim(&self, threads: usize, cores: Option<Cores>) -> Claimed<'_> {
        let most = threads.clamp(1, THREADS_MAX);
        let nested = HAS.with(|has| has.replace(true));
        let taken = (!nested).then(|| self.processors.take(cores.unwrap_or(self.processors()), most));
        let mut claimed = Claimed { team: self, taken, cores, others: Vec::new(), home: None };
        if let (Some(taken), Some(_)) = (&claimed.taken, cores) {
            claimed.home = affinity::of_this_thread();
            if let Some(here) = Cores::of(taken.numbers.first().copied()) {
                affinity::bind_this_thread(here);
            }
        }
        claimed.hold();
        claimed
    }

    fn worker(&self, processor: usize, is_bound: bool) -> Option<&Worker> {
        let slots = if is_bound { &self.bound } else { &self.floating };
        let start = || {
            let name = format!("whimbrel-cpu-{processor}");
            Worker::start(name, Cores::of([processor]).filter(|_| is_bound))
        };
        slots.get(processor)?.get_or_init(start).as_ref()
    }
}

/// What a run has of a team: its own thread, and one for each further processor.
pub struct Claimed<'a> {
    team: &'a Team,
    /// `None` within another run of this thread, which works on its own thread alone.
    taken: Option<Taken>,
    cores: Option<Cores>,
    others: Vec<Held<'a>>,
    /// Where this thread ran before it was bound.
    home: Option<Cores>,
}

impl<'a> Claimed<'a> {
    /// Threads that parts can run on, this one included.
    #[must_use]
    pub const fn threads(&self) -> usize {
        self.others.len() + 1
    }

    /// Between two steps: takes processors that are free by now, or gives some back that other runs should have.
    pub fn adjust(&mut self) {
        let Self { team, taken, others, .. } = self;
        let Some(taken) = taken else { return };
        // Threads are let go before their processors are.
        team.processors.adjust(taken, |kept| others.truncate(kept - 1));
        self.hold();
    }

    /// Holds the threads of all processors but the first.
    fn hold(&mut self) {
        let Some(taken) = &self.taken else { return };
        let team: &'a Team = self.team;
        let further = taken.numbers.iter().skip(1 + self.others.len());
        let held = further.map_while(|processor| team.worker(*processor, self.cores.is_some())?.hold());
        self.others.extend(held);
    }

    /// Calls `work` with the number of each item and the item, each on a thread of its own, and returns when all are done.
    ///
    /// # Panics
    /// `work` panics, or there are more items than threads.
    pub fn each<T: Send>(&self, items: &mut [T], work: impl Fn(usize, &mut T) + Sync) {
        assert!(items.len() <= self.threads(), "more parts than threads");
        if items.len() <= 1 {
            items.iter_mut().enumerate().for_each(|(index, item)| work(index, item));
            return;
        }
        let count = items.len();
        let start = Start(items.as_mut_ptr());
        let panicked = worker::run(&self.others[..count - 1], &|index| {
            let start = &start;
            assert!(index < count, "a part beyond the items");
            // SAFETY: `index` is below the length of `items`, which stay borrowed until `run` returns; each index is called once,
            // so that no two threads have the same item.
            let item = unsafe { &mut *start.0.add(index) };
            work(index, item);
        });
        if panicked {
            resume_unwind(Box::new("a part of a step panicked on another thread"));
        }
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.others.clear();
        if let Some(home) = self.home {
            affinity::bind_this_thread(home);
        }
        if let Some(taken) = &mut self.taken {
            self.team.processors.give(taken);
            HAS.with(|has| has.set(false));
        }
    }
}

/// The first item.
struct Start<T>(*mut T);
// SAFETY: threads reach disjoint items through it, and the items may be sent.
unsafe impl<T: Send> Sync for Start<T> {}

#[cfg(test)]
mod tests;

//! The threads, and how work reaches them.
#![allow(unsafe_code, reason = "threads that outlive a run work on what the run borrows")]

use std::{
    cell::UnsafeCell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

/// Turns of spinning before a thread parks: some tens of microseconds.
const SPINS: u32 = 4_000;

/// Bits of the state that hold the number of parts.
const PARTS_BITS: u32 = 8;

/// A job: called with the number of each part.
type Job<'a> = &'a (dyn Fn(usize) + Sync);

/// Threads waiting for work.
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    /// Held by the run that has the threads.
    taken: Mutex<()>,
}

struct Worker {
    handle: Option<JoinHandle<()>>,
    asleep: Arc<AtomicBool>,
}

struct Shared {
    /// The number of the job, and in its lowest bits how many parts it has.
    state: AtomicU64,
    /// Parts that other threads have not finished.
    pending: AtomicUsize,
    /// Whether a part panicked.
    panicked: AtomicBool,
    stop: AtomicBool,
    job: UnsafeCell<Option<Job<'static>>>,
}

// SAFETY: `job` is the only field that is not `Sync` by itself. It is written only by the thread that holds `Team::taken`, and only
// while `pending` is 0, when no worker reads it: a worker reads it after seeing (acquire) a state whose parts
// include it, and before it takes itself (release) from `pending`, which the writer waits for (acquire).
unsafe impl Sync for Shared {}
// SAFETY: as above; what `job` points at is `Sync`, so that a reference to it may be sent.
unsafe impl Send for Shared {}

impl Team {
    /// A team of `threads`, the caller's among them.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            pending: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            job: UnsafeCell::new(None),
        });
        let mut workers = Vec::new();
        for index in 1..threads.clamp(1, super::THREADS_MAX) {
            let asleep = Arc::new(AtomicBool::new(false));
            let (theirs, sleep) = (Arc::clone(&shared), Arc::clone(&asleep));
            let spawned = thread::Builder::new()
                .name(format!("whimbrel-cpu-{index}"))
                .spawn(move || work(&theirs, &sleep, index));
            // A system that gives no more threads gets a smaller team.
            let Ok(handle) = spawned else { break };
            workers.push(Worker { handle: Some(handle), asleep });
        }
        Self { shared, workers, taken: Mutex::new(()) }
    }

    /// Threads of the team, the caller's included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Takes the team for a run of at most `threads` threads; alone where another run has it.
    #[must_use]
    pub fn claim(&self, threads: usize) -> Claimed<'_> {
        let alone = Claimed { team: self, guard: None, threads: 1 };
        if threads <= 1 || self.workers.is_empty() {
            return alone;
        }
        match self.taken.try_lock() {
            Ok(guard) => Claimed { team: self, guard: Some(guard), threads: threads.min(self.threads()) },
            Err(TryLockError::Poisoned(poisoned)) => Claimed {
                team: self,
                guard: Some(PoisonError::into_inner(poisoned)),
                threads: threads.min(self.threads()),
            },
            Err(TryLockError::WouldBlock) => alone,
        }
    }

    /// Runs `job` for every part, part 0 on this thread. The caller holds `taken`.
    fn run(&self, parts: usize, job: Job<'_>) {
        // SAFETY: the lifetime is extended only for the time in which `pending` is not 0: `Wait` below does not let this
        // function return, nor unwind, before every worker has finished with the reference.
        let job_static = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(job) };
        // SAFETY: `pending` is 0 (the run before waited for it) and `taken` is held, so that nothing reads or writes `job`.
        unsafe { *self.shared.job.get() = Some(job_static) };
        self.shared.pending.store(parts - 1, Ordering::Relaxed);
        let number = (self.shared.state.load(Ordering::Relaxed) >> PARTS_BITS) + 1;
        self.shared.state.store((number << PARTS_BITS) | parts as u64, Ordering::SeqCst);
        for worker in &self.workers[..parts - 1] {
            if worker.asleep.load(Ordering::SeqCst)
                && let Some(handle) = &worker.handle
            {
                handle.thread().unpark();
            }
        }
        let wait = Wait(&self.shared);
        job(0);
        drop(wait);
        if self.shared.panicked.swap(false, Ordering::Relaxed) {
            resume_unwind(Box::new("a part of a step panicked on another thread"));
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in &mut self.workers {
            if let Some(handle) = worker.handle.take() {
                handle.thread().unpark();
                // A worker catches every panic: there is nothing to be told.
                let _ = handle.join();
            }
        }
    }
}

/// Waits, when dropped, until no worker has a part any more.
struct Wait<'a>(&'a Shared);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut spins = 0u32;
        while self.0.pending.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins > SPINS {
                // Another process may have the processor that a part is to run on.
                thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

fn work(shared: &Shared, asleep: &AtomicBool, index: usize) {
    let mut seen = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let Some(state) = next(shared, asleep, seen) else { return };
        seen = state;
        let parts = (state & ((1 << PARTS_BITS) - 1)) as usize;
        if index >= parts {
            continue;
        }
        // SAFETY: this state's parts include this thread, which has not yet taken itself from `pending`: the job is there and is not
        // written before that (see `Shared`).
        let job = unsafe { *shared.job.get() };
        if let Some(job) = job
            && catch_unwind(AssertUnwindSafe(|| job(index))).is_err()
        {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.pending.fetch_sub(1, Ordering::Release);
    }
}

/// Waits for a state other than `seen`, first spinning, then parked; `None` where the team is dropped.
fn next(shared: &Shared, asleep: &AtomicBool, seen: u64) -> Option<u64> {
    for _ in 0..SPINS {
        let state = shared.state.load(Ordering::Acquire);
        if state != seen {
            return Some(state);
        }
        std::hint::spin_loop();
    }
    // Said before the state is read once more: whoever changes it afterwards sees it, and unparks.
    asleep.store(true, Ordering::SeqCst);
    let state = loop {
        let state = shared.state.load(Ordering::SeqCst);
        if state != seen {
            break Some(state);
        }
        if shared.stop.load(Ordering::SeqCst) {
            break None;
        }
        thread::park();
    };
    asleep.store(false, Ordering::SeqCst);
    state
}

/// A team that a run has to itself, or the run's own thread alone.
pub struct Claimed<'a> {
    team: &'a Team,
    guard: Option<MutexGuard<'a, ()>>,
    threads: usize,
}

impl Claimed<'_> {
    /// Threads that parts can run on.
    #[must_use]
    pub const fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `work` with the number of each item and the item, each on a thread of its own, and returns when all are done.
    ///
    /// # Panics
    /// `work` panics, or there are more items than threads.
    pub fn each<T: Send>(&self, items: &mut [T], work: impl Fn(usize, &mut T) + Sync) {
        assert!(items.len() <= self.threads, "more parts than threads");
        if items.len() <= 1 || self.guard.is_none() {
            items.iter_mut().enumerate().for_each(|(index, item)| work(index, item));
            return;
        }
        let count = items.len();
        let start = Start(items.as_mut_ptr());
        self.team.run(count, &|index| {
            let start = &start;
            assert!(index < count, "a part beyond the items");
            // SAFETY: `index` is below the length of `items`, which stay borrowed until `run` returns; each index is called once,
            // so that no two threads have the same item.
            let item = unsafe { &mut *start.0.add(index) };
            work(index, item);
        });
    }
}

/// The first item.
struct Start<T>(*mut T);
// SAFETY: threads reach disjoint items through it, and the items may be sent.
unsafe impl<T: Send> Sync for Start<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_runs_once_many_times_over() {
        let team = Team::new(4);
        for round in 0..2_000 {
            let threads = 1 + round % 4;
            let claimed = team.claim(threads);
            let mut items = vec![0usize; claimed.threads().min(threads)];
            claimed.each(&mut items, |index, item| *item += index + round);
            assert!(items.iter().enumerate().all(|(index, item)| *item == index + round), "{items:?}");
        }
    }

    #[test]
    fn a_taken_team_leaves_others_alone_and_parked_threads_wake() {
        let team = Team::new(3);
        let first = team.claim(3);
        assert_eq!(team.claim(3).threads(), 1);
        drop(first);
        for _ in 0..3 {
            // Long enough for the threads to park.
            while !team.workers.iter().all(|worker| worker.asleep.load(Ordering::SeqCst)) {
                thread::yield_now();
            }
            let mut items = [0; 3];
            team.claim(3).each(&mut items, |index, item| *item = index + 1);
            assert_eq!(items, [1, 2, 3]);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_goes_on() {
        let team = Team::new(2);
        for part in 0..2 {
            let failed = catch_unwind(AssertUnwindSafe(|| {
                team.claim(2).each(&mut [(), ()], |index, ()| assert_ne!(index, part, "asked for"));
            }));
            assert!(failed.is_err());
        }
        let mut items = [0; 2];
        team.claim(2).each(&mut items, |_, item| *item = 1);
        assert_eq!(items, [1, 1]);
    }
}

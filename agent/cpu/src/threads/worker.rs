//! A thread that waits for parts of a step.
#![allow(unsafe_code, reason = "threads that outlive a run work on what the run borrows")]

use super::affinity;
use std::{
    cell::{Cell, UnsafeCell},
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};
use whimbrel_infer::Cores;

/// Turns of spinning before a thread parks: some tens of microseconds.
const SPINS: u32 = 4_000;

/// A job: called with the number of each part.
type Job<'a> = &'a (dyn Fn(usize) + Sync);

/// A thread, parked or at work.
pub(super) struct Worker {
    handle: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// A cache line of its own: others' lines are written all the time.
#[repr(align(64))]
struct Shared {
    /// How many jobs were given.
    given: AtomicU64,
    /// How many of them are done.
    done: AtomicU64,
    panicked: AtomicBool,
    asleep: AtomicBool,
    /// Whether a run has this thread.
    held: AtomicBool,
    stop: AtomicBool,
    /// The job, and which part of it.
    job: UnsafeCell<Option<(Job<'static>, usize)>>,
}

// SAFETY: `job` is the only field that is not `Sync` by itself. It is written only through the one `Held` there is at a time
// (`held`), and only while all that was given is done; the worker reads it after seeing (acquire) that more was given,
// and before it says (release) that this is done, which the writer has seen (acquire).
unsafe impl Sync for Shared {}
// SAFETY: as above; what `job` points at is `Sync`, so that a reference to it may be sent.
unsafe impl Send for Shared {}

impl Worker {
    /// Starts a thread, bound to processors where they are named; `None` where the system gives no more threads.
    pub(super) fn start(name: String, cores: Option<Cores>) -> Option<Self> {
        let shared = Arc::new(Shared {
            given: AtomicU64::new(0),
            done: AtomicU64::new(0),
            panicked: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            held: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            job: UnsafeCell::new(None),
        });
        let theirs = Arc::clone(&shared);
        let spawned = thread::Builder::new().name(name).spawn(move || {
            if let Some(cores) = cores {
                affinity::bind_this_thread(cores);
            }
            work(&theirs);
        });
        Some(Self { handle: Some(spawned.ok()?), shared })
    }

    /// Takes the thread; `None` where another run has it.
    pub(super) fn hold(&self) -> Option<Held<'_>> {
        (!self.shared.held.swap(true, Ordering::Acquire)).then_some(Held(self, PhantomData))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(handle) = self.handle.take() {
            handle.thread().unpark();
            // A worker catches every panic: there is nothing to be told.
            let _ = handle.join();
        }
    }
}

/// A thread that a run has to itself. It gives jobs from one thread only (it is not `Sync`), and none from within a job.
pub(super) struct Held<'a>(&'a Worker, PhantomData<Cell<()>>);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.shared.held.store(false, Ordering::Release);
    }
}

/// Runs a job: part 0 on this thread, one on each of the others. Returns when all are done; whether one of the others panicked.
pub(super) fn run(others: &[Held<'_>], job: Job<'_>) -> bool {
    // SAFETY: the lifetime is extended only for the time in which a worker has the job: `Wait` below does not let this function return,
    // nor unwind, before each one that was given it is done.
    let job_static = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(job) };
    let wait = Wait(others);
    for (index, Held(worker, _)) in wait.0.iter().enumerate() {
        worker.give(job_static, index + 1);
    }
    job(0);
    drop(wait);
    others.iter().any(|Held(worker, _)| worker.shared.panicked.swap(false, Ordering::Relaxed))
}

impl Worker {
    /// Gives the thread, which is held and idle, a part of a job.
    fn give(&self, job: Job<'static>, part: usize) {
        let shared = &self.shared;
        let number = shared.given.load(Ordering::Relaxed);
        assert_eq!(shared.done.load(Ordering::Acquire), number, "a thread that is at work");
        // SAFETY: this is called by the one who holds the thread, and it is idle, so that nothing reads or writes `job`.
        unsafe { *shared.job.get() = Some((job, part)) };
        // An exchange, as below: QEMU lets the load after a mere store overtake it where it runs aarch64 code on x86-64.
        shared.given.swap(number + 1, Ordering::SeqCst);
        if shared.asleep.load(Ordering::SeqCst)
            && let Some(handle) = &self.handle
        {
            handle.thread().unpark();
        }
    }

    fn is_done(&self) -> bool {
        self.shared.done.load(Ordering::Acquire) == self.shared.given.load(Ordering::Relaxed)
    }

    /// Whether it is parked.
    #[cfg(test)]
    pub(super) fn is_asleep(&self) -> bool {
        self.shared.asleep.load(Ordering::SeqCst)
    }
}

/// Waits, when dropped, until no thread has a part any more.
struct Wait<'a, 'b>(&'b [Held<'a>]);

impl Drop for Wait<'_, '_> {
    fn drop(&mut self) {
        for Held(worker, _) in self.0 {
            let mut spins = 0u32;
            while !worker.is_done() {
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
}

fn work(shared: &Shared) {
    let mut seen = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let Some(given) = next(shared, seen) else { return };
        seen = given;
        // SAFETY: more was given than is done: the job is there and is not written before this is done (see `Shared`).
        let job = unsafe { *shared.job.get() };
        if let Some((job, part)) = job
            && catch_unwind(AssertUnwindSafe(|| job(part))).is_err()
        {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.done.store(given, Ordering::Release);
    }
}

/// Waits for more than `seen` to be given, first spinning, then parked; `None` where the thread is to stop.
fn next(shared: &Shared, seen: u64) -> Option<u64> {
    for _ in 0..SPINS {
        let given = shared.given.load(Ordering::Acquire);
        if given != seen {
            return Some(given);
        }
        std::hint::spin_loop();
    }
    // Said before it is read once more: whoever changes it afterwards sees it, and unparks.
    shared.asleep.swap(true, Ordering::SeqCst);
    let given = loop {
        let given = shared.given.load(Ordering::SeqCst);
        if given != seen {
            break Some(given);
        }
        if shared.stop.load(Ordering::SeqCst) {
            break None;
        }
        thread::park();
    };
    shared.asleep.store(false, Ordering::SeqCst);
    given
}

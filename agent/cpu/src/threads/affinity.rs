//! Which processors a thread may run on.

use whimbrel_infer::Cores;

/// The processors that this thread may run on, as far as they have numbers that can be named; `None` where the system does not tell.
#[cfg(all(target_os = "linux", not(miri)))]
pub(super) fn of_this_thread() -> Option<Cores> {
    let set = rustix::thread::sched_getaffinity(None).ok()?;
    Cores::of((0..Cores::COUNT_MAX).filter(|number| set.is_set(*number)))
}

/// Binds this thread to processors. Where the system refuses, it runs where it may.
#[cfg(all(target_os = "linux", not(miri)))]
pub(super) fn bind_this_thread(cores: Cores) {
    let mut set = rustix::thread::CpuSet::new();
    cores.numbers().for_each(|number| set.set(number));
    // One that was taken offline since is nothing to fail for: a binding is for speed alone.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

/// Other systems have no such notion, or none that is used here.
#[cfg(any(not(target_os = "linux"), miri))]
pub(super) fn of_this_thread() -> Option<Cores> {
    None
}

/// Threads run where they may.
#[cfg(any(not(target_os = "linux"), miri))]
pub(super) fn bind_this_thread(_cores: Cores) {}

use super::*;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

/// Miri is slow.
const ROUNDS: usize = if cfg!(miri) { 20 } else { 2_000 };

fn team(count: usize) -> Team {
    Team::new(Cores::of(0..count).expect("some"), count)
}

#[test]
fn every_part_runs_once_many_times_over() {
    let team = team(4);
    for round in 0..ROUNDS {
        let threads = 1 + round % 4;
        let claimed = team.claim(threads, None);
        let mut items = vec![0usize; threads];
        claimed.each(&mut items, |index, item| *item += index + round);
        assert!(items.iter().enumerate().all(|(index, item)| *item == index + round), "{items:?}");
    }
}

#[test]
fn parked_threads_wake_and_a_run_within_a_run_is_alone() {
    let team = team(3);
    let first = team.claim(3, None);
    assert_eq!((first.threads(), team.claim(3, None).threads()), (3, 1));
    drop(first);
    for _ in 0..3 {
        // Long enough for the threads to park.
        let asleep = |worker: &OnceLock<Option<Worker>>| {
            worker.get().and_then(Option::as_ref).is_none_or(Worker::is_asleep)
        };
        while !team.floating.iter().all(asleep) {
            thread::yield_now();
        }
        let mut items = [0; 3];
        team.claim(3, None).each(&mut items, |index, item| *item = index + 1);
        assert_eq!(items, [1, 2, 3]);
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_team_goes_on() {
    let team = team(2);
    for part in 0..2 {
        let failed = catch_unwind(AssertUnwindSafe(|| {
            team.claim(2, None).each(&mut [(), ()], |index, ()| assert_ne!(index, part, "asked for"));
        }));
        assert!(failed.is_err());
    }
    let mut items = [0; 2];
    team.claim(2, None).each(&mut items, |_, item| *item = 1);
    assert_eq!(items, [1, 1]);
}

/// Threads at work now, and the most there have been.
#[derive(Default)]
struct AtWork {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl AtWork {
    fn during(&self, work: impl FnOnce()) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        work();
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs of several models at once, each of `steps` steps split over what it has at the moment.
fn runs(team: &Team, models: &[(usize, Option<&str>)], steps: usize) -> usize {
    let at_work = AtWork::default();
    thread::scope(|scope| {
        for (threads, cores) in models {
            let cores = cores.map(|text| text.parse().expect("a set"));
            let at_work = &at_work;
            scope.spawn(move || {
                for _ in 0..3 {
                    let mut claimed = team.claim(*threads, cores);
                    for _ in 0..steps {
                        claimed.adjust();
                        let parts = claimed.threads();
                        assert!((1..=*threads).contains(&parts));
                        let mut done = vec![false; parts];
                        claimed.each(&mut done, |_, done| {
                            at_work.during(thread::yield_now);
                            *done = true;
                        });
                        assert_eq!(done, vec![true; parts]);
                    }
                }
            });
        }
    });
    at_work.most.into_inner()
}

#[test]
fn never_more_threads_are_at_work_than_there_are_processors() {
    let steps = ROUNDS / 20;
    let team = team(3);
    assert_eq!(team.claim(8, None).threads(), 3, "one run has them all");
    assert!(runs(&team, &[(3, None), (3, None), (2, None), (1, None), (3, None)], steps) <= 3);
    assert!(runs(&team, &[(2, Some("0-1")), (2, Some("0-1")), (3, None), (1, Some("2"))], steps) <= 3);
    let quota = Team::new(Cores::of(0..8).expect("some"), 2);
    assert!(runs(&quota, &[(8, None), (4, Some("4-7")), (1, None)], steps) <= 2);
    assert_eq!(team.claim(3, None).threads(), 3, "everything was given back");
}

#[test]
fn a_run_that_comes_gets_a_processor_at_the_others_next_step() {
    let team = team(2);
    let mut first = team.claim(2, None);
    let begun = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let second = team.claim(2, None);
            begun.store(second.threads() == 1, Ordering::SeqCst);
        });
        // The first run goes on: it ends only after the second.
        while !begun.load(Ordering::SeqCst) {
            first.adjust();
            let mut items = vec![0; first.threads()];
            first.each(&mut items, |_, item| *item += 1);
            thread::yield_now();
        }
    });
}

#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn bound_runs_stand_on_their_processors_and_leave_the_caller_as_it_was() {
    let before = affinity::of_this_thread().expect("the system tells");
    let all = Team::new(before, before.count());
    let mine = Cores::of(before.numbers().take(2)).expect("some");
    for _ in 0..3 {
        let claimed = all.claim(4, Some(mine));
        let mut places = vec![None; claimed.threads()];
        assert_eq!(places.len(), mine.count());
        claimed.each(&mut places, |_, place| *place = affinity::of_this_thread());
        let mut found: Vec<usize> = places.into_iter().flatten().flat_map(Cores::numbers).collect();
        found.sort_unstable();
        assert_eq!(found, mine.numbers().collect::<Vec<_>>(), "one each");
        drop(claimed);
        assert_eq!(affinity::of_this_thread(), Some(before));
    }
}

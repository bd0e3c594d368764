//! Who has which processors: never more threads at work than there are processors, whatever number of models runs.
//!
//! A run takes as many processors as are free, and waits where none is. Runs that have more than their fair share give some back between
//! two steps where others wait or have less; what a run has at the moment is how many threads its next step is split over.

use std::{
    collections::VecDeque,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use whimbrel_infer::Cores;

/// The processors, and who waits for them.
#[derive(Debug)]
pub(super) struct Processors {
    all: Cores,
    state: Mutex<State>,
    freed: Condvar,
    /// Whether anything but full runs is there: a hint that saves a look at the state.
    contended: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// Processors that nobody has.
    free: Option<Cores>,
    /// How many more may be at work, where a quota allows fewer than there are.
    left: usize,
    /// How many are at work.
    at_work: usize,
    /// Runs that have some.
    runs: usize,
    /// Those among them that have less than they want.
    hungry: usize,
    /// Runs that wait, first come first: their number, and what they can use.
    queue: VecDeque<(u64, Cores)>,
    next: u64,
}

/// What a run wants and has.
#[derive(Debug)]
pub(super) struct Taken {
    /// The first is where the run itself stands; never empty.
    pub(super) numbers: Vec<usize>,
    wanted: Cores,
    most: usize,
    hungry: bool,
}

impl Processors {
    /// Of these, at most `count` at work at a time.
    pub(super) fn new(all: Cores, count: usize) -> Self {
        let left = count.clamp(1, all.count());
        let state =
            State { free: Some(all), left, at_work: 0, runs: 0, hungry: 0, queue: VecDeque::new(), next: 0 };
        Self { all, state: Mutex::new(state), freed: Condvar::new(), contended: AtomicBool::new(false) }
    }

    pub(super) const fn all(&self) -> Cores {
        self.all
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole changes are made under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up to `most` of the wanted processors; waits until there is one.
    pub(super) fn take(&self, wanted: Cores, most: usize) -> Taken {
        let wanted = wanted.among(self.all).unwrap_or(self.all);
        let mut state = self.lock();
        let most = most.clamp(1, wanted.count().min(state.left + state.at_work));
        let number = state.next;
        state.next += 1;
        state.queue.push_back((number, wanted));
        while !state.is_turn(number) {
            self.note(&state);
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.queue.retain(|(other, _)| *other != number);
        state.runs += 1;
        let mut taken = Taken { numbers: Vec::with_capacity(most), wanted, most, hungry: false };
        state.fill(&mut taken);
        self.changed(&state);
        taken
    }

    /// Between two steps: takes what is free, or gives back what others should have. How many processors stay is told to `let_go` before
    /// the others are given back.
    pub(super) fn adjust(&self, taken: &mut Taken, let_go: impl FnOnce(usize)) {
        if !self.contended.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.lock();
        let kept = state.kept(taken);
        if kept < taken.numbers.len() {
            let_go(kept);
            let given = taken.numbers.split_off(kept);
            state.give(given);
            state.set_hungry(taken);
        } else {
            state.fill(taken);
        }
        self.changed(&state);
    }

    /// Gives everything back.
    pub(super) fn give(&self, taken: &mut Taken) {
        let mut state = self.lock();
        state.runs -= 1;
        state.hungry -= usize::from(std::mem::take(&mut taken.hungry));
        state.give(std::mem::take(&mut taken.numbers));
        self.changed(&state);
    }

    fn changed(&self, state: &State) {
        self.note(state);
        if !state.queue.is_empty() {
            self.freed.notify_all();
        }
    }

    fn note(&self, state: &State) {
        let contended = !state.queue.is_empty() || state.hungry > 0;
        self.contended.store(contended, Ordering::Relaxed);
    }

    /// Runs that wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lock().queue.len()
    }
}

impl State {
    /// Processors of each run, if all had as many; what is left over goes to whoever asks first, where nobody waits.
    fn share(&self) -> usize {
        let (runs, all) = ((self.runs + self.queue.len()).max(1), self.left + self.at_work);
        let rest = self.queue.is_empty() && all > runs && all % runs > 0;
        (all / runs).max(1) + usize::from(rest)
    }

    /// How many of its processors a run keeps.
    fn kept(&self, taken: &Taken) -> usize {
        let have = taken.numbers.len();
        let is_stuck = |wanted: &Cores| {
            let is_free = self.left > 0 && self.free.and_then(|free| free.among(*wanted)).is_some();
            let ours = Cores::of(taken.numbers.iter().skip(1).copied());
            !is_free && ours.and_then(|ours| ours.among(*wanted)).is_some()
        };
        if self.queue.is_empty() && self.hungry == usize::from(taken.hungry) {
            have
        } else if have > self.share() {
            self.share()
        } else if self.queue.iter().any(|(_, wanted)| *wanted != taken.wanted && is_stuck(wanted)) {
            // Bound to processors that nobody else can give.
            1
        } else {
            have
        }
    }

    /// Whether a run that waits can have a processor which nobody before it can use.
    fn is_turn(&self, number: u64) -> bool {
        let Some(mut free) = self.free.filter(|_| self.left > 0) else { return false };
        for (other, wanted) in &self.queue {
            let usable = wanted.among(free);
            if *other == number {
                return usable.is_some();
            }
            if let Some(one) = usable.and_then(|usable| Cores::of(usable.numbers().last())) {
                let Some(rest) = free.without(one) else { return false };
                free = rest;
            }
        }
        false
    }

    /// Adds free processors to those of a run, up to what it wants, and to its share where others want some as well.
    fn fill(&mut self, taken: &mut Taken) {
        let alone = self.queue.is_empty() && self.hungry == usize::from(taken.hungry);
        let most = if alone { taken.most } else { taken.most.min(self.share()) };
        // From the last one down: those that people bind models to are mostly the first.
        while taken.numbers.len() < most
            && self.left > 0
            && let Some(number) = self.free.and_then(|free| taken.wanted.among(free)?.numbers().last())
        {
            self.free = self.free.zip(Cores::of([number])).and_then(|(free, one)| free.without(one));
            self.left -= 1;
            self.at_work += 1;
            taken.numbers.push(number);
        }
        self.set_hungry(taken);
    }

    fn set_hungry(&mut self, taken: &mut Taken) {
        self.hungry -= usize::from(taken.hungry);
        taken.hungry = taken.numbers.len() < taken.most;
        self.hungry += usize::from(taken.hungry);
    }

    fn give(&mut self, numbers: Vec<usize>) {
        self.left += numbers.len();
        self.at_work -= numbers.len();
        let kept = self.free.into_iter().flat_map(Cores::numbers);
        self.free = Cores::of(kept.chain(numbers));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(text: &str) -> Cores {
        text.parse().expect("a set")
    }

    #[test]
    fn runs_share_fairly_at_their_steps() {
        let processors = Processors::new(cores("0-3"), 4);
        let mut first = processors.take(cores("0-3"), 4);
        assert_eq!(first.numbers.len(), 4);
        processors.adjust(&mut first, |_| unreachable!("nobody else is there"));
        std::thread::scope(|scope| {
            let second = scope.spawn(|| processors.take(cores("0-3"), 4));
            while processors.waiting() == 0 {
                std::thread::yield_now();
            }
            let mut kept = 0;
            processors.adjust(&mut first, |count| kept = count);
            assert_eq!((kept, first.numbers.len()), (2, 2), "half for each");
            let mut second = second.join().expect("no panic");
            processors.adjust(&mut second, |_| unreachable!("it has its share"));
            assert_eq!(second.numbers.len(), 2);
            processors.give(&mut first);
            processors.adjust(&mut second, |_| unreachable!("there is more"));
            assert_eq!(second.numbers.len(), 4, "what the other had is free");
            processors.give(&mut second);
        });
        let state = processors.lock();
        assert_eq!((state.left, state.at_work, state.runs, state.hungry), (4, 0, 0, 0));
        assert_eq!(state.free, Some(cores("0-3")));
    }

    #[test]
    fn a_quota_holds_and_bound_runs_get_their_own_processors() {
        let processors = Processors::new(cores("0-7"), 3);
        let mut floating = processors.take(cores("0-7"), 2);
        assert_eq!(floating.numbers, [7, 6], "from the last one down");
        let mut bound = processors.take(cores("0-1"), 2);
        assert_eq!(bound.numbers, [1], "three at work at most");
        processors.give(&mut floating);
        processors.adjust(&mut bound, |_| unreachable!("there is more"));
        assert_eq!(bound.numbers, [1, 0]);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let mut other = processors.take(cores("0"), 1);
                let numbers = other.numbers.clone();
                processors.give(&mut other);
                numbers
            });
            while processors.waiting() == 0 {
                std::thread::yield_now();
            }
            processors.adjust(&mut bound, |kept| assert_eq!(kept, 1));
            assert_eq!(other.join().expect("no panic"), [0], "bound to one that another run had");
        });
        processors.give(&mut bound);
        let mut wide = processors.take(cores("0-7"), 8);
        assert_eq!(wide.numbers.len(), 3);
        processors.adjust(&mut wide, |_| unreachable!("it has all that there is"));
        assert!(!processors.contended.load(Ordering::Relaxed), "and wants no more");
        assert_eq!(Processors::new(cores("2"), 9).take(cores("100"), 2).numbers, [2], "not there: any");
    }
}

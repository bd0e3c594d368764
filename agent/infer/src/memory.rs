//! How much memory a model may take, and what of it is taken.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// What a plan takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Made ready: packed weights and constants, kept with the plan.
    pub ready_bytes: u64,
    /// More than that while it is made ready: weights that are not packed yet.
    pub making_bytes: u64,
    /// For each run at a time: buffers, scratch of every thread, inputs and outputs once more.
    pub run_bytes: u64,
}

/// What memory was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The weights in the model's file.
    Weights,
    /// A plan, made ready for inputs of some shapes, and one run of it.
    Plan,
    /// A run.
    Run,
    /// A tensor, or constants that the model computes while it is loaded.
    Tensors,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weights => "the weights in its file",
            Self::Plan => "the model made ready for inputs of these shapes",
            Self::Run => "one run on inputs of these shapes",
            Self::Tensors => "tensors that inputs of these shapes ask for",
        })
    }
}

/// A model asks for more memory than it may take. Nothing of it was allocated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryError {
    /// What for.
    pub purpose: Purpose,
    /// What it would take, by an estimate that leans upwards.
    pub needed_bytes: u64,
    /// What the model has taken already.
    pub taken_bytes: u64,
    /// What it may take in all.
    pub budget_bytes: u64,
}

impl MemoryError {
    /// Whether it would fit if nothing else of the model were in memory: trying again later makes sense.
    #[must_use]
    pub const fn fits_alone(&self) -> bool {
        self.needed_bytes <= self.budget_bytes
    }
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { purpose, needed_bytes, taken_bytes, budget_bytes } = self;
        let [needed, taken, budget] = [needed_bytes, taken_bytes, budget_bytes].map(|bytes| Size(*bytes));
        write!(f, "{purpose} would take about {needed} of memory, the model's budget is {budget}")?;
        if *taken_bytes > 0 {
            write!(f, " with {taken} in use")?;
        }
        f.write_str(match (self.fits_alone(), purpose) {
            (true, Purpose::Run) => "; try again when other runs have ended, or raise its memory_bytes_max",
            (_, Purpose::Weights) => "; raise its memory_bytes_max, or use a smaller or quantised model",
            _ => "; raise its memory_bytes_max, or use smaller inputs or a smaller or quantised model",
        })
    }
}

impl std::error::Error for MemoryError {}

/// Bytes, for people.
struct Size(u64);

impl fmt::Display for Size {
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ 0..1_048_576 => write!(f, "{bytes} bytes"),
            bytes => write!(f, "{:.1} MiB", bytes as f64 / 1_048_576.0),
        }
    }
}

/// The memory that one model may take.
#[derive(Debug)]
pub(crate) struct Budget {
    max: u64,
    taken: AtomicU64,
}

impl Budget {
    pub(crate) fn new(max: u64) -> Arc<Self> {
        Arc::new(Self { max, taken: AtomicU64::new(0) })
    }

    /// Takes memory before it is allocated.
    ///
    /// # Errors
    /// There is not as much left.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        purpose: Purpose,
        bytes: u64,
    ) -> Result<Reservation, MemoryError> {
        self.take(purpose, bytes)?;
        Ok(Reservation { budget: Arc::clone(self), purpose, bytes })
    }

    fn take(&self, purpose: Purpose, bytes: u64) -> Result<(), MemoryError> {
        let take = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= self.max);
        let refused =
            |taken_bytes| MemoryError { purpose, needed_bytes: bytes, taken_bytes, budget_bytes: self.max };
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).map(|_| ()).map_err(refused)
    }
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    purpose: Purpose,
    bytes: u64,
}

impl Reservation {
    /// Makes it as large as what was allocated has turned out to be.
    ///
    /// # Errors
    /// That is more than was reserved, and more than is left.
    pub(crate) fn settle(&mut self, bytes: u64) -> Result<(), MemoryError> {
        if let Some(more) = bytes.checked_sub(self.bytes) {
            self.budget.take(self.purpose, more)?;
        } else {
            self.budget.taken.fetch_sub(self.bytes - bytes, Ordering::AcqRel);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_given_back_and_never_exceeds_the_budget() {
        let budget = Budget::new(100);
        let mut first = budget.reserve(Purpose::Plan, 60).expect("fits");
        let error = budget.reserve(Purpose::Run, 50).expect_err("too much");
        assert_eq!((error.needed_bytes, error.taken_bytes, error.budget_bytes), (50, 60, 100));
        assert!(error.fits_alone());
        first.settle(40).expect("less");
        let second = budget.reserve(Purpose::Run, 50).expect("fits now");
        assert!(first.settle(51).is_err());
        drop(second);
        first.settle(51).expect("there is room again");
        drop(first);
        assert_eq!(budget.taken.load(Ordering::Acquire), 0);
        assert!(!budget.reserve(Purpose::Weights, 101).expect_err("never fits").fits_alone());
        assert!(Budget::new(u64::MAX).reserve(Purpose::Run, u64::MAX).is_ok());
    }

    #[test]
    fn a_refusal_says_budget_estimate_and_what_to_do() {
        let error = MemoryError {
            purpose: Purpose::Plan,
            needed_bytes: 3 << 20,
            taken_bytes: 512,
            budget_bytes: 2 << 20,
        };
        assert_eq!(
            error.to_string(),
            "the model made ready for inputs of these shapes would take about 3.0 MiB of memory, the model's budget is \
             2.0 MiB with 512 bytes in use; raise its memory_bytes_max, or use smaller inputs or a smaller or \
             quantised model"
        );
    }
}

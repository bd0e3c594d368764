//! How long to wait before trying again.

use std::time::Duration;

/// Exponential backoff with full jitter: a random share of a delay that doubles from `first` to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Longest delay before the first repetition.
    pub first: Duration,
    /// Longest delay before any.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), max: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The delay after `tries` failures (from 1), scaled by `share` (0 to 1).
    #[must_use]
    pub fn delay(&self, tries: u32, share: f64) -> Duration {
        let doublings = tries.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.max).mul_f64(share.clamp(0.0, 1.0))
    }

    /// The delay after `tries` failures, with a random share of at least a tenth, so that a fleet spreads out.
    #[must_use]
    pub fn jittered(&self, tries: u32) -> Duration {
        self.delay(tries, random_share())
    }
}

/// A random share of at least a tenth.
pub(super) fn random_share() -> f64 {
    // Without randomness the full delay is right as well, only less spread.
    let share = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
    share.max(0.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_never_overflow() {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(10) };
        let delays: Vec<u64> = [1, 2, 3, 4, 5, 40, u32::MAX].map(|n| backoff.delay(n, 1.0).as_secs()).into();
        assert_eq!(delays, [1, 2, 4, 8, 10, 10, 10]);
        assert_eq!(backoff.delay(2, 0.5), Duration::from_secs(1));
        assert!(backoff.jittered(3) >= Duration::from_millis(400));
    }
}

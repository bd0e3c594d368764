//! A cap on bytes per second.

use std::{num::NonZeroU64, time::Duration};

/// Lets bytes through at a rate: each taker is told how long to wait, and pays with the waiting of those after it. A second's
/// worth may go at once after a pause.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    bytes_per_s: NonZeroU64,
    /// When all that was let through is paid for. Time is that since the bucket was made.
    paid_at: Duration,
}

impl TokenBucket {
    /// A bucket that lets so many bytes a second through.
    #[must_use]
    pub const fn new(bytes_per_s: NonZeroU64) -> Self {
        Self { bytes_per_s, paid_at: Duration::ZERO }
    }

    /// Takes bytes at `now`; how long to wait before they may go.
    pub fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        let saved = now.saturating_sub(Duration::from_secs(1));
        let start = self.paid_at.max(saved);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_s.get());
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid_at = start.saturating_add(cost);
        self.paid_at.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_any_long_time_no_more_than_the_rate_goes_through() {
        let mut bucket = TokenBucket::new(NonZeroU64::new(1000).expect("not 0"));
        let mut now = Duration::from_secs(10);
        let begun = now;
        for _ in 0..100 {
            now += bucket.take(500, now);
        }
        // 50,000 bytes, of which a second's worth was saved up.
        assert_eq!(now - begun, Duration::from_secs(49));
    }

    #[test]
    fn takers_at_the_same_time_queue_and_a_pause_saves_one_second_only() {
        let mut bucket = TokenBucket::new(NonZeroU64::new(100).expect("not 0"));
        let at = Duration::from_secs(1000);
        let waits: Vec<u64> = (0..4).map(|_| bucket.take(100, at).as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 3]);
        assert_eq!(
            bucket.take(u64::MAX, at + Duration::from_secs(5000)),
            Duration::from_nanos(u64::MAX) - Duration::from_secs(1)
        );
    }
}

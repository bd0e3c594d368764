//! How slow a body may come.

use std::time::Duration;

/// The slowest accepted pace: so many bytes in each stretch of time, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// Length of a stretch.
    pub(super) window: Duration,
    /// Fewest bytes in it.
    pub(super) bytes_min: u64,
}

impl Pace {
    /// A kilobyte a second, looked at each half minute: also a link that stalls now and then has that.
    pub(super) const SLOWEST: Self = Self { window: Duration::from_secs(30), bytes_min: 30 << 10 };
}

/// A body as it comes. Time is that since its beginning.
#[derive(Debug)]
pub(super) struct Watch {
    pace: Pace,
    /// Where the stretch began, and how much had come by then.
    from: (Duration, u64),
    bytes: u64,
}

impl Watch {
    pub(super) const fn new(pace: Pace) -> Self {
        Self { pace, from: (Duration::ZERO, 0), bytes: 0 }
    }

    /// Takes note of bytes that came.
    pub(super) fn came(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// How long more may be waited for at `at` before the pace is looked at; `None` when it was too slow.
    pub(super) fn patience(&mut self, at: Duration) -> Option<Duration> {
        let (begun, had) = self.from;
        let end = begun.saturating_add(self.pace.window);
        if at < end {
            return Some(end.saturating_sub(at));
        }
        if self.bytes.saturating_sub(had) < self.pace.bytes_min {
            return None;
        }
        self.from = (at, self.bytes);
        Some(self.pace.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drip_is_given_up_after_one_stretch_and_a_steady_flow_never() {
        let pace = Pace { window: Duration::from_secs(10), bytes_min: 100 };
        let mut drip = Watch::new(pace);
        for second in 0..10 {
            drip.came(9);
            assert!(drip.patience(Duration::from_secs(second)).is_some());
        }
        assert_eq!(drip.patience(Duration::from_secs(10)), None);
        let mut flow = Watch::new(pace);
        for second in 0..1000 {
            flow.came(11);
            assert!(flow.patience(Duration::from_secs(second)).is_some());
        }
        // What came fast at first does not excuse a drip later.
        flow.came(1_000_000);
        assert!(flow.patience(Duration::from_secs(1010)).is_some());
        flow.came(50);
        assert_eq!(flow.patience(Duration::from_secs(1020)), None);
    }

    #[test]
    fn patience_ends_with_the_stretch() {
        let mut watch = Watch::new(Pace { window: Duration::from_secs(10), bytes_min: 1 });
        assert_eq!(watch.patience(Duration::from_secs(4)), Some(Duration::from_secs(6)));
        watch.came(1);
        assert_eq!(watch.patience(Duration::from_secs(12)), Some(Duration::from_secs(10)));
    }
}

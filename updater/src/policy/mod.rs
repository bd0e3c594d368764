//! When, over which links and how fast bundles may be fetched. Pure: the time and the link are told.
//!
//! The policy is about chunks. Metadata and indexes are small, and a device that never asked for them would not learn of a
//! bundle that its operator must have.

mod bucket;
mod window;

pub use bucket::TokenBucket;
pub use window::{LocalTime, Window, WindowError};

use std::num::NonZeroU64;
use whimbrel_wire::report::{Reason, ReasonKind};

/// What an operator of the device allows. The default allows everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DownloadPolicy {
    /// Most bytes in a second, all models together.
    pub bytes_per_s_max: Option<NonZeroU64>,
    /// When bundles may be fetched; at any time where there are none.
    pub windows: Vec<Window>,
    /// What may be fetched over a link that is paid by the byte.
    pub metered: Metered,
}

/// What may be fetched over a link that is paid by the byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Metered {
    /// Nothing.
    Never,
    /// Bundles of which no more than this is to be fetched.
    Small {
        /// The most.
        bytes_max: u64,
    },
    /// Everything.
    #[default]
    Always,
}

/// Where and when the device is. Told by the program around the updater.
pub trait Surroundings: std::fmt::Debug + Send + Sync {
    /// The time on the device's wall.
    fn local_time(&self) -> LocalTime;

    /// Whether the link is paid by the byte.
    fn is_metered(&self) -> bool;
}

/// A device whose wall shows UTC, on a link that costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct Anywhere {
    /// The device's clock.
    pub now: fn() -> time::OffsetDateTime,
}

impl Surroundings for Anywhere {
    fn local_time(&self) -> LocalTime {
        let now = (self.now)();
        LocalTime::new(now.weekday().number_days_from_monday(), now.hour(), now.minute())
    }

    fn is_metered(&self) -> bool {
        false
    }
}

impl DownloadPolicy {
    /// Whether so many bytes of a bundle may be fetched now.
    ///
    /// # Errors
    /// Why not now.
    pub fn decide(&self, bytes: u64, now: LocalTime, is_metered: bool) -> Result<(), Reason> {
        if !self.windows.is_empty() && !self.windows.iter().any(|window| window.holds(now)) {
            let windows: Vec<String> = self.windows.iter().map(ToString::to_string).collect();
            let detail = format!("it is {now}, bundles are fetched {}", windows.join(", "));
            return Err(Reason::new(ReasonKind::Policy, detail));
        }
        let refused = match self.metered {
            Metered::Never => is_metered,
            Metered::Small { bytes_max } => is_metered && bytes > bytes_max,
            Metered::Always => false,
        };
        if refused {
            let detail = format!("{bytes} bytes are too many for a metered link");
            return Err(Reason::new(ReasonKind::Policy, detail));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: LocalTime = LocalTime::new(0, 12, 0);

    fn refuses(policy: &DownloadPolicy, bytes: u64, is_metered: bool) -> bool {
        policy.decide(bytes, NOON, is_metered).is_err_and(|reason| reason.kind == ReasonKind::Policy)
    }

    #[test]
    fn nothing_is_forbidden_by_default() {
        assert!(DownloadPolicy::default().decide(u64::MAX, NOON, true).is_ok());
    }

    #[test]
    fn any_window_will_do() {
        let windows = |texts: &[&str]| DownloadPolicy {
            windows: texts.iter().map(|text| text.parse().expect("a window")).collect(),
            ..DownloadPolicy::default()
        };
        assert!(refuses(&windows(&["22:00-06:00"]), 1, false));
        assert!(!refuses(&windows(&["22:00-06:00", "11:00-13:00"]), 1, false));
        let reason = windows(&["22:00-06:00"]).decide(1, NOON, false).expect_err("at noon");
        assert_eq!(reason.detail, "it is Mon 12:00, bundles are fetched 22:00-06:00");
    }

    #[test]
    fn a_metered_link_takes_what_its_rule_says() {
        let metered = |metered| DownloadPolicy { metered, ..DownloadPolicy::default() };
        assert!(refuses(&metered(Metered::Never), 1, true));
        assert!(!refuses(&metered(Metered::Never), 1, false));
        let small = metered(Metered::Small { bytes_max: 100 });
        assert!(!refuses(&small, 100, true));
        assert!(refuses(&small, 101, true));
        assert!(!refuses(&small, 101, false));
    }
}

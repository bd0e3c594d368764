//! The gates of probation.

use std::time::Duration;
use whimbrel_wire::{
    manifest::Probation,
    report::{Reason, ReasonKind},
};

/// Live requests since the version began to serve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Answered or failed.
    pub requests: u64,
    /// Failed ones among them.
    pub errors: u64,
}

/// What probation comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Continue,
    /// The candidate stays.
    Confirm,
    /// It goes.
    RollBack(Reason),
}

/// Decides on what was seen so far. Ends early where the candidate cannot pass any more.
#[must_use]
pub fn decide(policy: &Probation, seen: Traffic, elapsed: Duration, crashes: u32) -> Verdict {
    let Traffic { requests, errors } = seen;
    if crashes > policy.crashes_max {
        let detail =
            format!("{crashes} crashes while it served, at most {} are accepted", policy.crashes_max);
        return Verdict::RollBack(Reason::new(ReasonKind::Crashed, detail));
    }
    let counted = policy.requests.max(policy.requests_min);
    let too_many = |of: u64| errors as f64 > policy.error_rate_max * of as f64;
    let error_rate = || {
        let detail = format!("{errors} of {requests} requests failed");
        Verdict::RollBack(Reason::new(ReasonKind::ErrorRate, detail))
    };
    let rate_counts = policy.requests_min > 0 && requests >= policy.requests_min;
    if (rate_counts && too_many(requests)) || too_many(counted.max(requests)) {
        return error_rate();
    }
    if requests < counted && elapsed < Duration::from_secs(policy.seconds) {
        return Verdict::Continue;
    }
    if requests < policy.requests_min {
        let detail = format!("{requests} requests, at least {} are needed", policy.requests_min);
        return Verdict::RollBack(Reason::new(ReasonKind::NotEnoughTraffic, detail));
    }
    if too_many(requests) { error_rate() } else { Verdict::Confirm }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(requests_min: u64) -> Probation {
        Probation { requests: 100, seconds: 60, requests_min, error_rate_max: 0.05, crashes_max: 1 }
    }

    fn verdict(policy: &Probation, requests: u64, errors: u64, seconds: u64) -> Option<ReasonKind> {
        match decide(policy, Traffic { requests, errors }, Duration::from_secs(seconds), 0) {
            Verdict::Continue => None,
            Verdict::Confirm => panic!("confirmed"),
            Verdict::RollBack(reason) => Some(reason.kind),
        }
    }

    fn confirms(policy: &Probation, requests: u64, errors: u64, seconds: u64) -> bool {
        decide(policy, Traffic { requests, errors }, Duration::from_secs(seconds), 0) == Verdict::Confirm
    }

    #[test]
    fn count_or_time_ends_it_whichever_is_first() {
        assert_eq!(verdict(&policy(10), 99, 0, 59), None);
        assert!(confirms(&policy(10), 100, 5, 1));
        assert!(confirms(&policy(10), 10, 0, 60));
    }

    #[test]
    fn too_little_traffic_is_no_success_unless_none_is_demanded() {
        assert_eq!(verdict(&policy(10), 9, 0, 60), Some(ReasonKind::NotEnoughTraffic));
        assert!(confirms(&policy(0), 0, 0, 60));
    }

    #[test]
    fn a_candidate_that_cannot_pass_goes_at_once() {
        assert_eq!(verdict(&policy(10), 9, 5, 1), None);
        assert_eq!(verdict(&policy(10), 10, 1, 1), Some(ReasonKind::ErrorRate));
        assert_eq!(verdict(&policy(0), 5, 5, 1), None);
        assert_eq!(verdict(&policy(0), 6, 6, 1), Some(ReasonKind::ErrorRate));
        assert_eq!(verdict(&policy(0), 5, 5, 60), Some(ReasonKind::ErrorRate));
        assert_eq!(verdict(&policy(0), 100, 6, 1), Some(ReasonKind::ErrorRate));
    }

    #[test]
    fn more_crashes_than_accepted_end_it() {
        let with = |crashes| decide(&policy(0), Traffic::default(), Duration::ZERO, crashes);
        assert_eq!(with(1), Verdict::Continue);
        assert!(matches!(with(2), Verdict::RollBack(Reason { kind: ReasonKind::Crashed, .. })));
    }
}

//! What the device says about itself.

use crate::{platform::platform, telemetry::now_ms};
use semver::Version;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;
use whimbrel_wire::{
    encode,
    report::{ModelReport, Platform, Report, Status},
};

/// Makes reports of what is known now.
pub(crate) struct Reporter {
    boot: u64,
    sequence: AtomicU64,
    agent: Version,
    platform: Platform,
    models: watch::Receiver<Vec<ModelReport>>,
}

impl Reporter {
    /// `boot` is random, and made anew at each start.
    pub(crate) fn new(boot: u64, agent: Version, models: watch::Receiver<Vec<ModelReport>>) -> Self {
        Self { boot, sequence: AtomicU64::new(0), agent, platform: platform(), models }
    }

    /// The bytes of a report of this moment; `None` (and a line in the log) if it cannot be sent.
    pub(crate) fn report(&self, desired_serial: u64) -> Option<Vec<u8>> {
        let report = Report {
            boot: self.boot,
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            at_ms: now_ms(),
            agent: self.agent.clone(),
            platform: self.platform.clone(),
            desired_serial,
            models: self.models.borrow().clone(),
        };
        encode(&report).map_err(|error| tracing::error!(%error, "a report cannot be sent")).ok()
    }

    /// The bytes of a status.
    pub(crate) fn status(&self, online: bool) -> Vec<u8> {
        let status = Status { online, boot: self.boot };
        // Two plain fields: it is encodable, and without it the server would only show the device as away.
        encode(&status).unwrap_or_default()
    }

    /// Tells of changes from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<Vec<ModelReport>> {
        let mut changes = self.models.clone();
        changes.mark_unchanged();
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_wire::decode;

    #[test]
    fn reports_count_up_and_carry_what_is_known() {
        let (sender, receiver) = watch::channel(Vec::new());
        let reporter = Reporter::new(7, Version::new(0, 1, 0), receiver);
        let decoded = |serial| decode::<Report>(&reporter.report(serial).expect("bytes")).expect("a report");
        assert_eq!((decoded(0).sequence, decoded(0).models.len()), (1, 0));
        sender.send_replace(vec![ModelReport {
            name: "m".parse().expect("valid"),
            active: None,
            update: None,
        }]);
        let report = decoded(5);
        assert_eq!((report.boot, report.sequence, report.desired_serial, report.models.len()), (7, 3, 5, 1));
        assert!(report.platform.cores > 0 && report.platform.memory_bytes > 0);
    }
}

//! Why a device runs what it runs, in one sentence per model.

use semver::Version;
use whimbrel_wire::{
    ModelName,
    desired::DesiredModel,
    report::{ModelReport, Progress},
};

/// What is known about one model on one device.
#[derive(Debug, Clone)]
pub(crate) struct Facts<'a> {
    /// Which model.
    pub(crate) model: &'a ModelName,
    /// What the device was asked to run.
    pub(crate) desired: Option<&'a DesiredModel>,
    /// What it said.
    pub(crate) reported: Option<&'a ModelReport>,
    /// A rollout that matches the device, has not asked it yet, and could.
    pub(crate) waiting_for: Option<Waiting<'a>>,
}

/// A rollout that has not come to the device yet.
#[derive(Debug, Clone)]
pub(crate) struct Waiting<'a> {
    /// Its name.
    pub(crate) rollout: &'a str,
    /// Its version.
    pub(crate) version: &'a Version,
    /// The stage that runs, from 0.
    pub(crate) stage: u32,
    /// Share of the fleet after each stage, in percent.
    pub(crate) stages: &'a [u8],
    /// Whether it is paused.
    pub(crate) paused: bool,
}

/// One sentence; it names the model first.
pub(crate) fn why(facts: &Facts<'_>) -> String {
    let model = facts.model;
    let active = facts.reported.and_then(|r| r.active.as_ref()).map(|a| &a.version);
    let has = active.map_or_else(|| "no version is active".into(), |v| format!("{v} is active"));
    let sentence = match facts.desired {
        None => format!("{has}; the server asks for none"),
        Some(desired) => asked(desired, active, facts.reported),
    };
    let waiting = facts.waiting_for.as_ref().map(|w| format!("; {}", wait(w))).unwrap_or_default();
    format!("{model}: {sentence}{waiting}")
}

fn asked(desired: &DesiredModel, active: Option<&Version>, reported: Option<&ModelReport>) -> String {
    let version = &desired.version;
    let by =
        if desired.rollout.is_empty() { "by hand".into() } else { format!("by rollout {}", desired.rollout) };
    if active == Some(version) {
        return format!("{version} is active, as asked {by}");
    }
    let keeps = active.map_or_else(|| "nothing else is active".into(), |v| format!("{v} stays active"));
    let update = reported
        .and_then(|r| r.update.as_ref())
        .filter(|u| u.version == *version && u.attempt == desired.attempt);
    let waits = update.and_then(|u| u.waiting.as_ref());
    let keeps = match waits {
        Some(reason) => format!("waiting, because {reason}; {keeps}"),
        None => keeps,
    };
    match update.map(|u| &u.progress) {
        None => format!("{version} was asked for {by}, the device has not answered; {keeps}"),
        Some(Progress::Rejected { reason }) => format!("refused {version}: {reason}; {keeps}"),
        Some(Progress::RolledBack { reason }) => format!("took {version} back: {reason}; {keeps}"),
        Some(Progress::Fetching { done_bytes, total_bytes }) => {
            format!("fetching {version} ({done_bytes} of {total_bytes} bytes), asked {by}; {keeps}")
        }
        Some(Progress::Probation { requests, errors }) => {
            format!(
                "{version} is on probation after {requests} requests, {errors} of them failed, asked {by}; {keeps}"
            )
        }
        Some(Progress::Resolving {}) => format!("looking for {version}, asked {by}; {keeps}"),
        Some(Progress::SelfTest {}) => format!("testing {version}, asked {by}; {keeps}"),
        // Confirmed once, but another version is active: it is on its way back to the asked one.
        Some(Progress::Active {}) => format!("{version} was confirmed before, asked {by}; {keeps}"),
    }
}

fn wait(w: &Waiting<'_>) -> String {
    let percent = w.stages.get(w.stage as usize).copied().unwrap_or(100);
    let (stage, of) = (w.stage + 1, w.stages.len());
    if w.paused {
        format!("waiting for {}: rollout {} is paused in stage {stage} of {of}", w.version, w.rollout)
    } else {
        format!(
            "waiting for {}: stage {stage} of {of} ({percent} %) of rollout {} asks other devices first",
            w.version, w.rollout
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_wire::report::{Installed, Reason, ReasonKind, Update};

    fn desired(version: &str) -> DesiredModel {
        DesiredModel {
            name: "digits".parse().expect("valid"),
            version: version.parse().expect("valid"),
            target: format!("digits/{version}.wbi"),
            attempt: 1,
            rollout: "r-1".into(),
        }
    }

    fn reported(active: &str, version: &str, progress: Progress) -> ModelReport {
        ModelReport {
            name: "digits".parse().expect("valid"),
            active: Some(Installed {
                version: active.parse().expect("valid"),
                bundle: whimbrel_wire::Digest::new([0; 32]),
            }),
            update: Some(Update {
                version: version.parse().expect("valid"),
                attempt: 1,
                rollout: "r-1".into(),
                progress,
                waiting: None,
            }),
        }
    }

    fn say(desired: Option<&DesiredModel>, reported: Option<&ModelReport>) -> String {
        let model = "digits".parse().expect("valid");
        why(&Facts { model: &model, desired, reported, waiting_for: None })
    }

    #[test]
    fn it_says_what_happened_and_why() {
        let want = desired("3.0.0");
        let reason = Reason::new(ReasonKind::GoldenMismatch, "vector 2: off by 0.4");
        let refused = reported("2.0.0", "3.0.0", Progress::Rejected { reason });
        assert_eq!(
            say(Some(&want), Some(&refused)),
            "digits: refused 3.0.0: golden_mismatch: vector 2: off by 0.4; 2.0.0 stays active"
        );
        let active = reported("3.0.0", "3.0.0", Progress::Active {});
        assert_eq!(say(Some(&want), Some(&active)), "digits: 3.0.0 is active, as asked by rollout r-1");
        assert_eq!(
            say(Some(&want), None),
            "digits: 3.0.0 was asked for by rollout r-1, the device has not answered; nothing else is active"
        );
    }

    #[test]
    fn an_answer_to_an_earlier_attempt_is_no_answer() {
        let mut want = desired("3.0.0");
        want.attempt = 2;
        let reason = Reason::new(ReasonKind::Network, "timeout");
        let old = reported("2.0.0", "3.0.0", Progress::Rejected { reason });
        assert!(say(Some(&want), Some(&old)).contains("has not answered"));
    }

    #[test]
    fn it_says_which_stage_is_waited_for() {
        let model = "digits".parse().expect("valid");
        let version = Version::new(2, 0, 0);
        let waiting =
            Waiting { rollout: "r-7", version: &version, stage: 0, stages: &[10, 50, 100], paused: false };
        let facts = Facts { model: &model, desired: None, reported: None, waiting_for: Some(waiting) };
        assert_eq!(
            why(&facts),
            "digits: no version is active; the server asks for none; waiting for 2.0.0: stage 1 of 3 (10 %) of rollout r-7 asks other devices first"
        );
    }
}

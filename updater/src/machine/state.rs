//! What the machine is in, what happens to it, what it wants done.

use super::Traffic;
use crate::journal::{Offer, Record, Stage, UpdateRecord};
use std::time::Duration;
use whimbrel_wire::{
    Digest,
    manifest::Probation,
    report::{Installed, Reason},
};

/// Where a model stands.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Nothing is under way.
    Idle {
        /// What serves.
        confirmed: Confirmed,
        /// The last update.
        last: Option<UpdateRecord>,
    },
    /// Metadata is refreshed and the target looked up; or that failed and is waited out.
    Resolving {
        /// What is being done.
        job: Job,
        /// What failed so far.
        tries: Tries,
    },
    /// Chunks are fetched; or that failed and is waited out.
    Fetching {
        /// What is being done.
        job: Job,
        /// The bundle.
        bundle: Digest,
        /// Bytes on the device.
        done_bytes: u64,
        /// Bytes to be moved in all.
        total_bytes: u64,
        /// What failed so far.
        tries: Tries,
    },
    /// The bundle is put in its folder.
    Installing {
        /// What is being done.
        job: Job,
        /// The bundle.
        bundle: Digest,
        /// Bytes that were to be moved.
        total_bytes: u64,
        /// What failed so far.
        tries: Tries,
    },
    /// Golden vectors are running.
    Testing {
        /// What is being done; its `starts` counts this one.
        job: Job,
        /// What is tested.
        candidate: Candidate,
    },
    /// The host is about to serve the candidate.
    Switching {
        /// What is being done.
        job: Job,
        /// What is to serve.
        candidate: Candidate,
        /// Crashes while it served.
        crashes: u32,
        /// Whether it served before this process began.
        resumed: bool,
    },
    /// The candidate serves and is watched.
    Probation {
        /// What is being done.
        job: Job,
        /// What serves.
        candidate: Candidate,
        /// Crashes while it served.
        crashes: u32,
        /// Live requests so far.
        seen: Traffic,
    },
    /// A decision is saved, and the host is about to serve what follows from it.
    Settling {
        /// What is to serve.
        confirmed: Confirmed,
        /// The last update.
        last: Option<UpdateRecord>,
        /// What was decided.
        settle: Settle,
    },
}

/// Failures since something last went well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tries {
    /// How many.
    pub failures: u32,
    /// Why the last one failed.
    pub last: Option<Reason>,
}

impl Tries {
    /// One failure more, and the wait that follows it.
    pub(super) fn failed(self, reason: Reason) -> (Self, Work) {
        let failures = self.failures.saturating_add(1);
        (Self { failures, last: Some(reason) }, Work::Wait { tries: failures })
    }
}

/// Why the host is asked to serve the confirmed version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// The candidate was confirmed: it serves, its fallback can go.
    Confirmed,
    /// The candidate was taken back.
    Reverted,
    /// The process began.
    Restored,
}

/// The versions that passed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// The one that serves, or serves again if a candidate fails.
    pub active: Option<Installed>,
    /// The one before.
    pub previous: Option<Installed>,
}

/// An update under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What serves, or serves again if it fails.
    pub confirmed: Confirmed,
    /// What was asked for.
    pub offer: Offer,
    /// Self-tests of this offer that began.
    pub starts: u32,
}

/// An installed bundle that has yet to pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Which.
    pub installed: Installed,
    /// Its gates.
    pub policy: Probation,
}

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The fleet asks for a version.
    Desired(Offer),
    /// [`Work::Resolve`] is done.
    Resolved(Resolved),
    /// [`Work::Fetch`] came further.
    Progressed {
        /// Bytes on the device.
        done_bytes: u64,
        /// Bytes to be moved in all.
        total_bytes: u64,
    },
    /// [`Work::Fetch`] is done.
    Fetched,
    /// [`Work::Install`] is done.
    Installed {
        /// The gates in the bundle's manifest.
        policy: Probation,
    },
    /// [`Work::Test`] is done: passed.
    Tested,
    /// [`Work::Serve`] is done.
    Served,
    /// [`Work::Watch`] is done.
    Watched {
        /// Live requests since the candidate serves.
        traffic: Traffic,
        /// Time since then.
        elapsed: Duration,
    },
    /// [`Work::Wait`] is done.
    RetryDue,
    /// The work under way failed.
    Failed(Failure),
    /// [`Action::Save`] failed; the actions after it were not performed.
    SaveFailed(Reason),
    /// The process is about to end in order.
    Stop,
}

/// What [`Work::Resolve`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// The bundle.
    pub bundle: Digest,
    /// Bytes to be moved in all, as far as is known.
    pub total_bytes: u64,
    /// Whether it is installed already.
    pub installed: bool,
}

/// How work failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Trying later may help.
    Later(Reason),
    /// What an earlier step left is gone; the update begins again, later.
    Gone(Reason),
    /// Trying again would not help.
    Final(Reason),
}

impl Failure {
    /// Why.
    #[must_use]
    pub fn into_reason(self) -> Reason {
        match self {
            Self::Later(reason) | Self::Gone(reason) | Self::Final(reason) => reason,
        }
    }
}

/// What is to be done, in the order given.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Write the journal. If that fails, the rest is left undone and [`Event::SaveFailed`] follows.
    Save(Record),
    /// Begin this work in place of any other.
    Run(Work),
    /// Give up the work under way.
    Cancel,
    /// Remove every installed bundle of the model but these.
    Keep(Vec<Digest>),
}

/// Work that ends in an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Refresh metadata and look the offer up.
    Resolve(Offer),
    /// Fetch what no bundle on the device has of this one.
    Fetch(Digest),
    /// Put a bundle in its folder.
    Install(Digest),
    /// Run the self-test.
    Test(Digest),
    /// Let the host serve.
    Serve {
        /// What answers.
        bundle: Digest,
        /// What answers when that fails.
        fallback: Option<Digest>,
    },
    /// Let the host stop serving the model.
    Withdraw,
    /// Look at the live counts in a moment.
    Watch,
    /// Wait, the longer the more failures there were.
    Wait {
        /// Failures so far.
        tries: u32,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Idle { confirmed: Confirmed::default(), last: None }
    }
}

impl State {
    /// Whether [`Event::Desired`] is heeded; elsewhere it is to be held back.
    #[must_use]
    pub const fn takes_offers(&self) -> bool {
        matches!(
            self,
            Self::Idle { .. } | Self::Resolving { .. } | Self::Fetching { .. } | Self::Probation { .. }
        )
    }

    /// Whether the host is at rest, so that the process may end after [`Event::Stop`].
    #[must_use]
    pub const fn can_stop(&self) -> bool {
        !matches!(self, Self::Switching { .. } | Self::Settling { .. })
    }
}

impl Confirmed {
    /// The record of these versions.
    #[must_use]
    pub fn record(&self, update: Option<UpdateRecord>) -> Record {
        Record { active: self.active.clone(), previous: self.previous.clone(), update }
    }

    /// The active bundle.
    #[must_use]
    pub fn active_bundle(&self) -> Option<Digest> {
        self.active.as_ref().map(|a| a.bundle)
    }

    /// The versions after a candidate was confirmed.
    pub(super) fn succeeded_by(self, candidate: Installed) -> Self {
        // A version that was confirmed once more has no other before it than it had.
        let previous = if self.active.as_ref() == Some(&candidate) { self.previous } else { self.active };
        Self { active: Some(candidate), previous }
    }
}

impl Job {
    /// The record of this update at a stage.
    #[must_use]
    pub fn record(&self, stage: Stage) -> Record {
        self.confirmed.record(Some(UpdateRecord { offer: self.offer.clone(), stage }))
    }
}

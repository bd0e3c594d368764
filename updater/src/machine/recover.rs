//! What follows from a journal when the process begins.

use super::Traffic;
use super::{
    Action, Candidate, Confirmed, Job, Settle, State, Verdict, decide,
    step::{Step, rest, revert, serve, switch},
};
use crate::journal::{Outcome, Record, Stage, UpdateRecord};
use std::time::Duration;
use whimbrel_wire::{
    manifest::Probation,
    report::{Installed, Reason, ReasonKind},
};

/// The state after a restart. `policy` holds the gates of the candidate that the record names, if that can be read.
#[must_use]
pub fn recover(record: Record, policy: Option<Probation>) -> Step {
    let Record { active, previous, update } = record;
    let confirmed = Confirmed { active, previous };
    match update {
        Some(UpdateRecord { offer, stage: Stage::Probation { candidate, crashes, stopped } }) => {
            let job = Job { confirmed, offer, starts: 0 };
            let crashes = crashes.saturating_add(u32::from(!stopped));
            let installed = Installed { version: job.offer.version.clone(), bundle: candidate };
            resume(job, installed, crashes, policy)
        }
        last => restore(confirmed, last),
    }
}

/// Goes on with probation, unless it crashed too often.
fn resume(job: Job, installed: Installed, crashes: u32, policy: Option<Probation>) -> Step {
    let Some(policy) = policy else {
        let reason = Reason::new(ReasonKind::Disk, "the candidate's files cannot be read after a restart");
        return revert(job, Outcome::RolledBack { reason });
    };
    match decide(&policy, Traffic::default(), Duration::ZERO, crashes) {
        Verdict::RollBack(reason) => revert(job, Outcome::RolledBack { reason }),
        Verdict::Continue | Verdict::Confirm => switch(job, Candidate { installed, policy }, crashes, true),
    }
}

/// Lets the confirmed version serve, if there is one.
fn restore(confirmed: Confirmed, last: Option<UpdateRecord>) -> Step {
    if confirmed.active.is_none() {
        // A first version that was refused may still be on disk.
        return rest(confirmed, last);
    }
    let work = serve(&confirmed);
    (State::Settling { confirmed, last, settle: Settle::Restored }, vec![Action::Run(work)])
}

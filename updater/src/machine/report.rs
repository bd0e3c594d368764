//! What is told about a model.

use super::{Confirmed, Job, State, Tries};
use crate::journal::{Offer, Stage, UpdateRecord};
use whimbrel_wire::{
    ModelName,
    report::{ModelReport, Progress, Update},
};

/// The report of a state.
#[must_use]
pub fn report(name: &ModelName, state: &State) -> ModelReport {
    let (confirmed, update) = match state {
        State::Idle { confirmed, last } | State::Settling { confirmed, last, .. } => {
            (confirmed, last.as_ref().map(finished))
        }
        State::Resolving { job, tries } => waiting(under_way(job, Progress::Resolving {}), tries),
        State::Fetching { job, done_bytes, total_bytes, tries, .. } => {
            let (done_bytes, total_bytes) = (*done_bytes, *total_bytes);
            waiting(under_way(job, Progress::Fetching { done_bytes, total_bytes }), tries)
        }
        State::Installing { job, total_bytes, .. } => {
            under_way(job, Progress::Fetching { done_bytes: *total_bytes, total_bytes: *total_bytes })
        }
        State::Testing { job, .. } => under_way(job, Progress::SelfTest {}),
        State::Switching { job, .. } => under_way(job, Progress::Probation { requests: 0, errors: 0 }),
        State::Probation { job, seen, .. } => {
            under_way(job, Progress::Probation { requests: seen.requests, errors: seen.errors })
        }
    };
    ModelReport { name: name.clone(), active: confirmed.active.clone(), update }
}

type Told<'a> = (&'a Confirmed, Option<Update>);

/// Adds why the update is not further.
fn waiting<'a>((confirmed, update): Told<'a>, tries: &Tries) -> Told<'a> {
    (confirmed, update.map(|update| Update { waiting: tries.last.clone(), ..update }))
}

fn under_way(job: &Job, progress: Progress) -> Told<'_> {
    (&job.confirmed, Some(update(&job.offer, progress)))
}

fn finished(record: &UpdateRecord) -> Update {
    let progress = match &record.stage {
        Stage::Testing { .. } => Progress::SelfTest {},
        Stage::Probation { .. } => Progress::Probation { requests: 0, errors: 0 },
        Stage::Done { outcome } => outcome.into(),
    };
    update(&record.offer, progress)
}

fn update(offer: &Offer, progress: Progress) -> Update {
    let Offer { version, attempt, rollout, .. } = offer.clone();
    Update { version, attempt, rollout, progress, waiting: None }
}

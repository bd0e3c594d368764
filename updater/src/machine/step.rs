//! The transitions.

use super::{
    Action, Candidate, Confirmed, Event, Failure, Job, Settle, State, Traffic, Tries, Verdict, Work, decide,
};
use crate::journal::{Offer, Outcome, Stage, UpdateRecord};
use std::time::Duration;
use whimbrel_wire::{
    Digest,
    manifest::Probation,
    report::{Installed, Reason, ReasonKind},
};

/// Most self-tests of one offer that may begin and not end: a model that kills the process is not tried for ever.
pub const TEST_STARTS_MAX: u32 = 3;

pub(super) type Step = (State, Vec<Action>);

/// What follows from an event. An event that means nothing in a state changes nothing.
#[must_use]
pub fn step(state: State, event: Event) -> Step {
    match (state, event) {
        (State::Idle { confirmed, last }, Event::Desired(offer)) => begin(confirmed, last, offer),
        (State::Resolving { job, tries }, event) => resolving(job, tries, event),
        (state @ State::Fetching { .. }, event) => fetching(state, event),
        (State::Installing { job, bundle, total_bytes, tries }, event) => {
            installing(job, bundle, (total_bytes, tries), event)
        }
        (State::Testing { job, candidate }, event) => testing(job, candidate, event),
        (State::Switching { job, candidate, crashes, resumed }, event) => {
            switching(job, candidate, (crashes, resumed), event)
        }
        (State::Probation { job, candidate, crashes, seen }, event) => {
            probation(job, candidate, (crashes, seen), event)
        }
        (State::Settling { confirmed, last, settle }, event) => settling(confirmed, last, settle, event),
        (state @ State::Idle { .. }, _) => (state, vec![]),
    }
}

/// What an offer comes to when nothing is under way.
fn begin(confirmed: Confirmed, last: Option<UpdateRecord>, offer: Offer) -> Step {
    if confirmed.active.as_ref().is_some_and(|active| active.version == offer.version) {
        let update = Some(UpdateRecord { offer, stage: done(Outcome::Active {}) });
        let actions =
            if update == last { vec![] } else { vec![Action::Save(confirmed.record(update.clone()))] };
        return (State::Idle { confirmed, last: update }, actions);
    }
    let known =
        last.as_ref().filter(|l| l.offer.version == offer.version && l.offer.attempt >= offer.attempt);
    let starts = match known.map(|l| &l.stage) {
        Some(Stage::Done { .. }) => return (State::Idle { confirmed, last }, vec![]),
        Some(Stage::Testing { starts, .. }) => *starts,
        _ => 0,
    };
    let work = Work::Resolve(offer.clone());
    (
        State::Resolving { job: Job { confirmed, offer, starts }, tries: Tries::default() },
        vec![Action::Run(work)],
    )
}

/// What an offer means while bytes are being fetched.
enum Heard {
    /// The job goes on, under its newest attempt.
    Same(Job),
    /// Another version takes over.
    Other(Step),
}

fn offered(mut job: Job, offer: Offer) -> Heard {
    if job.offer.version == offer.version && job.offer.target == offer.target {
        job.offer = offer;
        return Heard::Same(job);
    }
    let (state, mut actions) = begin(job.confirmed, None, offer);
    actions.insert(0, Action::Cancel);
    Heard::Other((state, actions))
}

fn resolving(job: Job, tries: Tries, event: Event) -> Step {
    match event {
        Event::Desired(offer) => match offered(job, offer) {
            Heard::Other(step) => step,
            Heard::Same(job) => (State::Resolving { job, tries }, vec![]),
        },
        Event::Resolved(found) if found.installed => install(job, found.bundle, 0, Tries::default()),
        Event::Resolved(found) => {
            let work = Work::Fetch(found.bundle);
            let (bundle, total_bytes) = (found.bundle, found.total_bytes);
            let state = State::Fetching { job, bundle, done_bytes: 0, total_bytes, tries: Tries::default() };
            (state, vec![Action::Run(work)])
        }
        Event::RetryDue => {
            let work = Work::Resolve(job.offer.clone());
            (State::Resolving { job, tries }, vec![Action::Run(work)])
        }
        Event::Failed(Failure::Later(reason) | Failure::Gone(reason)) => begin_later(job, tries, reason),
        Event::Failed(Failure::Final(reason)) => rejected(job, reason),
        _ => (State::Resolving { job, tries }, vec![]),
    }
}

fn begin_later(job: Job, tries: Tries, reason: Reason) -> Step {
    let (tries, wait) = tries.failed(reason);
    (State::Resolving { job, tries }, vec![Action::Run(wait)])
}

fn fetching(state: State, event: Event) -> Step {
    let State::Fetching { job, bundle, done_bytes, total_bytes, tries } = state else {
        return (state, vec![]);
    };
    match event {
        Event::Desired(offer) => match offered(job, offer) {
            Heard::Other(step) => step,
            Heard::Same(job) => (State::Fetching { job, bundle, done_bytes, total_bytes, tries }, vec![]),
        },
        // Bytes that arrive mean that the network works, so that the next failure is a first one.
        Event::Progressed { done_bytes: now_done, total_bytes } => {
            let tries = if now_done > done_bytes { Tries::default() } else { tries };
            (State::Fetching { job, bundle, done_bytes: now_done, total_bytes, tries }, vec![])
        }
        Event::Fetched => install(job, bundle, total_bytes, tries),
        Event::RetryDue => {
            let work = Work::Fetch(bundle);
            (State::Fetching { job, bundle, done_bytes, total_bytes, tries }, vec![Action::Run(work)])
        }
        Event::Failed(Failure::Later(reason)) => {
            let (tries, wait) = tries.failed(reason);
            let state = State::Fetching { job, bundle, done_bytes, total_bytes, tries };
            (state, vec![Action::Run(wait)])
        }
        Event::Failed(Failure::Gone(reason)) => begin_later(job, tries, reason),
        Event::Failed(Failure::Final(reason)) => rejected(job, reason),
        _ => (State::Fetching { job, bundle, done_bytes, total_bytes, tries }, vec![]),
    }
}

fn install(job: Job, bundle: Digest, total_bytes: u64, tries: Tries) -> Step {
    let work = Work::Install(bundle);
    (State::Installing { job, bundle, total_bytes, tries }, vec![Action::Run(work)])
}

fn installing(mut job: Job, bundle: Digest, (total_bytes, tries): (u64, Tries), event: Event) -> Step {
    match event {
        Event::Installed { policy } if job.starts < TEST_STARTS_MAX => {
            job.starts += 1;
            let save = job.record(Stage::Testing { candidate: bundle, starts: job.starts });
            let installed = Installed { version: job.offer.version.clone(), bundle };
            let candidate = Candidate { installed, policy };
            (State::Testing { job, candidate }, vec![Action::Save(save), Action::Run(Work::Test(bundle))])
        }
        Event::Installed { .. } => {
            let detail = format!("{} self-tests began and none ended", job.starts);
            rejected(job, Reason::new(ReasonKind::Crashed, detail))
        }
        // What was fetched is not all there: fetch the rest.
        Event::Failed(Failure::Later(reason)) => {
            let (tries, wait) = tries.failed(reason);
            let state = State::Fetching { job, bundle, done_bytes: 0, total_bytes, tries };
            (state, vec![Action::Run(wait)])
        }
        Event::Failed(Failure::Gone(reason)) => begin_later(job, tries, reason),
        Event::Failed(Failure::Final(reason)) => rejected(job, reason),
        _ => (State::Installing { job, bundle, total_bytes, tries }, vec![]),
    }
}

fn testing(job: Job, candidate: Candidate, event: Event) -> Step {
    match event {
        Event::Tested => switch(job, candidate, 0, false),
        Event::Failed(failure) => rejected(job, failure.into_reason()),
        Event::SaveFailed(reason) => {
            let last = Some(UpdateRecord { offer: job.offer, stage: done(Outcome::Rejected { reason }) });
            (State::Idle { confirmed: job.confirmed, last }, vec![])
        }
        // The test is given up in order, so this start is not held against the bundle.
        Event::Stop => {
            let starts = job.starts.saturating_sub(1);
            let save = job.record(Stage::Testing { candidate: candidate.installed.bundle, starts });
            (State::Testing { job, candidate }, vec![Action::Cancel, Action::Save(save)])
        }
        _ => (State::Testing { job, candidate }, vec![]),
    }
}

/// Lets the candidate serve, with the active version behind it.
pub(super) fn switch(job: Job, candidate: Candidate, crashes: u32, resumed: bool) -> Step {
    let bundle = candidate.installed.bundle;
    let save = job.record(Stage::Probation { candidate: bundle, crashes, stopped: false });
    let work = Work::Serve { bundle, fallback: job.confirmed.active_bundle() };
    (State::Switching { job, candidate, crashes, resumed }, vec![Action::Save(save), Action::Run(work)])
}

fn switching(job: Job, candidate: Candidate, (crashes, resumed): (u32, bool), event: Event) -> Step {
    match event {
        Event::Served => {
            let state = State::Probation { job, candidate, crashes, seen: Traffic::default() };
            (state, vec![Action::Run(Work::Watch)])
        }
        Event::Failed(failure) => {
            let reason = failure.into_reason();
            let outcome = if resumed { Outcome::RolledBack { reason } } else { Outcome::Rejected { reason } };
            revert(job, outcome)
        }
        // Nothing serves yet; the journal still says what to do after the next crash.
        Event::SaveFailed(_) if resumed => {
            let work =
                Work::Serve { bundle: candidate.installed.bundle, fallback: job.confirmed.active_bundle() };
            (State::Switching { job, candidate, crashes, resumed }, vec![Action::Run(work)])
        }
        Event::SaveFailed(reason) => {
            let last = Some(UpdateRecord { offer: job.offer, stage: done(Outcome::Rejected { reason }) });
            (State::Idle { confirmed: job.confirmed, last }, vec![])
        }
        _ => (State::Switching { job, candidate, crashes, resumed }, vec![]),
    }
}

fn probation(mut job: Job, candidate: Candidate, (crashes, seen): (u32, Traffic), event: Event) -> Step {
    let bundle = candidate.installed.bundle;
    match event {
        Event::Watched { traffic, elapsed } => watched(job, candidate, crashes, traffic, elapsed),
        Event::Desired(offer) if offer.version != job.offer.version => {
            let detail = format!("version {} is asked for", offer.version);
            let reason = Reason::new(ReasonKind::Superseded, detail);
            revert(job, Outcome::RolledBack { reason })
        }
        Event::Desired(offer) if offer != job.offer => {
            job.offer = offer;
            let save = job.record(Stage::Probation { candidate: bundle, crashes, stopped: false });
            (State::Probation { job, candidate, crashes, seen }, vec![Action::Save(save)])
        }
        Event::Stop => {
            let save = job.record(Stage::Probation { candidate: bundle, crashes, stopped: true });
            (State::Probation { job, candidate, crashes, seen }, vec![Action::Cancel, Action::Save(save)])
        }
        _ => (State::Probation { job, candidate, crashes, seen }, vec![]),
    }
}

fn watched(job: Job, candidate: Candidate, crashes: u32, seen: Traffic, elapsed: Duration) -> Step {
    let policy: &Probation = &candidate.policy;
    match decide(policy, seen, elapsed, crashes) {
        Verdict::Continue => {
            (State::Probation { job, candidate, crashes, seen }, vec![Action::Run(Work::Watch)])
        }
        Verdict::Confirm => {
            let last = Some(UpdateRecord { offer: job.offer, stage: done(Outcome::Active {}) });
            settle(job.confirmed.succeeded_by(candidate.installed), last, Settle::Confirmed)
        }
        Verdict::RollBack(reason) => revert(job, Outcome::RolledBack { reason }),
    }
}

/// Ends the update and lets the confirmed version serve again.
pub(super) fn revert(job: Job, outcome: Outcome) -> Step {
    let last = Some(UpdateRecord { offer: job.offer, stage: done(outcome) });
    settle(job.confirmed, last, Settle::Reverted)
}

/// Saves a decision, then lets the host serve what follows from it.
fn settle(confirmed: Confirmed, last: Option<UpdateRecord>, settle: Settle) -> Step {
    let actions = vec![Action::Save(confirmed.record(last.clone())), Action::Run(serve(&confirmed))];
    (State::Settling { confirmed, last, settle }, actions)
}

/// The work that lets the confirmed version serve alone.
pub(super) fn serve(confirmed: &Confirmed) -> Work {
    match confirmed.active_bundle() {
        Some(bundle) => Work::Serve { bundle, fallback: None },
        None => Work::Withdraw,
    }
}

fn settling(confirmed: Confirmed, last: Option<UpdateRecord>, settled: Settle, event: Event) -> Step {
    match event {
        Event::Served => rest(confirmed, last),
        // The decision stands in memory, and what is on disk leads back to it after a restart.
        Event::SaveFailed(_) => {
            let work = serve(&confirmed);
            (State::Settling { confirmed, last, settle: settled }, vec![Action::Run(work)])
        }
        // A confirmed candidate serves already; only its fallback is still loaded.
        Event::Failed(_) if settled == Settle::Confirmed => rest(confirmed, last),
        Event::Failed(failure) => unservable(confirmed, last, failure.into_reason()),
        _ => (State::Settling { confirmed, last, settle: settled }, vec![]),
    }
}

/// The confirmed version cannot serve: the one before takes its place, if there is one.
fn unservable(confirmed: Confirmed, last: Option<UpdateRecord>, reason: Reason) -> Step {
    let Some(active) = &confirmed.active else { return rest(confirmed, last) };
    let known = last.map(|l| l.offer).filter(|offer| offer.version == active.version);
    let offer = known.unwrap_or_else(|| Offer {
        version: active.version.clone(),
        target: String::new(),
        attempt: 0,
        rollout: String::new(),
    });
    let last = Some(UpdateRecord { offer, stage: done(Outcome::RolledBack { reason }) });
    match confirmed.previous {
        Some(previous) => {
            settle(Confirmed { active: Some(previous), previous: None }, last, Settle::Restored)
        }
        // Kept as active, so that the next start tries it again.
        None => (State::Idle { confirmed, last }, vec![]),
    }
}

fn rejected(job: Job, reason: Reason) -> Step {
    let last = Some(UpdateRecord { offer: job.offer, stage: done(Outcome::Rejected { reason }) });
    let save = job.confirmed.record(last.clone());
    let (state, mut actions) = rest(job.confirmed, last);
    actions.insert(0, Action::Save(save));
    (state, actions)
}

/// Nothing is under way; the confirmed bundles stay on disk, and a candidate whose test was cut short.
pub(super) fn rest(confirmed: Confirmed, last: Option<UpdateRecord>) -> Step {
    let candidate = last.as_ref().and_then(|last| match last.stage {
        Stage::Testing { candidate, .. } | Stage::Probation { candidate, .. } => Some(candidate),
        Stage::Done { .. } => None,
    });
    let named = [&confirmed.active, &confirmed.previous].into_iter().flatten().map(|i| i.bundle);
    let keep = named.chain(candidate).collect();
    (State::Idle { confirmed, last }, vec![Action::Keep(keep)])
}

fn done(outcome: Outcome) -> Stage {
    Stage::Done { outcome }
}

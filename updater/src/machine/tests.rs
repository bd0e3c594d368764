//! Transitions that the engine's own tests do not reach, and what holds in every state.

use super::*;
use crate::journal::{Offer, Outcome, Record, Stage, UpdateRecord};
use std::time::Duration;
use whimbrel_wire::{
    Digest,
    manifest::Probation as Policy,
    report::{Installed, Progress, Reason, ReasonKind},
};

fn installed(minor: u8) -> Installed {
    Installed {
        version: format!("1.{minor}.0").parse().expect("a version"),
        bundle: Digest::new([minor; 32]),
    }
}

fn offer(minor: u8, attempt: u32) -> Offer {
    let version = installed(minor).version;
    Offer { target: format!("m/{version}.wbi"), version, attempt, rollout: "r".into() }
}

fn policy() -> Policy {
    Policy { requests: 10, seconds: 60, requests_min: 5, error_rate_max: 0.1, crashes_max: 1 }
}

fn reason(kind: ReasonKind) -> Reason {
    Reason::new(kind, "because")
}

/// Active 1.1, before it 1.0.
fn confirmed() -> Confirmed {
    Confirmed { active: Some(installed(1)), previous: Some(installed(0)) }
}

fn idle() -> State {
    State::Idle { confirmed: confirmed(), last: None }
}

fn job(starts: u32) -> Job {
    Job { confirmed: confirmed(), offer: offer(2, 1), starts }
}

fn candidate() -> Candidate {
    Candidate { installed: installed(2), policy: policy() }
}

fn in_probation() -> State {
    State::Probation { job: job(1), candidate: candidate(), crashes: 0, seen: Traffic::default() }
}

/// Runs events through the machine; the last state and the actions of the last event.
fn run(state: State, events: impl IntoIterator<Item = Event>) -> (State, Vec<Action>) {
    events.into_iter().fold((state, vec![]), |(state, _), event| step(state, event))
}

fn resolved() -> Event {
    Event::Resolved(Resolved { bundle: installed(2).bundle, total_bytes: 100, installed: false })
}

fn ok_path() -> Vec<Event> {
    vec![
        Event::Desired(offer(2, 1)),
        resolved(),
        Event::Fetched,
        Event::Installed { policy: policy() },
        Event::Tested,
        Event::Served,
        Event::Watched { traffic: Traffic { requests: 10, errors: 1 }, elapsed: Duration::from_secs(1) },
        Event::Served,
    ]
}

fn outcome(state: &State) -> Option<&Outcome> {
    match state {
        State::Idle { last: Some(UpdateRecord { stage: Stage::Done { outcome }, .. }), .. }
        | State::Settling { last: Some(UpdateRecord { stage: Stage::Done { outcome }, .. }), .. } => {
            Some(outcome)
        }
        _ => None,
    }
}

fn kind(state: &State) -> Option<ReasonKind> {
    match outcome(state)? {
        Outcome::Active {} => None,
        Outcome::Rejected { reason } | Outcome::RolledBack { reason } => Some(reason.kind),
    }
}

#[test]
fn a_good_update_is_confirmed_and_keeps_the_version_before() {
    let (state, actions) = run(idle(), ok_path());
    let State::Idle { confirmed, .. } = &state else { panic!("{state:?}") };
    assert_eq!(confirmed.active, Some(installed(2)));
    assert_eq!(confirmed.previous, Some(installed(1)));
    assert_eq!(outcome(&state), Some(&Outcome::Active {}));
    assert_eq!(actions, [Action::Keep(vec![installed(2).bundle, installed(1).bundle])]);
}

#[test]
fn the_journal_is_written_before_whatever_could_crash() {
    let path = ok_path();
    for n in 1..=path.len() {
        let (_, actions) = run(idle(), path[..n].iter().cloned());
        let save = actions.iter().position(|a| matches!(a, Action::Save(_)));
        for (at, action) in actions.iter().enumerate() {
            if let Action::Run(Work::Test(_) | Work::Serve { .. } | Work::Withdraw) = action {
                assert!(save.is_some_and(|save| save < at), "after {:?}: {actions:?}", path[n - 1]);
            }
        }
    }
}

#[test]
fn until_it_is_confirmed_every_record_names_the_old_version_as_active() {
    let path = ok_path();
    for n in 1..path.len() - 1 {
        for action in run(idle(), path[..n].iter().cloned()).1 {
            if let Action::Save(record) = action {
                assert_eq!(record.active, Some(installed(1)));
            }
        }
    }
}

#[test]
fn a_failure_in_any_phase_keeps_the_old_version() {
    for n in 1..6 {
        let mut path = ok_path();
        path.truncate(n);
        path.push(Event::Failed(Failure::Final(reason(ReasonKind::Load))));
        let (mut state, actions) = run(idle(), path);
        if matches!(state, State::Settling { .. }) {
            assert!(
                actions.contains(&Action::Run(Work::Serve { bundle: installed(1).bundle, fallback: None }))
            );
            state = step(state, Event::Served).0;
        }
        let State::Idle { confirmed: after, .. } = &state else { panic!("{n}: {state:?}") };
        assert_eq!((after, kind(&state)), (&confirmed(), Some(ReasonKind::Load)));
        assert!(matches!(outcome(&state), Some(Outcome::Rejected { .. })), "it never served");
    }
}

#[test]
fn a_failed_version_waits_for_a_higher_attempt_or_another_version() {
    let failed =
        run(idle(), [Event::Desired(offer(2, 3)), Event::Failed(Failure::Final(reason(ReasonKind::Load)))]).0;
    for attempt in [1, 2, 3] {
        assert_eq!(step(failed.clone(), Event::Desired(offer(2, attempt))), (failed.clone(), vec![]));
    }
    for again in [offer(2, 4), offer(3, 1)] {
        assert!(matches!(step(failed.clone(), Event::Desired(again)).0, State::Resolving { .. }));
    }
}

#[test]
fn what_is_active_already_is_reported_so_and_written_once() {
    let (state, actions) = step(idle(), Event::Desired(offer(1, 7)));
    assert_eq!(outcome(&state), Some(&Outcome::Active {}));
    assert!(matches!(actions[..], [Action::Save(_)]));
    assert_eq!(step(state.clone(), Event::Desired(offer(1, 7))), (state, vec![]));
}

#[test]
fn network_failures_are_waited_out_for_ever() {
    let mut state = step(idle(), Event::Desired(offer(2, 1))).0;
    for tries in 1..1000 {
        let (next, actions) = step(state, Event::Failed(Failure::Later(reason(ReasonKind::Network))));
        assert_eq!(actions, [Action::Run(Work::Wait { tries })]);
        let (next, actions) = step(next, Event::RetryDue);
        assert_eq!(actions, [Action::Run(Work::Resolve(offer(2, 1)))]);
        state = next;
    }
    let name = "m".parse().expect("a name");
    let update = report(&name, &state).update.expect("under way");
    assert_eq!(
        (update.progress, update.waiting),
        (Progress::Resolving {}, Some(reason(ReasonKind::Network)))
    );
    let (state, _) = step(state, resolved());
    assert_eq!(report(&name, &state).update.expect("under way").waiting, None);
}

#[test]
fn bytes_that_arrive_make_the_next_failure_a_first_one() {
    let later = || Event::Failed(Failure::Later(reason(ReasonKind::Network)));
    let events =
        [Event::Desired(offer(2, 1)), resolved(), later(), Event::RetryDue, later(), Event::RetryDue];
    let (state, _) = run(idle(), events);
    let (_, actions) = step(state.clone(), later());
    assert_eq!(actions, [Action::Run(Work::Wait { tries: 3 })]);
    let (_, actions) = run(state, [Event::Progressed { done_bytes: 10, total_bytes: 100 }, later()]);
    assert_eq!(actions, [Action::Run(Work::Wait { tries: 1 })]);
}

#[test]
fn what_is_gone_is_resolved_again() {
    for n in [1, 2, 3] {
        let mut path = ok_path();
        path.truncate(n);
        path.push(Event::Failed(Failure::Gone(reason(ReasonKind::Corrupt))));
        let (state, actions) = run(idle(), path);
        assert!(matches!(state, State::Resolving { .. }) || n == 3, "{state:?}");
        assert_eq!(actions, [Action::Run(Work::Wait { tries: 1 })]);
    }
}

#[test]
fn another_version_takes_over_while_bytes_are_fetched() {
    for n in [1, 2] {
        let (state, actions) = run(idle(), [&ok_path()[..n], &[Event::Desired(offer(3, 1))]].concat());
        assert!(matches!(&state, State::Resolving { job, .. } if job.offer == offer(3, 1)));
        assert_eq!(actions, [Action::Cancel, Action::Run(Work::Resolve(offer(3, 1)))]);
        let (state, actions) = run(idle(), [&ok_path()[..n], &[Event::Desired(offer(1, 1))]].concat());
        assert_eq!(outcome(&state), Some(&Outcome::Active {}));
        assert_eq!(actions[0], Action::Cancel);
        let (state, actions) = run(idle(), [&ok_path()[..n], &[Event::Desired(offer(2, 5))]].concat());
        let name = "m".parse().expect("a name");
        assert_eq!(report(&name, &state).update.expect("under way").attempt, 5);
        assert_eq!(actions, [], "the same version goes on");
    }
}

#[test]
fn asking_for_another_version_in_probation_takes_the_candidate_back() {
    for other in [offer(1, 1), offer(3, 1)] {
        let (state, actions) = step(in_probation(), Event::Desired(other));
        assert_eq!(kind(&state), Some(ReasonKind::Superseded));
        assert!(matches!(actions[0], Action::Save(_)));
        assert_eq!(actions[1], Action::Run(Work::Serve { bundle: installed(1).bundle, fallback: None }));
    }
    let (state, actions) = step(in_probation(), Event::Desired(offer(2, 2)));
    assert!(matches!((&state, &actions[..]), (State::Probation { .. }, [Action::Save(_)])));
}

#[test]
fn a_candidate_whose_journal_cannot_be_written_does_not_serve() {
    let failed = || Event::SaveFailed(reason(ReasonKind::Disk));
    for n in [4, 5] {
        let (state, actions) = run(idle(), [&ok_path()[..n], &[failed()]].concat());
        assert_eq!((kind(&state), actions), (Some(ReasonKind::Disk), vec![]));
    }
}

#[test]
fn a_decision_that_cannot_be_written_is_carried_out_all_the_same() {
    let watched = Event::Watched { traffic: Traffic { requests: 10, errors: 9 }, elapsed: Duration::ZERO };
    let (state, actions) = run(in_probation(), [watched, Event::SaveFailed(reason(ReasonKind::Disk))]);
    assert_eq!(kind(&state), Some(ReasonKind::ErrorRate));
    assert_eq!(actions, [Action::Run(Work::Serve { bundle: installed(1).bundle, fallback: None })]);
}

#[test]
fn a_first_version_that_fails_is_withdrawn() {
    let job = Job { confirmed: Confirmed::default(), ..job(1) };
    let state = State::Probation { job, candidate: candidate(), crashes: 0, seen: Traffic::default() };
    let watched =
        Event::Watched { traffic: Traffic { requests: 4, errors: 0 }, elapsed: Duration::from_secs(60) };
    let (state, actions) = step(state, watched);
    assert_eq!(kind(&state), Some(ReasonKind::NotEnoughTraffic));
    assert_eq!(actions[1], Action::Run(Work::Withdraw));
}

fn record(stage: Stage) -> Record {
    confirmed().record(Some(UpdateRecord { offer: offer(2, 1), stage }))
}

#[test]
fn a_self_test_that_never_ends_is_given_up() {
    let mut state = recover(confirmed().record(None), None).0;
    for starts in 1..=TEST_STARTS_MAX {
        let ready = run(state, [Event::Served, Event::Desired(offer(2, 1)), resolved(), Event::Fetched]).0;
        let (_, actions) = step(ready, Event::Installed { policy: policy() });
        let Action::Save(saved) = &actions[0] else { panic!("{actions:?}") };
        assert!(
            matches!(&saved.update, Some(UpdateRecord { stage: Stage::Testing { starts: s, .. }, .. }) if *s == starts)
        );
        state = recover(saved.clone(), None).0;
    }
    let events = [Event::Served, Event::Desired(offer(2, 1)), resolved(), Event::Fetched];
    let (state, _) = run(state, events.into_iter().chain([Event::Installed { policy: policy() }]));
    assert_eq!(kind(&state), Some(ReasonKind::Crashed));
}

#[test]
fn probation_goes_on_after_a_restart_until_it_crashed_too_often() {
    let candidate = installed(2).bundle;
    for (stopped, crashes, expected) in
        [(true, 0, Some(0)), (false, 0, Some(1)), (true, 1, Some(1)), (false, 1, None)]
    {
        let stage = Stage::Probation { candidate, crashes, stopped };
        let (state, actions) = recover(record(stage), Some(policy()));
        let Some(expected) = expected else {
            assert_eq!(kind(&state), Some(ReasonKind::Crashed));
            assert_eq!(actions[1], Action::Run(Work::Serve { bundle: installed(1).bundle, fallback: None }));
            continue;
        };
        assert!(matches!(state, State::Switching { crashes, resumed: true, .. } if crashes == expected));
        let fallback = Some(installed(1).bundle);
        assert_eq!(actions[1], Action::Run(Work::Serve { bundle: candidate, fallback }));
    }
    let gone = recover(record(Stage::Probation { candidate, crashes: 0, stopped: false }), None).0;
    assert_eq!(kind(&gone), Some(ReasonKind::Disk));
}

#[test]
fn an_orderly_stop_is_not_held_against_the_candidate() {
    let (_, actions) = step(in_probation(), Event::Stop);
    let Action::Save(record) = &actions[1] else { panic!("{actions:?}") };
    let (state, _) = recover(record.clone(), Some(policy()));
    assert!(matches!(state, State::Switching { crashes: 0, .. }));
}

#[test]
fn a_version_that_cannot_serve_any_more_gives_way_to_the_one_before() {
    let (state, _) = recover(confirmed().record(None), None);
    let (state, actions) = step(state, Event::Failed(Failure::Final(reason(ReasonKind::Load))));
    assert_eq!(actions[1], Action::Run(Work::Serve { bundle: installed(0).bundle, fallback: None }));
    assert_eq!(kind(&state), Some(ReasonKind::Load));
    let (state, actions) = step(state, Event::Failed(Failure::Final(reason(ReasonKind::Memory))));
    let State::Idle { confirmed, .. } = &state else { panic!("{state:?}") };
    assert_eq!(confirmed.active, Some(installed(0)), "the next start tries it again");
    assert_eq!((kind(&state), actions), (Some(ReasonKind::Memory), vec![]));
}

#[test]
fn events_that_mean_nothing_change_nothing() {
    let all = || {
        ok_path().into_iter().skip(1).chain([
            Event::RetryDue,
            Event::Progressed { done_bytes: 1, total_bytes: 2 },
            Event::SaveFailed(reason(ReasonKind::Disk)),
            Event::Failed(Failure::Later(reason(ReasonKind::Network))),
            Event::Stop,
        ])
    };
    for event in all() {
        assert_eq!(step(idle(), event.clone()), (idle(), vec![]), "{event:?}");
    }
}

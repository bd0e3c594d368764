//! Every operation of every kind of update, refused by the disk: once with an error, and from there on because it is full or
//! has become read-only.

use whimbrel_sim::{disk::Refusal, refusals::try_every_refusal, scenario::Scenario};

/// Until the disk recovers.
const ALL: u64 = u64::MAX;

fn tried(how: Refusal, count: u64) {
    let mut violations = Vec::new();
    for make in Scenario::ALL {
        let scenario = make();
        let refused = try_every_refusal(&scenario, how, count);
        println!("{}, {how:?}: {} operations refused", scenario.name, refused.points);
        assert!(refused.points > 10, "{}: only {} operations", scenario.name, refused.points);
        violations.extend(refused.violations);
    }
    let shown: Vec<_> = violations.iter().take(8).collect();
    assert!(shown.is_empty(), "{} violations, the first: {shown:#?}", violations.len());
}

#[test]
fn one_error_at_any_operation_breaks_nothing() {
    tried(Refusal::Io, 1);
}

#[test]
fn a_disk_that_is_full_from_any_operation_on_breaks_nothing() {
    tried(Refusal::Full, ALL);
}

#[test]
fn a_disk_that_is_read_only_from_any_operation_on_breaks_nothing() {
    tried(Refusal::ReadOnly, ALL);
}

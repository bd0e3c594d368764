//! A simulator that finds nothing proves nothing: each way of being careless with the disk must be found, in each place
//! where it matters.

use std::collections::BTreeSet;
use whimbrel_sim::{
    cuts::{Effort, try_every_cut},
    device::simulate,
    disk::{Carelessness, Forgotten},
    scenario::{Play, Scenario},
};

/// Tries a scenario with something forgotten below a folder; what is found must break the expected invariant.
fn found(scenario: &Scenario, forgotten: Forgotten, within: &'static str, expected: &'static str) {
    let effort = Effort { mixtures: 2, second_cuts: 0, until: Some(expected) };
    let tried = try_every_cut(scenario, effort, Some(Carelessness { forgotten, within }));
    let violations = tried.violations;
    assert!(
        violations.iter().any(|v| v.contains(expected)),
        "{}: {forgotten:?} in {within:?} never broke {expected:?}: {violations:#?}",
        tried.name
    );
}

#[test]
fn the_same_update_does_the_same_operations_in_the_same_order() {
    let fingerprints: BTreeSet<u64> = (0..5)
        .map(|_| {
            let scenario = Scenario::garbage_collection();
            let mut play = Play::new(&scenario);
            simulate(play.go_on()).expect("nothing disturbs it");
            play.device.disk.fingerprint()
        })
        .collect();
    assert_eq!(fingerprints.len(), 1);
}

#[test]
fn a_file_that_is_not_synced_before_it_is_renamed_is_found() {
    found(&Scenario::update(), Forgotten::FileSync, "/journal/", "broken: m");
    found(&Scenario::update(), Forgotten::FileSync, "/trust/", "trust: ");
    found(&Scenario::floor_raise(), Forgotten::FileSync, "/trust/.floors", "trust: ");
    found(&Scenario::first_install(), Forgotten::FileSync, "/models/", "unverified: ");
}

#[test]
fn a_folder_that_is_not_synced_is_found() {
    found(&Scenario::first_install(), Forgotten::FolderSync, "/journal", "old or new: None serves");
    found(&Scenario::first_install(), Forgotten::FolderSync, "/models", "old or new: None serves");
    found(&Scenario::first_install(), Forgotten::FolderSync, "/golden", "old or new: None serves");
    found(&Scenario::floor_raise(), Forgotten::FolderSync, "/trust", "trust: found");
    found(&Scenario::key_rotation(), Forgotten::FolderSync, "/trust", "trust: ");
}

#[test]
fn a_file_that_is_overwritten_in_place_is_found() {
    found(&Scenario::update(), Forgotten::AtomicReplace, "/journal/", "broken: m");
    found(&Scenario::update(), Forgotten::AtomicReplace, "/trust/", "trust: ");
}

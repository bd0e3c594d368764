//! Every moment of every kind of update, with the power cut at it.

use whimbrel_sim::{
    cuts::{Effort, Tried, try_every_cut},
    scenario::Scenario,
};

const EFFORT: Effort = Effort { mixtures: 4, second_cuts: 30, until: None };

fn tried(scenario: &Scenario) -> Tried {
    let tried = try_every_cut(scenario, EFFORT, None);
    println!("{}: {} cut points, {} runs", tried.name, tried.cut_points, tried.runs);
    let shown: Vec<_> = tried.violations.iter().take(5).collect();
    assert!(shown.is_empty(), "{} violations, the first: {shown:#?}", tried.violations.len());
    assert!(tried.cut_points > 10, "{}: only {} cut points", tried.name, tried.cut_points);
    tried
}

#[test]
fn a_first_install_survives_a_cut_at_every_point() {
    tried(&Scenario::first_install());
}

#[test]
fn an_update_survives_a_cut_at_every_point() {
    tried(&Scenario::update());
}

#[test]
fn a_rollback_survives_a_cut_at_every_point() {
    tried(&Scenario::rollback());
}

#[test]
fn a_rejection_survives_a_cut_at_every_point() {
    tried(&Scenario::rejection());
}

#[test]
fn a_garbage_collection_survives_a_cut_at_every_point() {
    tried(&Scenario::garbage_collection());
}

#[test]
fn a_key_rotation_survives_a_cut_at_every_point() {
    tried(&Scenario::key_rotation());
}

#[test]
fn a_raised_floor_survives_a_cut_at_every_point() {
    tried(&Scenario::floor_raise());
}

#[test]
fn a_first_version_taken_back_survives_a_cut_at_every_point() {
    tried(&Scenario::first_version_taken_back());
}

#[test]
fn a_change_of_mind_in_probation_survives_a_cut_at_every_point() {
    tried(&Scenario::superseded_in_probation());
}

#[test]
fn an_orderly_stop_survives_a_cut_at_every_point() {
    tried(&Scenario::orderly_stop());
}

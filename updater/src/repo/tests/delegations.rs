//! Delegated roles, and the snapshot that names them.

use super::*;
use crate::tuf::{Downgrade, Scope, Signed};

fn delegation(name: &str, seeds: &[u8], threshold: u64, scope: Scope) -> Delegation {
    Delegation { name: name.into(), signers: role(seeds, threshold), terminating: false, scope }
}

fn paths(patterns: &[&str]) -> Scope {
    Scope::Paths(patterns.iter().map(|p| (*p).to_owned()).collect())
}

fn delegating(old: &[u8], delegate: Vec<Delegation>, undelegate: &[&str]) -> Result<Vec<u8>, RepoError> {
    let undelegate = undelegate.iter().map(|name| (*name).to_owned()).collect();
    next_targets(old, &TargetsEdit { delegate, undelegate, ..TargetsEdit::default() }, LATER)
}

#[test]
fn delegations_keep_their_order_and_come_back_as_they_were_made() {
    let repo = Repo::new();
    let prefixes = Scope::HashPrefixes(vec!["0".into(), "1a".into()]);
    let first = Delegation { terminating: true, ..delegation("vision/eu", &[6, 7], 2, paths(&["vision/*"])) };
    let second = delegation("bin", &[7], 1, prefixes);
    let made = delegating(&repo.targets, vec![first.clone(), second.clone()], &[]).expect("makes");
    assert_eq!(Delegation::read_all(&made).expect("reads"), [first, second.clone()]);

    let replaced = delegation("vision/eu", &[8], 1, paths(&["vision/*", "eu/*"]));
    let made = delegating(&made, vec![replaced.clone()], &[]).expect("makes");
    assert_eq!(Delegation::read_all(&made).expect("reads"), [replaced, second.clone()], "in its place");
    let value: Value = serde_json::from_slice(&made).expect("JSON");
    let keys = value["signed"]["delegations"]["keys"].as_object().expect("an object");
    assert_eq!(keys.len(), 2, "keys that no role uses are dropped");

    let made = delegating(&made, vec![], &["vision/eu"]).expect("makes");
    assert_eq!(Delegation::read_all(&made).expect("reads"), [second]);
    let made = delegating(&made, vec![], &["bin"]).expect("makes");
    let value: Value = serde_json::from_slice(&made).expect("JSON");
    assert!(value["signed"].get("delegations").is_none(), "nothing is left to delegate");
    assert!(delegating(&made, vec![], &["bin"]).is_err(), "it is gone already");
}

#[test]
fn delegations_that_break_a_rule_are_refused() {
    let repo = Repo::new();
    let hash = |prefix: &str| Scope::HashPrefixes(vec![prefix.into()]);
    for bad in [
        delegation("targets", &[6], 1, paths(&["*"])),
        delegation("", &[6], 1, paths(&["*"])),
        delegation("a", &[6], 2, paths(&["*"])),
        delegation("a", &[6, 6], 1, paths(&["*"])),
        delegation("a", &[], 0, paths(&["*"])),
        delegation("a", &[6], 1, paths(&[])),
        delegation("a", &[6], 1, paths(&[""])),
        delegation("a", &[6], 1, hash("")),
        delegation("a", &[6], 1, hash("AB")),
        delegation("a", &[6], 1, hash("xy")),
        delegation("a", &[6], 1, hash(&"0".repeat(65))),
    ] {
        assert!(delegating(&repo.targets, vec![bad.clone()], &[]).is_err(), "{bad:?}");
    }
}

#[test]
fn delegated_metadata_is_taken_over_with_its_delegators_keys_only() {
    let repo = Repo::new();
    let made = delegating(&repo.targets, vec![delegation("eu", &[6, 7], 2, paths(&["eu/*"]))], &[]);
    let delegator = made.expect("makes");
    let first = new_targets(LATER).expect("makes");
    let once = sign(&first, &key(6)).expect("signs");
    let refused = check_delegated(&delegator, "eu", None, &once).expect_err("one of two");
    assert!(matches!(refused, RepoError::Tuf(TufError::Signature { valid: 1, threshold: 2, .. })));
    let release = sign(&once, &key(3)).expect("signs");
    assert!(check_delegated(&delegator, "eu", None, &release).is_err(), "a release key is none of its keys");
    let both = sign(&once, &key(7)).expect("signs");
    check_delegated(&delegator, "eu", None, &both).expect("good");
    assert!(check_delegated(&delegator, "us", None, &both).is_err(), "nobody delegates to it");
    assert!(check_delegated(&delegator, "eu", Some(&both), &both).is_err(), "not a version on");

    let next = next_targets(&both, &TargetsEdit::default(), LATER).expect("makes");
    let next = sign(&sign(&next, &key(6)).expect("signs"), &key(7)).expect("signs");
    assert_eq!(check_delegated(&delegator, "eu", Some(&both), &next).expect("good").version, 2);
}

#[test]
fn a_snapshot_names_every_role_and_forgets_none() {
    let repo = Repo::new();
    let eu = sign(&new_targets(LATER).expect("makes"), &key(6)).expect("signs");
    let named = [NamedRole { role: "eu/a", metadata: &eu }];
    let made = next_snapshot(Some(&repo.snapshot), &named, LATER).expect("makes");
    let later = snapshot(Some(&made), &repo.targets, &key(5), LATER).expect("signs");
    let value: Value = serde_json::from_slice(&later).expect("JSON");
    let meta = &value["signed"]["meta"];
    assert_eq!(meta["eu/a.json"]["version"], 1, "the name is not encoded here");
    assert_eq!(meta["eu/a.json"]["length"], eu.len());
    assert_eq!(meta["targets.json"]["version"], 1);
    assert_eq!(value["signed"]["version"], 3);
}

#[test]
fn a_timestamp_says_when_it_was_signed_and_keeps_what_else_it_says() {
    let repo = Repo::new();
    let old = forge(&repo.timestamp, |signed| signed["custom"]["other"] = json!(1), &[key(5)]);
    let made = timestamp(Some(&old), &repo.snapshot, &key(5), NOW, LATER).expect("signs");
    let value: Value = serde_json::from_slice(&made).expect("JSON");
    let custom = json!({"other": 1, "whimbrel": {"signed_at": "2030-01-01T00:00:00Z"}});
    assert_eq!(value["signed"]["custom"], custom);
}

#[test]
fn downgrades_are_numbered_without_gaps_and_set_the_floor() {
    let repo = Repo::new();
    let model: whimbrel_wire::ModelName = "m".parse().expect("a name");
    let lower = |old: &[u8], number, floor: &str| {
        let statement = Downgrade { number, floor: floor.parse().expect("a version") };
        let edit = TargetsEdit { downgrades: [(model.clone(), statement)].into(), ..TargetsEdit::default() };
        next_targets(old, &edit, LATER)
    };
    assert!(lower(&repo.targets, 2, "1.0.0").is_err(), "the first is number 1");
    assert!(lower(&repo.targets, 0, "1.0.0").is_err());
    let one = lower(&repo.targets, 1, "1.0.0").expect("makes");
    assert!(lower(&one, 1, "0.9.0").is_err(), "stated already");
    let two = lower(&one, 2, "0.9.0").expect("makes");
    let read = Signed::<Targets>::parse(&two).expect("reads");
    assert_eq!(read.body().downgrades[&model].number, 2);
    let value: Value = serde_json::from_slice(&two).expect("JSON");
    let own = &value["signed"]["custom"]["whimbrel"];
    assert_eq!(own["downgrades"], json!({"m": {"number": 2, "floor": "0.9.0"}}));
    assert_eq!(own["floors"], json!({"m": "0.9.0"}));
}

#[test]
fn an_unpublished_draft_is_changed_without_a_new_version() {
    let repo = Repo::new();
    let draft = next_targets(&repo.targets, &TargetsEdit::default(), NOW).expect("makes");
    let edit =
        TargetsEdit { delegate: vec![delegation("eu", &[6], 1, paths(&["eu/*"]))], ..TargetsEdit::default() };
    let amended = amend_targets(&sign(&draft, &key(3)).expect("signs"), &edit, LATER).expect("makes");
    let value: Value = serde_json::from_slice(&amended).expect("JSON");
    assert_eq!((&value["signed"]["version"], &value["signatures"]), (&json!(2), &json!([])));
    let spec = RootSpec { targets: role(&[9], 1), ..repo.spec.clone() };
    let root = amend_root(&next_root(&repo.root, &repo.spec, LATER).expect("makes"), &spec, LATER);
    let root = root.expect("makes");
    assert_eq!(RootSpec::read(&root).expect("reads"), spec);
    let value: Value = serde_json::from_slice(&root).expect("JSON");
    assert_eq!(value["signed"]["version"], 2);
}

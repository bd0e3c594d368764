//! What is made is what clients accept, and what breaks a rule is not made.

mod delegations;

use super::*;
use crate::{
    testing::{LATER, NOW, Repo, forge, key, role},
    tuf::{Root, Targets, TufError},
};
use serde_json::{Value, json};

#[test]
fn several_operators_sign_one_after_another() {
    let repo = Repo::new();
    let unsigned = new_root(&repo.spec, LATER).expect("makes");
    let at = |bytes: &[u8]| standing::<Root>(bytes, bytes).expect("a root");
    assert_eq!((at(&unsigned).valid, at(&unsigned).threshold), (0, 2));
    let once = sign(&unsigned, &key(1)).expect("signs");
    let again = sign(&once, &key(1)).expect("signs");
    assert_eq!(again, once, "signing again replaces the signature");
    assert!(check_root(None, &once).is_err());
    let both = sign(&once, &key(2)).expect("signs");
    assert!(at(&both).is_met());
    assert_eq!(check_root(None, &both).expect("good").version, 1);
}

#[test]
fn roots_are_taken_over_in_order_only() {
    let mut repo = Repo::new();
    let first = repo.root.clone();
    repo.rotate(repo.spec.clone(), &[1, 2]);
    let second = repo.root.clone();
    repo.rotate(repo.spec.clone(), &[1, 2]);
    assert_eq!(check_root(Some(&first), &second).expect("good").version, 2);
    assert!(check_root(Some(&first), &repo.root).is_err());
    assert!(check_root(Some(&second), &first).is_err());
    assert!(check_root(None, &second).is_err());
}

#[test]
fn targets_are_taken_over_in_order_and_with_signatures_only() {
    let mut repo = Repo::new();
    let first = repo.targets.clone();
    repo.set_floor("m", "1.2.0");
    let second = repo.targets.clone();
    assert_eq!(check_targets(&repo.root, None, &first).expect("good").version, 1);
    let taken = check_targets(&repo.root, Some(&first), &second).expect("good");
    assert_eq!(taken.floors.len(), 1);
    assert!(check_targets(&repo.root, None, &second).is_err());
    assert!(matches!(check_targets(&repo.root, Some(&second), &first), Err(TufError::Replayed { .. })));
    let foreign = forge(&second, |_| {}, &[key(5)]);
    assert!(matches!(check_targets(&repo.root, Some(&first), &foreign), Err(TufError::Signature { .. })));
    assert!(standing::<Targets>(&repo.root, &second).expect("targets").is_met());
}

#[test]
fn targets_come_and_go_and_unknown_fields_stay() {
    let repo = Repo::new();
    let old = forge(&repo.targets, |signed| signed["custom"] = json!({"other": 1}), &[key(3)]);
    let target = NewTarget {
        path: "m/1.0.0.wbi".into(),
        length_bytes: 3,
        sha256: crate::hash::sha256(b"abc"),
        custom: Value::Null,
    };
    let floors = [("m".parse().expect("a name"), "1.0.0".parse().expect("a version"))].into();
    let edit = TargetsEdit { add: vec![target], floors, ..TargetsEdit::default() };
    let next = next_targets(&old, &edit, LATER).expect("makes");
    let value: Value = serde_json::from_slice(&next).expect("JSON");
    assert_eq!(value["signed"]["custom"], json!({"other": 1, "whimbrel": {"floors": {"m": "1.0.0"}}}));
    assert_eq!(value["signed"]["version"], 2);
    assert_eq!(value["signatures"], json!([]));
    let gone = TargetsEdit { remove: vec!["m/1.0.0.wbi".into()], ..TargetsEdit::default() };
    let after = next_targets(&next, &gone, LATER).expect("makes");
    assert!(next_targets(&after, &gone, LATER).is_err(), "it is gone already");
}

#[test]
fn thresholds_that_nobody_can_meet_are_refused() {
    let repo = Repo::new();
    for bad in [role(&[1], 2), role(&[1], 0), role(&[1, 1], 1)] {
        let spec = RootSpec { targets: bad, ..repo.spec.clone() };
        assert!(new_root(&spec, NOW).is_err());
    }
    assert_eq!(RootSpec::read(&repo.root).expect("a root").root.threshold, 2);
}

#[test]
fn only_metadata_is_signed() {
    for bad in [&b"{}"[..], b"hello", b"{\"signed\":{\"_type\":\"other\"},\"signatures\":[]}"] {
        assert!(sign(bad, &key(1)).is_err());
    }
}

//! Repositories that python-tuf made, read by our client. Its own client runs beside ours on each, so that a scenario that is
//! not what it should be is seen.

#![allow(clippy::expect_used, reason = "a test fails by a panic that says why")]

use std::{fs, path::Path};
use whimbrel_tests::{Client, Kind, Served, python, run, script};

/// What a client is to make of one state of a repository.
enum Expect {
    /// It downloads these targets; each is given as the content that `generate.py` gave it: its name and a number.
    Gets(&'static [&'static str]),
    /// It does not get this target, and says so in these words.
    Refuses(&'static str, &'static str),
    /// So does our client; python-tuf's is known not to.
    OursRefuses(&'static str, &'static str),
}
use Expect::{Gets, OursRefuses, Refuses};

/// A function of `generate.py`, and what is to come of its states, one after another.
type Scenario = (&'static str, &'static [Expect]);

const PLAIN: &[Expect] =
    &[Gets(&["a.txt 0", "dir/b.txt 0"]), Gets(&["a.txt 0", "dir/b.txt 0", "dir/c.txt 1"])];
const ODD: &[Expect] =
    &[Gets(&["0.txt 0", "1.txt 0", "2.txt 0", "3.txt 0", "4.txt 0", "5.txt 0", "6.txt 0", "7.txt 0"])];

const GOOD: &[Scenario] = &[
    ("ed25519", PLAIN),
    ("ecdsa", PLAIN),
    ("rsa", PLAIN),
    ("inconsistent", PLAIN),
    ("sha512", PLAIN),
    ("both_hashes", PLAIN),
    ("bins", &[Gets(&["a.txt 0", "dir/b.txt 0", "c.txt 0"])]),
    ("order", &[Gets(&["a.txt 0"])]),
    ("odd_names", ODD),
    ("odd_names_inconsistent", ODD),
    ("threshold_met", &[Gets(&["a.txt 0"])]),
    (
        "rotation",
        &[Gets(&["a.txt 0"]), Gets(&["a.txt 1"]), Gets(&["a.txt 2"]), Gets(&["a.txt 3"]), Gets(&["a.txt 4"])],
    ),
];

const BAD: &[Scenario] = &[
    ("delegations", &[Gets(&["team/m-1.txt 0"]), Refuses("team/sub/m-2.txt", "no such target")]),
    ("terminating", &[Gets(&["a.txt 0"]), Refuses("kept/b.txt", "no such target")]),
    ("threshold_missed", &[Refuses("a.txt", "signed by 1 of its keys, 2 are needed")]),
    ("delegated_threshold_missed", &[Refuses("a.txt", "signed by 1 of its keys, 2 are needed")]),
    ("rotation_by_strangers", &[Gets(&["a.txt 0"]), Refuses("a.txt", "signed by 0 of its keys")]),
    ("changed_delegation", &[Gets(&["a.txt 0"]), Refuses("a.txt", "signed by 0 of its keys")]),
    ("cached_delegation", &[Gets(&["a.txt 0"]), OursRefuses("a.txt", "signed by 0 of its keys")]),
    ("expired_timestamp", &[Refuses("a.txt", "check timestamp metadata: it expired")]),
    ("expired_snapshot", &[Refuses("a.txt", "check snapshot metadata: it expired")]),
    ("expired_targets", &[Refuses("a.txt", "check targets metadata: it expired")]),
    ("expired_delegated", &[Refuses("a.txt", "it expired")]),
    (
        "rolled_back_timestamp",
        &[Gets(&["a.txt 0"]), Refuses("a.txt", "version 1 is offered, version 2 is trusted")],
    ),
    (
        "rolled_back_snapshot",
        &[Gets(&["a.txt 0"]), Refuses("a.txt", "version 1 is offered, version 2 is trusted")],
    ),
    (
        "rolled_back_targets",
        &[Gets(&["a.txt 0"]), Refuses("a.txt", "version 1 is offered, version 2 is trusted")],
    ),
    ("wrong_target", &[Refuses("a.txt", "its hash is not the signed one")]),
    ("mixed_versions", &[Refuses("a.txt", "targets")]),
];

#[test]
fn repositories_that_python_tuf_made_are_read_by_both_clients() {
    GOOD.iter().for_each(play);
}

#[test]
fn what_is_wrong_in_them_is_refused_by_both_clients() {
    BAD.iter().for_each(play);
}

fn play((name, states): &Scenario) {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let repository = dir.path().join("repository");
    let made = run(&python(), [script("generate.py").as_os_str(), name.as_ref(), repository.as_os_str()]);
    drop(made.ok());
    let served = Served::start(&repository);
    for kind in [Kind::Ours, Kind::Python] {
        let client = Client::new(kind, &dir.path().join(format!("{kind:?}")), &repository.join("root.json"));
        for (number, expect) in states.iter().enumerate() {
            // Where two things are expected of one state, it is asked twice.
            let state = if repository.join(number.to_string()).exists() { number } else { number - 1 };
            check(name, kind, &client, &served, state, expect);
        }
    }
}

fn check(name: &str, kind: Kind, client: &Client, served: &Served, state: usize, expect: &Expect) {
    let (metadata, targets) = (format!("{state}/metadata"), format!("{state}/targets"));
    let ask = |names: &[&str]| client.download(&served.url(&metadata), &served.url(&targets), names);
    match expect {
        Gets(contents) => {
            let names: Vec<&str> =
                contents.iter().map(|c| c.rsplit_once(' ').expect("name and number").0).collect();
            let done = ask(&names);
            assert_eq!(done.code, Some(0), "{name} {state} {kind:?}: {}", done.stderr);
            for (target, content) in names.iter().zip(*contents) {
                assert_eq!(
                    client.downloaded(target),
                    content.as_bytes(),
                    "{name} {state} {kind:?}: {target}"
                );
            }
        }
        OursRefuses(..) if kind == Kind::Python => {}
        Refuses(target, why) | OursRefuses(target, why) => {
            let done = ask(&[target]);
            assert_eq!(done.code, Some(1), "{name} {state} {kind:?}: {}", done.stderr);
            // python-tuf has its own words.
            let said = kind == Kind::Python || done.stderr.contains(why);
            assert!(said, "{name} {state}: {}", done.stderr);
        }
    }
}

#[test]
fn every_scenario_of_the_generator_is_played() {
    let text = fs::read_to_string(script("generate.py")).expect("readable");
    let made = text.lines().filter_map(|line| line.strip_prefix("def ")?.strip_suffix("(out):"));
    for scenario in made {
        let played = GOOD.iter().chain(BAD).any(|(name, _)| *name == scenario);
        assert!(played, "{scenario} of {} is not in the table", Path::new("generate.py").display());
    }
}

//! Delegated roles through a fleet server: pushed from one operator's folder, pulled into another's, read by our client.

#![allow(clippy::expect_used, reason = "a test fails by a panic that says why")]

use serde_json::Value;
use std::{fs, path::Path};
use whimbrel_tests::{Fleet, Operator, binary, examples, run};

const ODD: &str = "digits/eu #1";

#[test]
fn a_delegated_role_goes_from_one_folder_over_the_server_to_clients() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let fleet = Fleet::start(dir.path());
    let operator = Operator::new(dir.path(), &fleet);
    let [repo, release, team] = ["repo", "targets.pem", "team.pem"].map(|f| operator.path(f));
    drop(operator.call(&["key", "generate", "--out", &team]).ok());
    let delegate = ["repo", "delegate", ODD, "--path", "digits/*", "--role-key", &team];
    drop(operator.call(&[&delegate[..], &["--repo", &repo, "--key", &release]].concat()).ok());
    let one = operator.pack(&examples().join("digits/v1"), "one.wbundle");
    let add = |archive: &str| {
        operator.call(&["repo", "add", archive, "--role", ODD, "--repo", &repo, "--key", &team])
    };
    drop(add(&one).ok());
    let pushed = operator.json(&["repo", "push", "--repo", &repo]);
    assert_eq!(pushed["files"], serde_json::json!(["1.targets.json", "1.digits%2Feu%20%231.json"]));
    assert!(pushed["chunks"].as_u64() > Some(0), "{pushed}");
    let again = operator.json(&["repo", "push", "--repo", &repo]);
    assert_eq!((&again["files"], &again["chunks"]), (&serde_json::json!([]), &serde_json::json!(0)));

    // The next version by `model publish`, which signs, uploads and embeds the metadata.
    let two = operator.pack(&examples().join("digits/v2"), "two.wbundle");
    let publish = ["model", "publish", &two, "--repo", &repo, "--role", ODD, "--targets-key", &team];
    drop(operator.call(&publish).ok());
    let root = operator.path("repo/1.root.json");
    assert_eq!(operator.call(&["bundle", "verify", &two, "--root", &root]).code, Some(0), "offline");

    // A colleague who has the root and nothing else.
    let theirs = operator.path("theirs");
    fs::create_dir(&theirs).expect("a folder");
    fs::copy(&root, Path::new(&theirs).join("1.root.json")).expect("copied");
    drop(operator.call(&["repo", "pull", "--repo", &theirs]).ok());
    let status = operator.json(&["repo", "status", "--repo", &theirs]);
    let roles: Vec<&Value> = status["roles"].as_array().expect("a list").iter().collect();
    assert_eq!((&roles[4]["role"], &roles[4]["version"]), (&ODD.into(), &2.into()));
    assert_eq!(status["next"], serde_json::json!([]));

    let (trust, downloads) = (operator.path("trust"), operator.path("downloads"));
    drop(run(&binary("whimbrel-update"), ["--metadata-dir", &trust, "init", &root]).ok());
    let (metadata, targets) = (format!("{}/tuf", fleet.https), format!("{}/tuf/targets", fleet.https));
    let ca = fleet.state.join("ca.pem").display().to_string();
    let place = ["--metadata-dir", &trust, "--metadata-url", &metadata, "--ca", &ca];
    let names = ["--target-name", "digits/1.0.0.wbi", "--target-name", "digits/2.0.0.wbi"];
    let what = ["--target-base-url", &targets, "--target-dir", &downloads, "download"];
    drop(run(&binary("whimbrel-update"), [&place[..], &names, &what].concat()).ok());
}

#[test]
fn no_key_of_an_operator_ever_lies_on_the_server() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let fleet = Fleet::start(dir.path());
    let operator = Operator::new(dir.path(), &fleet);
    let one = operator.pack(&examples().join("digits/v1"), "one.wbundle");
    operator.publish(&one);
    let secrets: Vec<String> = ["root-1.pem", "root-2.pem", "targets.pem"]
        .iter()
        .map(|file| {
            let pem = fs::read_to_string(operator.path(file)).expect("readable");
            pem.lines().find(|line| !line.starts_with('-')).expect("a line of the key").to_owned()
        })
        .collect();
    let mut ahead = vec![fleet.state.clone()];
    while let Some(folder) = ahead.pop() {
        for entry in fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                ahead.push(path);
                continue;
            }
            let text = String::from_utf8_lossy(&fs::read(&path).expect("readable")).into_owned();
            assert!(secrets.iter().all(|secret| !text.contains(secret)), "{}", path.display());
        }
    }
}

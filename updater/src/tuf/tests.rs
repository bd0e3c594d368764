//! Each attack that the client workflow must withstand, as a test of its own.

mod delegations;
mod interop;
mod keys;
mod own;

use super::*;
use crate::{
    disk::{Disk, Files},
    repo::{self, RootSpec, sign},
    testing::{LATER, NOW, Repo, Server, forge, key, role},
    transport::TransportError,
};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Mutex;
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};
use whimbrel_wire::report::ReasonKind;

struct Device {
    dir: TempDir,
    trust: Trust,
}

impl Device {
    fn new(repo: &Repo) -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let trust = Trust::init(&dir.path().join("trust"), &repo.root).expect("a good root");
        Self { dir, trust }
    }

    async fn refreshed(repo: &Repo) -> Self {
        let mut device = Self::new(repo);
        device.refresh(repo).await.expect("refreshes");
        device
    }

    async fn refresh(&mut self, repo: &Repo) -> Result<(), TufError> {
        self.refresh_at(repo, NOW).await
    }

    async fn refresh_at(&mut self, repo: &Repo, now: OffsetDateTime) -> Result<(), TufError> {
        self.trust.refresh(&repo.server, now).await
    }

    fn reopen(self) -> Result<Self, TufError> {
        let trust = Trust::open(&self.dir.path().join("trust"))?;
        Ok(Self { trust, ..self })
    }

    fn versions(&self) -> [u64; 4] {
        let trusted = self.trust.trusted();
        [
            trusted.root().body().version,
            trusted.timestamp().map_or(0, |t| t.body().version),
            trusted.snapshot().map_or(0, |s| s.body().version),
            trusted.targets().map_or(0, |t| t.body().version),
        ]
    }
}

fn kind(result: Result<(), TufError>) -> ReasonKind {
    result.expect_err("refused").reason().kind
}

fn put(repo: &Repo, file: &str, bytes: &[u8]) {
    repo.server.lock().metadata.insert(file.into(), bytes.to_vec());
}

/// The root spec of [`Repo::new`] with other online keys.
fn online(spec: &RootSpec, seed: u8) -> RootSpec {
    RootSpec { snapshot: role(&[seed], 1), timestamp: role(&[seed], 1), ..spec.clone() }
}

/// Makes the timestamp name whatever snapshot is current, without hash and length.
fn unhashed_timestamp(repo: &Repo, version: u64, snapshot_version: u64) -> Vec<u8> {
    let edit = |signed: &mut Value| {
        signed["version"] = json!(version);
        signed["meta"]["snapshot.json"] = json!({"version": snapshot_version});
    };
    forge(&repo.timestamp, edit, &[key(5)])
}

fn unhashed_snapshot(repo: &Repo, version: u64, targets_version: u64) -> Vec<u8> {
    let edit = |signed: &mut Value| {
        signed["version"] = json!(version);
        signed["meta"]["targets.json"] = json!({"version": targets_version});
    };
    forge(&repo.snapshot, edit, &[key(5)])
}

#[tokio::test]
async fn everything_good_is_accepted_and_comes_back_after_a_restart() {
    let mut repo = Repo::new();
    let mut device = Device::refreshed(&repo).await;
    assert_eq!(device.versions(), [1, 1, 1, 1]);
    repo.publish(NOW);
    device.refresh(&repo).await.expect("refreshes");
    assert_eq!(device.versions(), [1, 2, 2, 1]);
    let device = device.reopen().expect("opens");
    assert_eq!(device.versions(), [1, 2, 2, 1]);
    let file = Files.read(&device.dir.path().join("trust/timestamp.json"), 1 << 20).expect("reads");
    assert_eq!(file.as_deref(), Some(&repo.timestamp[..]), "kept byte for byte");
}

#[tokio::test]
async fn nothing_is_fetched_twice() {
    let repo = Repo::new();
    let mut device = Device::refreshed(&repo).await;
    repo.server.lock().log.clear();
    device.refresh(&repo).await.expect("refreshes");
    assert_eq!(repo.server.lock().log, ["2.root.json", "timestamp.json"]);
}

#[test]
fn a_first_root_signed_by_too_few_is_refused() {
    let dir = tempfile::tempdir().expect("temp dir");
    let repo = Repo::new();
    let one = forge(&repo.root, |_| {}, &[key(1)]);
    assert_eq!(kind(Trust::init(dir.path(), &one).map(drop)), ReasonKind::Signature);
    assert!(Trust::open(dir.path()).is_err(), "nothing was written");
}

#[tokio::test]
async fn a_new_root_needs_the_old_keys_and_its_own() {
    for (signers, by) in [(&[1, 2, 8][..], "its own"), (&[1, 8, 9], "the old"), (&[8, 9], "the old")] {
        let mut repo = Repo::new();
        let mut device = Device::refreshed(&repo).await;
        let spec = RootSpec { root: role(&[8, 9], 2), ..repo.spec.clone() };
        repo.rotate(spec, signers);
        assert_eq!(kind(device.refresh(&repo).await), ReasonKind::Signature, "{by} keys were not asked for");
        assert_eq!(device.versions()[0], 1);
    }
    let mut repo = Repo::new();
    let mut device = Device::refreshed(&repo).await;
    let spec = RootSpec { root: role(&[8, 9], 2), ..repo.spec.clone() };
    repo.rotate(spec, &[1, 2, 8, 9]);
    device.refresh(&repo).await.expect("signed by both");
    assert_eq!(device.reopen().expect("opens").versions()[0], 2);
}

#[tokio::test]
async fn two_signatures_under_one_key_id_make_a_file_void() {
    let mut repo = Repo::new();
    let mut device = Device::refreshed(&repo).await;
    repo.rotate(repo.spec.clone(), &[1]);
    let mut value: Value = serde_json::from_slice(&repo.root).expect("JSON");
    let first = value["signatures"][0].clone();
    value["signatures"].as_array_mut().expect("a list").push(first);
    put(&repo, "2.root.json", &serde_json::to_vec(&value).expect("JSON"));
    assert_eq!(kind(device.refresh(&repo).await), ReasonKind::Malformed);
}

#[test]
fn one_key_under_two_ids_counts_once() {
    let repo = Repo::new();
    let twin = |signed: &mut Value| {
        let id = key(1).public().id().expect("an id");
        let twin = signed["keys"][&id].clone();
        signed["keys"]["twin"] = twin;
        signed["roles"]["root"]["keyids"] = json!([id, "twin"]);
    };
    let mut value: Value = serde_json::from_slice(&forge(&repo.root, twin, &[key(1)])).expect("JSON");
    let mut second = value["signatures"][0].clone();
    second["keyid"] = json!("twin");
    value["signatures"].as_array_mut().expect("a list").push(second);
    let root = serde_json::to_vec(&value).expect("JSON");
    assert!(matches!(Trusted::new(&root), Err(TufError::Signature { valid: 1, threshold: 2, .. })));
}

#[tokio::test]
async fn files_signed_by_the_wrong_key_are_refused() {
    for file in ["timestamp.json", "1.snapshot.json", "1.targets.json"] {
        let repo = Repo::new();
        // Hashes would give a changed file away before its signature does.
        let timestamp = unhashed_timestamp(&repo, 1, 1);
        put(&repo, "timestamp.json", &timestamp);
        let snapshot = unhashed_snapshot(&repo, 1, 1);
        put(&repo, "1.snapshot.json", &snapshot);
        Device::refreshed(&repo).await;
        let bytes = repo.server.lock().metadata[file].clone();
        put(&repo, file, &forge(&bytes, |_| {}, &[key(77)]));
        assert_eq!(kind(Device::new(&repo).refresh(&repo).await), ReasonKind::Signature, "{file}");
    }
}

#[tokio::test]
async fn a_changed_signed_part_is_refused() {
    let repo = Repo::new();
    let mut value: Value = serde_json::from_slice(&repo.timestamp).expect("JSON");
    value["signed"]["version"] = json!(9);
    put(&repo, "timestamp.json", &serde_json::to_vec(&value).expect("JSON"));
    assert_eq!(kind(Device::new(&repo).refresh(&repo).await), ReasonKind::Signature);
}

#[tokio::test]
async fn an_expired_root_is_refused_but_a_newer_one_heals_it() {
    let mut repo = Repo::new();
    let mut device = Device::new(&repo);
    let late = NOW + Duration::days(366);
    assert_eq!(kind(device.refresh_at(&repo, late).await), ReasonKind::Expired);
    let next = repo::next_root(&repo.root, &repo.spec, late + Duration::days(1)).expect("makes");
    repo.root = sign(&sign(&next, &key(1)).expect("signs"), &key(2)).expect("signs");
    let targets = repo::next_targets(&repo.targets, &Default::default(), late + Duration::days(1));
    repo.targets = sign(&targets.expect("makes"), &key(3)).expect("signs");
    repo.publish(late);
    device.refresh_at(&repo, late).await.expect("the chain ends in a root that has not expired");
}

#[tokio::test]
async fn an_expired_timestamp_is_refused_even_when_it_was_trusted_before() {
    let repo = Repo::new();
    assert_eq!(kind(Device::new(&repo).refresh_at(&repo, LATER).await), ReasonKind::Expired);
    let mut device = Device::refreshed(&repo).await;
    assert_eq!(kind(device.refresh_at(&repo, LATER).await), ReasonKind::Expired);
    device.reopen().expect("expired files still open, or a device could never come back");
}

#[tokio::test]
async fn an_expired_snapshot_is_refused() {
    let mut repo = Repo::new();
    repo.timestamp =
        repo::timestamp(Some(&repo.timestamp), &repo.snapshot, &key(5), NOW, LATER + Duration::days(1))
            .expect("signs");
    repo.upload();
    let mut device = Device::refreshed(&repo).await;
    for mut device in [Device::new(&repo), {
        device.refresh(&repo).await.expect("still good");
        device
    }] {
        let result = device.refresh_at(&repo, LATER).await;
        assert!(matches!(result, Err(TufError::Expired { role: RoleName::Snapshot, .. })), "{result:?}");
    }
}

#[tokio::test]
async fn expired_targets_are_refused() {
    let mut repo = Repo::new();
    let mut device = Device::refreshed(&repo).await;
    let late = NOW + Duration::days(91);
    repo.publish(late);
    let result = device.refresh_at(&repo, late).await;
    assert!(matches!(result, Err(TufError::Expired { role: RoleName::Targets, .. })), "{result:?}");
}

#[tokio::test]
async fn an_old_root_offered_as_the_next_is_refused() {
    let repo = Repo::new();
    let mut device = Device::refreshed(&repo).await;
    put(&repo, "2.root.json", &repo.root);
    assert_eq!(kind(device.refresh(&repo).await), ReasonKind::Replayed);
}

#[tokio::test]
async fn a_root_that_skips_a_version_is_refused() {
    let mut repo = Repo::new();
    let mut device = Device::refreshed(&repo).await;
    repo.rotate(repo.spec.clone(), &[1, 2]);
    repo.rotate(repo.spec.clone(), &[1, 2]);
    put(&repo, "2.root.json", &repo.root);
    assert_eq!(kind(device.refresh(&repo).await), ReasonKind::Inconsistent);
}

#[tokio::test]
async fn a_replayed_timestamp_is_refused_also_after_a_restart() {
    let mut repo = Repo::new();
    let old = repo.timestamp.clone();
    repo.publish(NOW);
    let mut device = Device::refreshed(&repo).await;
    put(&repo, "timestamp.json", &old);
    assert_eq!(kind(device.refresh(&repo).await), ReasonKind::Replayed);
    let mut device = device.reopen().expect("opens");
    assert_eq!(kind(device.refresh(&repo).await), ReasonKind::Replayed);
    assert_eq!(device.versions(), [1, 2, 2, 1]);
}

#[tokio::test]
async fn another_timestamp_of_the_same_version_changes_nothing() {
    let mut repo = Repo::new();
    let mut device = Device::refreshed(&repo).await;
    let kept = device.trust.trusted().timestamp().expect("there").bytes().to_vec();
    repo.publish(NOW);
    let same = forge(&repo.timestamp, |signed| signed["version"] = json!(1), &[key(5)]);
    put(&repo, "timestamp.json", &same);
    device.refresh(&repo).await.expect("nothing to do");
    assert_eq!(device.trust.trusted().timestamp().expect("there").bytes(), kept);
    assert_eq!(device.versions()[2], 1);
}

#[tokio::test]
async fn a_timestamp_that_names_an_older_snapshot_is_refused() {
    let mut repo = Repo::new();
    repo.publish(NOW);
    let mut device = Device::refreshed(&repo).await;
    put(&repo, "timestamp.json", &unhashed_timestamp(&repo, 3, 1));
    let result = device.refresh(&repo).await;
    assert!(matches!(result, Err(TufError::Replayed { role: RoleName::Snapshot, .. })), "{result:?}");
}

#[tokio::test]
async fn a_snapshot_that_names_older_targets_or_loses_them_is_refused() {
    for (edit, expected) in [
        (json!({"targets.json": {"version": 1}}), ReasonKind::Replayed),
        (json!({"other.json": {"version": 9}}), ReasonKind::Inconsistent),
    ] {
        let mut repo = Repo::new();
        repo.edit(&Default::default());
        let mut device = Device::refreshed(&repo).await;
        let replace = |signed: &mut Value| {
            signed["version"] = json!(3);
            signed["meta"] = edit.clone();
        };
        put(&repo, "3.snapshot.json", &forge(&repo.snapshot, replace, &[key(5)]));
        put(&repo, "timestamp.json", &unhashed_timestamp(&repo, 3, 3));
        assert_eq!(kind(device.refresh(&repo).await), expected);
        assert_eq!(device.versions(), [1, 3, 2, 2], "the good snapshot and targets stay");
    }
}

#[tokio::test]
async fn a_snapshot_that_the_timestamp_does_not_name_is_refused() {
    let mut repo = Repo::new();
    let first = repo.snapshot.clone();
    repo.publish(NOW);
    put(&repo, "2.snapshot.json", &first);
    assert_eq!(kind(Device::new(&repo).refresh(&repo).await), ReasonKind::Corrupt, "its hash is another");
    put(&repo, "timestamp.json", &unhashed_timestamp(&repo, 2, 2));
    assert_eq!(kind(Device::new(&repo).refresh(&repo).await), ReasonKind::Inconsistent, "so is its version");
}

#[tokio::test]
async fn targets_that_the_snapshot_does_not_name_are_refused() {
    let mut repo = Repo::new();
    let first = repo.targets.clone();
    repo.edit(&Default::default());
    put(&repo, "2.targets.json", &first);
    assert_eq!(kind(Device::new(&repo).refresh(&repo).await), ReasonKind::Corrupt, "their hash is another");
    put(&repo, "2.snapshot.json", &unhashed_snapshot(&repo, 2, 2));
    put(&repo, "timestamp.json", &unhashed_timestamp(&repo, 2, 2));
    assert_eq!(
        kind(Device::new(&repo).refresh(&repo).await),
        ReasonKind::Inconsistent,
        "so is their version"
    );
}

#[tokio::test]
async fn truncated_padded_and_foreign_files_are_refused() {
    for file in ["timestamp.json", "1.snapshot.json", "1.targets.json"] {
        let repo = Repo::new();
        let good = repo.server.lock().metadata[file].clone();
        let mut padded = good.clone();
        padded.extend_from_slice(b" ");
        let html = b"<html>Please log in to the hotel network</html>".to_vec();
        for bad in [good[..good.len() / 2].to_vec(), padded, html, vec![]] {
            if file == "timestamp.json" && bad.len() == good.len() + 1 {
                continue; // White space around a file whose length nobody signed is harmless.
            }
            put(&repo, file, &bad);
            let kind = kind(Device::new(&repo).refresh(&repo).await);
            let expected = [ReasonKind::Malformed, ReasonKind::Corrupt, ReasonKind::TooLarge];
            assert!(expected.contains(&kind), "{file}: {kind}");
        }
    }
}

#[tokio::test]
async fn oversized_files_are_refused() {
    let big = vec![b' '; 6_000_000];
    for file in ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"] {
        let repo = Repo::new();
        put(&repo, file, &big);
        assert_eq!(kind(Device::new(&repo).refresh(&repo).await), ReasonKind::TooLarge, "{file}");
    }
    assert!(
        matches!(Trusted::new(&big), Err(TufError::TooLarge { .. })),
        "also where no transport bounds it"
    );
}

/// Answers every request for a root with a good next one.
struct Endless {
    newest: Mutex<Vec<u8>>,
    repo: Server,
}

impl Source for Endless {
    async fn metadata(&self, file: &str, max: u64) -> Result<Option<Bytes>, TransportError> {
        if !file.ends_with("root.json") {
            return self.repo.metadata(file, max).await;
        }
        let mut newest = self.newest.lock().expect("no panic");
        let spec = RootSpec::read(&newest).expect("a root");
        let next = repo::next_root(&newest, &spec, NOW + Duration::days(365)).expect("makes");
        *newest = sign(&next, &key(1)).expect("signs");
        Ok(Some(newest.clone().into()))
    }
}

#[tokio::test]
async fn an_endless_chain_of_roots_ends() {
    let repo = Repo::new();
    let spec = RootSpec { root: role(&[1], 1), ..repo.spec.clone() };
    let root = repo::new_root(&spec, NOW + Duration::days(365)).expect("makes");
    let root = sign(&root, &key(1)).expect("signs");
    let dir = tempfile::tempdir().expect("temp dir");
    let mut trust = Trust::init(dir.path(), &root).expect("a good root");
    let source = Endless { newest: Mutex::new(root), repo: repo.server.clone() };
    trust.refresh(&source, NOW).await.expect("the rest of the work goes on");
    assert_eq!(trust.trusted().root().body().version, 1 + u64::from(ROOT_ROTATIONS_MAX));
}

#[tokio::test]
async fn new_online_keys_undo_versions_run_up_with_the_old_ones() {
    let mut repo = Repo::new();
    let good = (repo.snapshot.clone(), repo.timestamp.clone());
    // Whoever stole the online key makes versions so high that no honest one could follow.
    repo.snapshot = unhashed_snapshot(&repo, u64::MAX, 1);
    repo.timestamp = unhashed_timestamp(&repo, u64::MAX, u64::MAX);
    repo.upload();
    let mut device = Device::refreshed(&repo).await;
    assert_eq!(device.versions(), [1, u64::MAX, u64::MAX, 1]);
    let resign = |bytes: &[u8]| forge(bytes, |_| {}, &[key(6)]);
    (repo.snapshot, repo.timestamp) = (resign(&good.0), resign(&good.1));
    let name = |signed: &mut Value| signed["meta"]["snapshot.json"] = json!({"version": 1});
    repo.timestamp = forge(&repo.timestamp, name, &[key(6)]);
    repo.upload();
    assert_eq!(
        kind(device.refresh(&repo).await),
        ReasonKind::Signature,
        "the new key is not in the root yet"
    );
    repo.rotate(online(&repo.spec, 6), &[1, 2]);
    device.refresh(&repo).await.expect("recovers");
    assert_eq!(device.versions(), [2, 1, 1, 1]);
    assert_eq!(device.reopen().expect("opens").versions(), [2, 1, 1, 1]);
}

#[tokio::test]
async fn targets_signed_by_a_removed_key_are_dropped() {
    let mut repo = Repo::new();
    let mut device = Device::refreshed(&repo).await;
    let spec = RootSpec { targets: role(&[4], 1), ..repo.spec.clone() };
    repo.rotate(spec, &[1, 2]);
    assert_eq!(kind(device.refresh(&repo).await), ReasonKind::Signature);
    let mut device = device.reopen().expect("opens without them");
    assert_eq!(device.versions(), [2, 1, 1, 0]);
    let next = repo::next_targets(&repo.targets, &Default::default(), LATER).expect("makes");
    repo.targets = sign(&next, &key(4)).expect("signs");
    repo.publish(NOW);
    device.refresh(&repo).await.expect("signed by the key that is left");
    assert_eq!(device.versions(), [2, 2, 2, 2]);
}

#[tokio::test]
async fn a_refresh_cut_off_goes_on_where_it_was() {
    let mut repo = Repo::new();
    let mut device = Device::refreshed(&repo).await;
    repo.edit(&Default::default());
    let snapshot = repo.server.lock().metadata.remove("2.snapshot.json").expect("there");
    assert!(matches!(device.refresh(&repo).await, Err(TufError::Absent { .. })));
    let mut device = device.reopen().expect("opens");
    assert_eq!(device.versions(), [1, 2, 1, 1]);
    put(&repo, "2.snapshot.json", &snapshot);
    device.refresh(&repo).await.expect("goes on");
    assert_eq!(device.versions(), [1, 2, 2, 2]);
}

#[tokio::test]
async fn damaged_or_missing_trust_is_an_error_and_never_a_first_start() {
    for file in ["root.json", "timestamp.json", "snapshot.json", "targets.json", "floors"] {
        let mut repo = Repo::new();
        repo.set_floor("m", "1.0.0");
        for damage in [&b""[..], b"{}", b"{\"signed\":{},\"signatures\":[]}", b"[1]"] {
            let device = Device::refreshed(&repo).await;
            std::fs::write(device.dir.path().join("trust").join(file), damage).expect("writes");
            assert!(matches!(device.reopen(), Err(TufError::Damaged { .. })), "{file}: {damage:?}");
        }
    }
    let device = Device::refreshed(&Repo::new()).await;
    std::fs::remove_file(device.dir.path().join("trust/root.json")).expect("removes");
    assert!(matches!(device.reopen(), Err(TufError::Damaged { .. })));
}

#[tokio::test]
async fn floors_only_rise_and_survive() {
    let mut repo = Repo::new();
    let model = "m".parse().expect("a name");
    repo.set_floor("m", "2.0.0");
    let mut device = Device::refreshed(&repo).await;
    repo.set_floor("m", "1.0.0");
    device.refresh(&repo).await.expect("refreshes");
    assert_eq!(device.trust.floor(&model), Some(&"2.0.0".parse().expect("a version")));
    repo.set_floor("m", "2.1.0");
    device.refresh(&repo).await.expect("refreshes");
    let device = device.reopen().expect("opens");
    assert_eq!(device.trust.floor(&model), Some(&"2.1.0".parse().expect("a version")));
    assert_eq!(device.trust.floor(&"n".parse().expect("a name")), None);
}

#[test]
fn a_target_of_another_length_or_hash_is_refused() {
    let target = |length, sha256: &str| {
        let value = json!({
            "_type": "targets", "spec_version": "1.0.34", "version": 1, "expires": "2031-01-01T00:00:00Z",
            "targets": {"a/b": {"length": length, "hashes": {"sha256": sha256}}},
        });
        Targets::from_signed(&value).expect("targets").targets["a/b"].clone()
    };
    let hash = crate::hash::sha256(b"content").to_string();
    assert!(target(7, &hash).check(b"content").is_ok());
    assert!(matches!(target(8, &hash).check(b"content"), Err(TufError::Corrupt { .. })));
    assert!(matches!(target(7, &hash).check(b"kontent"), Err(TufError::Corrupt { .. })));
    assert_eq!(target(7, &hash).file(), format!("a/{hash}.b"));
}

#[test]
fn metadata_of_another_role_or_specification_is_refused() {
    let repo = Repo::new();
    assert!(Signed::<Snapshot>::parse(&repo.timestamp).is_err());
    let future = forge_unchecked(&repo.timestamp, |signed| signed["spec_version"] = json!("2.0.0"));
    assert!(Signed::<Timestamp>::parse(&future).is_err());
    for (field, bad) in [("version", json!(0)), ("version", json!(1.5)), ("expires", json!("soon"))] {
        let bad = forge_unchecked(&repo.timestamp, |signed| signed[field] = bad);
        assert!(Signed::<Timestamp>::parse(&bad).is_err(), "{field}");
    }
}

fn forge_unchecked(metadata: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    forge(metadata, edit, &[])
}

#[test]
fn fields_that_this_build_does_not_know_stay_signed() {
    let repo = Repo::new();
    let more = |signed: &mut Value| {
        signed["x-future"] = json!({"b": 1, "a": ["é\n"]});
        signed["keys"]["future"] = json!({"keytype": "future", "scheme": "f", "keyval": {"public": "?"}});
    };
    let root = forge(&repo.root, more, &[key(1), key(2)]);
    let trusted = Trusted::new(&root).expect("good");
    assert_eq!(trusted.root().bytes(), root);
    let next = repo::next_root(&root, &repo.spec, LATER).expect("makes");
    let value: Value = serde_json::from_slice(&next).expect("JSON");
    assert_eq!(value["signed"]["x-future"]["a"][0], "é\n");
}

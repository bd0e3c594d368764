//! Delegated roles: who may vouch for what, in which order they are asked, and what is kept of them.

use super::*;
use std::collections::BTreeMap;

/// A repository whose targets delegate. Each role is signed by the key of its seed.
struct Delegating {
    repo: Repo,
    roles: BTreeMap<String, (Value, u8)>,
}

/// A delegation: its name, the seed of its key, and what is to differ from "everything, not terminating".
fn to(name: &str, seed: u8, edit: Value) -> Value {
    let mut role = json!({
        "name": name, "keyids": [key(seed).public().id().expect("an id")], "threshold": 1,
        "terminating": false, "paths": ["*"], "seed": seed,
    });
    for (field, value) in edit.as_object().expect("an object") {
        role[field] = value.clone();
    }
    if edit.get("path_hash_prefixes").is_some() {
        role.as_object_mut().expect("an object").remove("paths");
    }
    role
}

fn delegations(roles: &[Value]) -> Value {
    let (mut keys, mut list) = (json!({}), Vec::new());
    for role in roles {
        let mut role = role.clone();
        let seed = role.as_object_mut().expect("an object").remove("seed").expect("a seed");
        let key = key(u8::try_from(seed.as_u64().expect("a number")).expect("small")).public();
        keys[key.id().expect("an id")] = key.to_value();
        list.push(role);
    }
    json!({"keys": keys, "roles": list})
}

fn entry(content: &[u8]) -> Value {
    json!({"length": content.len(), "hashes": {"sha512": hex::encode(crate::hash::sha512(content))}})
}

impl Delegating {
    fn new(roles: &[Value]) -> Self {
        let mut this = Self { repo: Repo::new(), roles: BTreeMap::new() };
        this.repo.targets = forge(
            &this.repo.targets,
            |signed| {
                signed["version"] = json!(2);
                signed["delegations"] = delegations(roles);
            },
            &[key(3)],
        );
        this
    }

    /// Adds or replaces a role: its version, targets and further delegations.
    fn role(&mut self, name: &str, seed: u8, version: u64, targets: &[&str], roles: &[Value]) -> &mut Self {
        let targets: BTreeMap<_, _> =
            targets.iter().map(|path| (path, entry(format!("{path} by {name}").as_bytes()))).collect();
        let signed = json!({
            "_type": "targets", "spec_version": "1.0.34", "version": version, "expires": "2030-02-01T00:00:00Z",
            "targets": targets, "delegations": delegations(roles),
        });
        self.roles.insert(name.into(), (signed, seed));
        self
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let (signed, seed) = &self.roles[name];
        forge(&serde_json::to_vec(&json!({"signed": signed})).expect("JSON"), |_| {}, &[key(*seed)])
    }

    /// Publishes all roles under a new snapshot that names them.
    fn publish(&mut self) -> &Repo {
        self.repo.publish(NOW);
        let versions: Vec<_> =
            self.roles.iter().map(|(name, (signed, _))| (name.clone(), signed["version"].clone())).collect();
        self.repo.snapshot = forge(
            &self.repo.snapshot,
            |signed| {
                signed["meta"].as_object_mut().expect("an object").retain(|file, _| file == "targets.json");
                for (name, version) in &versions {
                    signed["meta"][format!("{name}.json")] = json!({"version": version});
                }
            },
            &[key(5)],
        );
        let number = Signed::<Snapshot>::parse(&self.repo.snapshot).expect("parses").body().version;
        self.repo.timestamp = unhashed_timestamp(&self.repo, number, number);
        self.repo.upload();
        for (name, version) in versions {
            put(&self.repo, &format!("{version}.{}.json", file_stem(&name)), &self.bytes(&name));
        }
        self.repo.server.lock().log.clear();
        &self.repo
    }

    async fn device(&mut self) -> Device {
        let mut device = Device::new(self.publish());
        device.refresh(&self.repo).await.expect("refreshes");
        self.repo.server.lock().log.clear();
        device
    }

    /// The delegated roles' files that were asked for since the last look, without version and ending.
    fn asked(&self) -> Vec<String> {
        let log = std::mem::take(&mut self.repo.server.lock().log);
        let role = |file: &String| Some(file.split_once('.')?.1.strip_suffix(".json")?.to_owned());
        log.iter().filter_map(role).filter(|r| !["root", "snapshot", "targets"].contains(&&r[..])).collect()
    }
}

impl Device {
    async fn find(&mut self, world: &Delegating, path: &str) -> Result<Option<Target>, TufError> {
        self.trust.find(path, &world.repo.server, NOW).await
    }

    async fn finds(&mut self, world: &Delegating, path: &str, by: &str) {
        let target = self.find(world, path).await.expect("trusted").expect("found");
        target.check(format!("{path} by {by}").as_bytes()).expect("the one of that role");
    }
}

#[tokio::test]
async fn roles_are_asked_in_pre_order_and_each_once() {
    let all = json!({});
    let mut world =
        Delegating::new(&[to("a", 10, all.clone()), to("b", 11, all.clone()), to("c", 12, all.clone())]);
    world
        .role("a", 10, 1, &[], &[to("d", 13, all.clone()), to("b", 11, all.clone())])
        .role("b", 11, 1, &[], &[to("a", 10, all.clone())])
        .role("c", 12, 1, &[], &[])
        .role("d", 13, 1, &[], &[]);
    let mut device = world.device().await;
    assert_eq!(device.find(&world, "x").await.expect("trusted"), None);
    assert_eq!(world.asked(), ["a", "d", "b", "c"]);
    let mut device = device.reopen().expect("opens");
    assert_eq!(device.find(&world, "x").await.expect("trusted"), None);
    assert!(world.asked().is_empty(), "they are in the folder");
}

#[tokio::test]
async fn a_terminating_role_ends_the_search_for_what_is_in_its_scope() {
    let mut world = Delegating::new(&[
        to("a", 10, json!({"terminating": true, "paths": ["*.bin"]})),
        to("b", 11, json!({})),
    ]);
    world.role("a", 10, 1, &["x.bin"], &[]).role("b", 11, 1, &["y.bin", "x.bin", "z"], &[]);
    let mut device = world.device().await;
    device.finds(&world, "x.bin", "a").await;
    assert_eq!(device.find(&world, "y.bin").await.expect("trusted"), None);
    assert_eq!(world.asked(), ["a"]);
    device.finds(&world, "z", "b").await;
    assert_eq!(world.asked(), ["b"]);
}

#[tokio::test]
async fn a_role_cannot_sign_outside_its_scope() {
    let hash = crate::hash::sha256(b"family/x").to_string();
    let mut world = Delegating::new(&[
        to("paths", 10, json!({"paths": ["family/*"]})),
        to("bin", 11, json!({"path_hash_prefixes": [hash[..2]]})),
    ]);
    world.role("paths", 10, 1, &["other/x"], &[]).role("bin", 11, 1, &["family/x", "other/x"], &[]);
    let mut device = world.device().await;
    assert_eq!(device.find(&world, "other/x").await.expect("trusted"), None);
    assert!(world.asked().is_empty());
    device.finds(&world, "family/x", "bin").await;
}

#[tokio::test]
async fn what_a_delegator_did_not_sign_for_is_refused_even_when_another_did() {
    let all = json!({});
    let mut world =
        Delegating::new(&[to("a", 10, json!({"paths": ["a-*"]})), to("b", 11, json!({"paths": ["b-*"]}))]);
    world
        .role("a", 10, 1, &[], &[to("shared", 12, all.clone())])
        .role("b", 11, 1, &[], &[to("shared", 13, all)])
        .role("shared", 12, 1, &["a-x", "b-x"], &[]);
    let mut device = world.device().await;
    device.finds(&world, "a-x", "shared").await;
    let refused = device.find(&world, "b-x").await.expect_err("signed with the key that a names, not b");
    assert_eq!(refused.reason().kind, ReasonKind::Signature);
    let mut device = device.reopen().expect("opens");
    assert!(device.find(&world, "b-x").await.is_err(), "nor is the copy in the folder believed");
    device.finds(&world, "a-x", "shared").await;
}

#[tokio::test]
async fn a_delegation_that_changes_its_key_makes_the_old_file_void() {
    let mut world = Delegating::new(&[to("a", 10, json!({}))]);
    world.role("a", 10, 1, &["x"], &[]);
    let mut device = world.device().await;
    device.finds(&world, "x", "a").await;
    world.repo.targets = forge(
        &world.repo.targets,
        |signed| {
            signed["version"] = json!(3);
            signed["delegations"] = delegations(&[to("a", 14, json!({}))]);
        },
        &[key(3)],
    );
    world.publish();
    device.refresh(&world.repo).await.expect("refreshes");
    assert_eq!(device.find(&world, "x").await.expect_err("old key").reason().kind, ReasonKind::Signature);
    world.role("a", 14, 2, &["x"], &[]).publish();
    device.refresh(&world.repo).await.expect("refreshes");
    device.finds(&world, "x", "a").await;
}

#[tokio::test]
async fn expired_unnamed_older_and_missing_roles_end_the_search() {
    let mut world = Delegating::new(&[to("a", 10, json!({})), to("b", 11, json!({}))]);
    world.role("a", 10, 2, &[], &[]).role("b", 11, 1, &["x"], &[]);
    let device = |world: &Delegating| Device::new(&world.repo);
    world.publish();
    let find = async |world: &Delegating| {
        let mut device = device(world);
        device.refresh(&world.repo).await.expect("refreshes");
        device.find(world, "x").await
    };
    assert!(find(&world).await.expect("trusted").is_some());
    world.repo.server.lock().metadata.remove("2.a.json");
    assert_eq!(find(&world).await.expect_err("absent").reason().kind, ReasonKind::Network);
    let older = world.role("a", 10, 1, &[], &[]).bytes("a");
    put(&world.repo, "2.a.json", &older);
    assert_eq!(find(&world).await.expect_err("version 1").reason().kind, ReasonKind::Inconsistent);
    world.role("a", 10, 2, &[], &[]).roles.get_mut("a").expect("there").0["expires"] =
        json!("2029-12-31T00:00:00Z");
    world.publish();
    assert_eq!(find(&world).await.expect_err("expired").reason().kind, ReasonKind::Expired);
    world.roles.remove("a");
    world.publish();
    assert_eq!(find(&world).await.expect_err("not in the snapshot").reason().kind, ReasonKind::Inconsistent);
}

#[tokio::test]
async fn odd_names_stay_in_the_folder_and_leave_it_when_no_snapshot_names_them() {
    let names = ["../up", "/root", "?", "#", "a b", "timestamp.json", "floors"];
    let roles: Vec<_> = names.iter().map(|name| to(name, 10, json!({}))).collect();
    let mut world = Delegating::new(&roles);
    for name in names {
        world.role(name, 10, 1, &[], &[]);
    }
    let mut device = world.device().await;
    assert_eq!(device.find(&world, "x").await.expect("trusted"), None);
    assert_eq!(world.asked(), ["..%2Fup", "%2Froot", "%3F", "%23", "a%20b", "timestamp.json", "floors"]);
    let files = || Files.list(&device.dir.path().join("trust")).expect("lists");
    assert_eq!(files().len(), 4 + names.len());
    assert_eq!(Files.list(device.dir.path()).expect("lists").len(), 1);
    // A snapshot may not lose a file, so the online keys change with it.
    let spec = online(&world.repo.spec, 6);
    world.repo.rotate(spec, &[1, 2]);
    world.roles.clear();
    let plain = forge(&world.repo.targets, |signed| signed["version"] = json!(3), &[key(3)]);
    world.repo.targets = plain;
    world.repo.snapshot =
        repo::snapshot(None, &world.repo.targets, &key(6), NOW + Duration::days(9)).expect("signs");
    world.repo.timestamp =
        repo::timestamp(None, &world.repo.snapshot, &key(6), NOW, NOW + Duration::days(9)).expect("signs");
    world.repo.upload();
    let mut device = device.reopen().expect("opens");
    device.refresh(&world.repo).await.expect("refreshes");
    assert_eq!(Files.list(&device.dir.path().join("trust")).expect("lists").len(), 4);
}

#[tokio::test]
async fn a_chain_longer_than_accepted_is_an_error() {
    let next = |n: usize| vec![to(&format!("r{n}"), 10, json!({}))];
    let mut world = Delegating::new(&next(0));
    for n in 0..=SEARCHED_ROLES_MAX {
        world.role(&format!("r{n}"), 10, 1, &[], &next(n + 1));
    }
    let mut device = world.device().await;
    let error = device.find(&world, "x").await.expect_err("too many");
    assert!(error.to_string().contains("more than 32 roles"), "{error}");
}

#[tokio::test]
async fn a_threshold_counts_keys_and_not_ids() {
    let mut twice = to("a", 10, json!({"threshold": 2}));
    let id = key(10).public().id().expect("an id");
    twice["keyids"] = json!([id, "other"]);
    let mut world = Delegating::new(&[twice]);
    world.repo.targets = forge(
        &world.repo.targets,
        |signed| signed["delegations"]["keys"]["other"] = key(10).public().to_value(),
        &[key(3)],
    );
    world.role("a", 10, 1, &["x"], &[]);
    let mut device = world.device().await;
    let mut signed: Value = serde_json::from_slice(&world.bytes("a")).expect("JSON");
    let mut again = signed["signatures"][0].clone();
    again["keyid"] = json!("other");
    signed["signatures"].as_array_mut().expect("a list").push(again);
    put(&world.repo, "1.a.json", &serde_json::to_vec(&signed).expect("JSON"));
    assert_eq!(device.find(&world, "x").await.expect_err("one key").reason().kind, ReasonKind::Signature);
}

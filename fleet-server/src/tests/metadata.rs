//! Delegated roles, and what the server signs by itself.

use super::harness::{Release, Server, bundle, sha256};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};
use time::{Duration, OffsetDateTime};
use whimbrel_updater::{
    repo::{self, Delegation, NewTarget, RoleSpec, RootSpec, SigningKey, TargetsEdit},
    tuf::{Key, Scope},
};
use whimbrel_wire::encode;

const ODD: &str = "vision/eu #1";

fn later() -> OffsetDateTime {
    OffsetDateTime::now_utc() + Duration::days(30)
}

async fn post(server: &Server, path: &str, body: &[u8]) -> StatusCode {
    server.call(Method::POST, &format!("/api/v1/repository/{path}"), body.to_vec()).await.status()
}

async fn put_role(server: &Server, role: &str, body: &[u8]) -> StatusCode {
    post(server, &format!("delegated/{}", repo::file_name(role, None)), body).await
}

async fn fetch(server: &Server, file: &str) -> Option<Value> {
    let answer = server.client(None).get(server.url(&format!("/tuf/{file}"))).send().await.expect("answer");
    (answer.status() == StatusCode::OK).then_some(answer.json().await.expect("json"))
}

/// What the newest snapshot says about a role.
async fn named(server: &Server, role: &str) -> Value {
    let timestamp = fetch(server, "timestamp.json").await.expect("there");
    let version = &timestamp["signed"]["meta"]["snapshot.json"]["version"];
    let snapshot = fetch(server, &format!("{version}.snapshot.json")).await.expect("there");
    snapshot["signed"]["meta"][format!("{role}.json")]["version"].clone()
}

/// Targets that delegate `digits/*` to a role with this key, signed and published.
async fn delegate(server: &Server, release: &mut Release, role: &str, key: &SigningKey) {
    let delegation = Delegation {
        name: role.into(),
        signers: RoleSpec { keys: vec![key.public()], threshold: 1 },
        terminating: false,
        scope: Scope::Paths(vec!["digits/*".into()]),
    };
    let edit = TargetsEdit { delegate: vec![delegation], ..TargetsEdit::default() };
    let next = repo::next_targets(&release.targets, &edit, later()).expect("targets");
    release.targets = repo::sign(&next, &release.key).expect("signed");
    assert_eq!(post(server, "targets", &release.targets).await, StatusCode::NO_CONTENT);
}

/// Metadata of a role that names a version of `digits`, and uploads that.
async fn role_with(server: &Server, old: Option<&[u8]>, version: &str, key: &SigningKey) -> Vec<u8> {
    let (index, chunk) = bundle(version);
    let bytes = encode(&index).expect("index");
    let target = NewTarget::bundle(&index.manifest, bytes.len() as u64, sha256(&bytes));
    for (kind, bytes) in [("targets", &bytes), ("chunks", &chunk)] {
        let path = format!("/api/v1/repository/{kind}/{}", sha256(bytes));
        assert_eq!(server.call(Method::PUT, &path, bytes.clone()).await.status(), StatusCode::NO_CONTENT);
    }
    let edit = TargetsEdit { add: vec![target], ..TargetsEdit::default() };
    let made = match old {
        Some(old) => repo::next_targets(old, &edit, later()),
        None => repo::amend_targets(&repo::new_targets(later()).expect("targets"), &edit, later()),
    };
    repo::sign(&made.expect("targets"), key).expect("signed")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegated_role_is_taken_over_with_its_own_keys_named_and_served() {
    let server = Server::start().await;
    let mut release = Release::start(&server).await;
    release.publish(&server, "1.0.0").await;
    let (team, stranger) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
    let first = role_with(&server, None, "2.0.0", &team).await;
    assert_eq!(put_role(&server, ODD, &first).await, StatusCode::CONFLICT, "nobody delegates to it");
    delegate(&server, &mut release, ODD, &team).await;
    let forged = role_with(&server, None, "2.0.0", &stranger).await;
    assert_eq!(put_role(&server, ODD, &forged).await, StatusCode::FORBIDDEN);
    assert_eq!(put_role(&server, ODD, b"{}").await, StatusCode::BAD_REQUEST);
    let by_release = role_with(&server, None, "2.0.0", &release.key).await;
    assert_eq!(put_role(&server, ODD, &by_release).await, StatusCode::FORBIDDEN, "not even the release key");
    assert_eq!(named(&server, ODD).await, Value::Null);

    assert_eq!(put_role(&server, ODD, &first).await, StatusCode::NO_CONTENT);
    assert_eq!(put_role(&server, ODD, &first).await, StatusCode::CONFLICT, "the same version again");
    assert_eq!(named(&server, ODD).await, json!(1));
    let served = fetch(&server, "1.vision%2Feu%20%231.json").await.expect("there");
    assert_eq!(served, serde_json::from_slice::<Value>(&first).expect("json"));
    let versions = server.get("/api/v1/models").await;
    let versions: Vec<_> =
        versions["models"].as_array().expect("list").iter().map(|m| &m["version"]).collect();
    assert_eq!(versions, [&json!("2.0.0"), &json!("1.0.0")]);

    let second = role_with(&server, Some(&first), "3.0.0", &team).await;
    assert_eq!(put_role(&server, ODD, &second).await, StatusCode::NO_CONTENT);
    release.publish(&server, "1.1.0").await;
    assert_eq!(named(&server, ODD).await, json!(2), "new targets leave it named");

    // Another key for the role: what the old one signed counts no more, and devices would refuse it.
    delegate(&server, &mut release, ODD, &stranger).await;
    let models = server.get("/api/v1/models").await["models"].as_array().expect("list").len();
    assert_eq!(models, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_cannot_offer_what_its_delegator_does_not_let_it_name() {
    let server = Server::start().await;
    let mut release = Release::start(&server).await;
    release.publish(&server, "1.0.0").await;
    let team = SigningKey::from_seed(&[1; 32]);
    delegate(&server, &mut release, "team", &team).await;
    let (index, _) = bundle("2.0.0");
    let bytes = encode(&index).expect("index");
    let target =
        NewTarget { path: "other/2.0.0.wbi".into(), ..NewTarget::bundle(&index.manifest, 1, sha256(&bytes)) };
    let edit = TargetsEdit { add: vec![target], ..TargetsEdit::default() };
    let made = repo::amend_targets(&repo::new_targets(later()).expect("targets"), &edit, later());
    let signed = repo::sign(&made.expect("targets"), &team).expect("signed");
    assert_eq!(put_role(&server, "team", &signed).await, StatusCode::NO_CONTENT);
    assert_eq!(server.get("/api/v1/models").await["models"].as_array().expect("list").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_snapshots_still_name_delegated_roles() {
    let start = OffsetDateTime::now_utc().unix_timestamp();
    let clock = Arc::new(AtomicI64::new(start));
    let server = Server::start_at(&clock).await;
    let mut release = Release::start(&server).await;
    release.publish(&server, "1.0.0").await;
    let team = SigningKey::from_seed(&[1; 32]);
    delegate(&server, &mut release, "team", &team).await;
    let first = role_with(&server, None, "2.0.0", &team).await;
    assert_eq!(put_role(&server, "team", &first).await, StatusCode::NO_CONTENT);
    let before = fetch(&server, "timestamp.json").await.expect("there");
    clock.store(start + 6 * 24 * 3600, Ordering::SeqCst);
    server.app.fleet.renew_signatures().await.expect("renewed");
    let after = fetch(&server, "timestamp.json").await.expect("there");
    let snapshot =
        |file: &Value| file["signed"]["meta"]["snapshot.json"]["version"].as_u64().expect("number");
    assert_eq!(snapshot(&after), snapshot(&before) + 1);
    assert_eq!(named(&server, "team").await, json!(1));
    let signed_at = after["signed"]["custom"]["whimbrel"]["signed_at"].as_str().expect("text");
    let format = &time::format_description::well_known::Rfc3339;
    let signed_at = OffsetDateTime::parse(signed_at, format).expect("a date");
    assert_eq!(signed_at.unix_timestamp(), start + 6 * 24 * 3600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_online_key_signs_as_soon_as_the_root_lists_it_and_not_before() {
    let server = Server::start().await;
    let mut release = Release::start(&server).await;
    let first = Release::root(&server, &release.key).await;
    release.publish(&server, "1.0.0").await;
    let before = fetch(&server, "timestamp.json").await.expect("there");
    // The key's file is lost with the machine; the next start makes another.
    std::fs::remove_file(server.dir.path().join("state/online.pem")).expect("there");
    let server = server.restart().await;
    let draft = release.draft("1.1.0");
    for (kind, bytes) in [("targets", &draft.1), ("chunks", &draft.2)] {
        let path = format!("/api/v1/repository/{kind}/{}", sha256(bytes));
        assert_eq!(server.call(Method::PUT, &path, bytes.clone()).await.status(), StatusCode::NO_CONTENT);
    }
    let refused = post(&server, "targets", &draft.0).await;
    assert_eq!(refused, StatusCode::BAD_REQUEST, "nobody would trust its snapshot");

    let online = Key::from_value(&server.get("/api/v1/repository").await["online_key"]).expect("key");
    let mut spec = RootSpec::read(&first).expect("root");
    for role in [&mut spec.snapshot, &mut spec.timestamp] {
        *role = RoleSpec { keys: vec![online.clone()], threshold: 1 };
    }
    let next = repo::next_root(&first, &spec, later()).expect("root");
    let second = repo::sign(&next, &release.key).expect("signed");
    assert_eq!(post(&server, "root", &second).await, StatusCode::NO_CONTENT);
    let after = fetch(&server, "timestamp.json").await.expect("there");
    let id = online.id().expect("an id");
    assert_eq!(after["signatures"][0]["keyid"], id.as_str());
    let version = |file: &Value| file["signed"]["version"].as_u64().expect("number");
    assert_eq!(version(&after), version(&before) + 1, "clients see no rollback");
    assert_eq!(named(&server, "targets").await, json!(1));
    assert_eq!(post(&server, "targets", &draft.0).await, StatusCode::NO_CONTENT);
}

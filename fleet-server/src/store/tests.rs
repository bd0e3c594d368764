//! The store on a real database in a temporary folder.

use super::{
    Store,
    audit::Verdict,
    operators::{Operator, Role},
    telemetry::{Counted, Delivery},
    tokens::{EnrolmentToken, Issued, Refusal},
};
use crate::{
    bus::{Address, acl::identify},
    rollout::{Decision, Move},
};
use std::collections::BTreeMap;
use tempfile::TempDir;
use whimbrel_wire::{
    api::{NewRollout, OnFailure, RolloutState},
    report::Platform,
    telemetry::{Batch, LatencySketch, Window},
};

async fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(&dir.path().join("fleet.db")).await.expect("opened");
    (dir, store)
}

fn who(device: &str) -> Address {
    identify(device, Some(device), Some("acme")).expect("valid")
}

async fn enrol(store: &Store, device: &str, serial: &str) {
    let who = who(device);
    let token = EnrolmentToken {
        secret: serial,
        tenant: &who.tenant,
        device: Some(&who.device),
        tags: &[],
        expires_ms: 1000,
    };
    store.add_enrolment_token(&token, "test", 0).await.expect("added");
    let issued = Issued { serial: serial.into(), not_after_ms: 1000 };
    let done = store.enrol(serial, &who.device, &Platform::default(), &issued, 1).await.expect("stored");
    assert_eq!(done, Ok(who));
}

fn window(requests: u64, latency_ms: LatencySketch) -> Window {
    Window {
        model: "digits".parse().expect("valid"),
        version: semver::Version::new(1, 0, 0),
        start_ms: 0,
        end_ms: 1,
        requests,
        errors: BTreeMap::new(),
        latency_ms,
        features: Vec::new(),
        classes: BTreeMap::new(),
        confidence: Vec::new(),
    }
}

fn delivery(device: &str, sequence: u64, window: Window) -> Delivery {
    Delivery { from: who(device), batch: Batch { boot: u64::MAX, sequence, windows: vec![window] } }
}

#[tokio::test]
async fn it_opens_again_with_everything_in_it() {
    let (dir, store) = store().await;
    enrol(&store, "a", "serial-1").await;
    store.close().await;
    let store = Store::open(&dir.path().join("fleet.db")).await.expect("opened again");
    assert!(store.certificate_stands(&who("a"), "serial-1").await.expect("read"));
    assert!(!store.certificate_stands(&who("b"), "serial-1").await.expect("read"), "another device");
}

#[tokio::test]
async fn tokens_end_by_time_and_by_use() {
    let (_dir, store) = store().await;
    let a = who("a");
    let token = EnrolmentToken {
        secret: "s",
        tenant: &a.tenant,
        device: None,
        tags: &["x".into()],
        expires_ms: 1000,
    };
    store.add_enrolment_token(&token, "test", 0).await.expect("added");
    assert_eq!(store.check_enrolment("s", &a.device, 1000).await.expect("read"), Err(Refusal::Token));
    assert_eq!(store.check_enrolment("s", &a.device, 999).await.expect("read"), Ok(a.tenant.clone()));
    let issued = Issued { serial: "1".into(), not_after_ms: 9 };
    let platform = Platform::default();
    let enrol = || store.enrol("s", &a.device, &platform, &issued, 5);
    assert!(matches!(enrol().await, Ok(Ok(_))));
    assert!(matches!(enrol().await, Ok(Err(Refusal::Token))));
    let device = store.device(&a).await.expect("read").expect("there");
    assert_eq!((device.tags, device.seen_ms), (vec!["x".to_owned()], Some(5)));
}

#[tokio::test]
async fn operators_are_found_by_their_token_only() {
    let (_dir, store) = store().await;
    assert!(!store.has_operators().await.expect("read"));
    let operator = Operator { name: "ann".into(), role: Role::Releaser };
    store.add_operator("token", &operator, 0).await.expect("added");
    assert_eq!(store.operator("token").await.expect("read"), Some(operator));
    assert_eq!(store.operator("Token").await.expect("read"), None);
}

#[tokio::test]
async fn a_batch_counts_once_also_within_one_transaction() {
    let (_dir, store) = store().await;
    let honest = || delivery("a", 1, window(10, LatencySketch::default()));
    let counted = store.count_batches(&[honest(), honest()], 0).await.expect("stored");
    assert_eq!(counted, [Counted::New, Counted::Before]);
    assert_eq!(store.count_batches(&[honest()], 0).await.expect("stored"), [Counted::Before]);
    let sums = store.telemetry_summary(&who("a").tenant).await.expect("read");
    assert_eq!((sums[0].requests, sums[0].batches), (10, 1));
}

#[tokio::test]
async fn lying_devices_overflow_nothing() {
    let (_dir, store) = store().await;
    for sequence in 1..4u64 {
        let buckets =
            (0..2000).map(|i| (i32::MIN + i * 7 + i32::try_from(sequence).expect("small"), u64::MAX));
        let sketch =
            LatencySketch { buckets: buckets.collect(), zero: u64::MAX, sum: f64::MAX, max: f64::MAX };
        let lie = delivery("liar", sequence, window(u64::MAX, sketch));
        store.count_batches(&[lie], i64::MAX).await.expect("stored");
    }
    let sums = store.telemetry_summary(&who("a").tenant).await.expect("read");
    assert!(sums[0].requests >= 1 << 40 && sums[0].latency_p95_ms.is_some());
    let bytes: (i64,) = sqlx::query_as("SELECT max(length(sketch)) FROM telemetry_sketches")
        .fetch_one(&store.readers)
        .await
        .expect("read");
    assert!(bytes.0 < 4096, "the sketch grew to {} bytes", bytes.0);
}

#[tokio::test]
async fn windows_age_out_and_sums_stay() {
    let (_dir, store) = store().await;
    store.count_batches(&[delivery("a", 1, window(3, LatencySketch::default()))], 100).await.expect("stored");
    assert_eq!(store.drop_windows(100).await.expect("done"), 0);
    assert_eq!(store.drop_windows(101).await.expect("done"), 1);
    assert_eq!(store.telemetry_summary(&who("a").tenant).await.expect("read")[0].requests, 3);
}

fn spec(version: u64) -> NewRollout {
    NewRollout {
        model: "digits".parse().expect("valid"),
        version: semver::Version::new(version, 0, 0),
        stages: vec![100],
        tags: Vec::new(),
        success_percent_min: 100,
        on_failure: OnFailure::Pause,
        soak_s: 0,
    }
}

#[tokio::test]
async fn a_decision_is_carried_out_whole_and_taken_back_whole() {
    let (_dir, store) = store().await;
    enrol(&store, "a", "serial-1").await;
    let tenant = who("a").tenant;
    let ask = Decision { ask: vec![who("a").device], ..Decision::default() };
    for version in [1, 2] {
        let new = spec(version);
        let id = store.add_rollout(&tenant, &new, "t", "test", 0).await.expect("added");
        let fleet = store.model_fleet(&tenant, &new.model).await.expect("read");
        let stored = fleet.rollouts.iter().find(|r| r.id == id).expect("there");
        assert_eq!(store.apply(&tenant, stored, &ask, "test", 0).await.expect("applied"), [who("a")]);
    }
    let state = store.desired(&who("a"), 30).await.expect("read").expect("there");
    assert_eq!((state.serial, state.models[0].version.major, state.models[0].attempt), (2, 2, 1));

    let fleet = store.model_fleet(&tenant, &spec(2).model).await.expect("read");
    let moved = Move { state: RolloutState::RolledBack, stage: 0, passed_ms: None, reason: "test".into() };
    let back = Decision { give_back: vec![who("a").device], moved: Some(moved), ..Decision::default() };
    store.apply(&tenant, &fleet.rollouts[1], &back, "test", 0).await.expect("applied");
    let state = store.desired(&who("a"), 30).await.expect("read").expect("there");
    let model = &state.models[0];
    assert_eq!((state.serial, model.version.major, model.attempt, model.rollout.as_str()), (3, 1, 2, "r-1"));
    let fleet = store.model_fleet(&tenant, &spec(2).model).await.expect("read");
    assert_eq!(fleet.rollouts[1].rollout.state, RolloutState::RolledBack);
}

#[tokio::test]
async fn a_version_that_the_device_refused_is_not_given_back() {
    let (_dir, store) = store().await;
    enrol(&store, "a", "serial-1").await;
    let tenant = who("a").tenant;
    let ask = Decision { ask: vec![who("a").device], ..Decision::default() };
    for (version, outcome) in [(1, "active"), (2, "rejected"), (3, "rolled_back"), (4, "pending")] {
        let new = spec(version);
        let id = store.add_rollout(&tenant, &new, "t", "test", 0).await.expect("added");
        let fleet = store.model_fleet(&tenant, &new.model).await.expect("read");
        let stored = fleet.rollouts.iter().find(|r| r.id == id).expect("there");
        store.apply(&tenant, stored, &ask, "test", 0).await.expect("applied");
        sqlx::query("UPDATE rollout_devices SET outcome = ? WHERE rollout = ?")
            .bind(outcome)
            .bind(id)
            .execute(&store.writer)
            .await
            .expect("changed");
    }
    let fleet = store.model_fleet(&tenant, &spec(4).model).await.expect("read");
    let back = Decision { give_back: vec![who("a").device], ..Decision::default() };
    store.apply(&tenant, &fleet.rollouts[3], &back, "test", 0).await.expect("applied");
    let state = store.desired(&who("a"), 30).await.expect("read").expect("there");
    assert_eq!((state.models[0].version.major, state.models[0].rollout.as_str()), (1, "r-1"));
}

#[tokio::test]
async fn a_changed_audit_row_shows() {
    let (_dir, store) = store().await;
    enrol(&store, "a", "serial-1").await;
    enrol(&store, "b", "serial-2").await;
    assert_eq!(store.verify_audit().await.expect("read"), Verdict::Whole { rows: 4 });
    sqlx::query("UPDATE audit SET actor = 'nobody' WHERE sequence = 2")
        .execute(&store.writer)
        .await
        .expect("changed");
    assert_eq!(store.verify_audit().await.expect("read"), Verdict::Broken { sequence: 2 });
    sqlx::query("DELETE FROM audit WHERE sequence = 1").execute(&store.writer).await.expect("deleted");
    assert_eq!(store.verify_audit().await.expect("read"), Verdict::Broken { sequence: 1 });
}

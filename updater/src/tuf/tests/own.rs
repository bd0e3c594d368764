//! Floors, statements that lower them, and signed times.

use super::*;
use time::macros::datetime;

/// Sets fields below `custom.whimbrel` of the targets and publishes the next version.
fn say(repo: &mut Repo, fields: Value) {
    let version = Signed::<Targets>::parse(&repo.targets).expect("parses").body().version + 1;
    repo.targets = forge(
        &repo.targets,
        |signed| {
            signed["version"] = json!(version);
            signed["custom"] = json!({"whimbrel": fields});
        },
        &[key(3)],
    );
    repo.publish(NOW);
}

fn floor(device: &Device) -> Option<String> {
    device.trust.floor(&"m".parse().expect("a name")).map(ToString::to_string)
}

#[tokio::test]
async fn only_a_signed_statement_lowers_a_floor_and_only_once() {
    let mut repo = Repo::new();
    say(&mut repo, json!({"floors": {"m": "2.0.0"}}));
    let mut device = Device::refreshed(&repo).await;
    assert_eq!(floor(&device).as_deref(), Some("2.0.0"));
    say(&mut repo, json!({"floors": {"m": "1.0.0"}}));
    device.refresh(&repo).await.expect("refreshes");
    assert_eq!(floor(&device).as_deref(), Some("2.0.0"), "no statement");
    let statement = json!({"number": 1, "floor": "1.0.0"});
    say(&mut repo, json!({"floors": {"m": "1.0.0"}, "downgrades": {"m": statement}}));
    device.refresh(&repo).await.expect("refreshes");
    let mut device = device.reopen().expect("opens");
    assert_eq!(floor(&device).as_deref(), Some("1.0.0"));
    say(&mut repo, json!({"floors": {"m": "3.0.0"}, "downgrades": {"m": statement}}));
    device.refresh(&repo).await.expect("refreshes");
    say(&mut repo, json!({"downgrades": {"m": statement}}));
    device.refresh(&repo).await.expect("refreshes");
    let device = device.reopen().expect("opens");
    assert_eq!(floor(&device).as_deref(), Some("3.0.0"), "the statement was heeded before");
}

#[test]
fn statements_that_are_none_make_the_targets_void() {
    let repo = Repo::new();
    for bad in [
        json!({"downgrades": {"m": {"number": 0, "floor": "1.0.0"}}}),
        json!({"downgrades": {"m": "1.0.0"}}),
        json!({"downgrades": {"m": {"number": 1, "floor": "old"}}}),
        json!({"floors": []}),
    ] {
        let mut value: Value = serde_json::from_slice(&repo.targets).expect("JSON");
        value["signed"]["custom"] = json!({"whimbrel": bad});
        let result = Signed::<Targets>::parse(&serde_json::to_vec(&value).expect("JSON"));
        assert!(matches!(result, Err(TufError::Malformed { .. })), "{bad}");
    }
}

/// Has the timestamp say that it was signed then.
fn sign_at(repo: &mut Repo, version: u64, at: &str) {
    repo.timestamp = forge(
        &repo.timestamp,
        |signed| {
            signed["version"] = json!(version);
            signed["custom"] = json!({"whimbrel": {"signed_at": at}});
        },
        &[key(5)],
    );
    repo.upload();
}

#[tokio::test]
async fn a_clock_that_was_never_set_passes_nothing_that_had_expired() {
    let mut repo = Repo::new();
    sign_at(&mut repo, 2, "2030-01-02T00:00:00Z");
    let mut device = Device::refreshed(&repo).await;
    let unset = datetime!(1970-01-01 00:00 UTC);
    device.refresh_at(&repo, unset).await.expect("nothing has expired");
    // The server is broken into and gives snapshots of the past with a new date on the timestamp.
    let expired = |signed: &mut Value| {
        signed["version"] = json!(2);
        signed["expires"] = json!("2030-01-01T12:00:00Z");
    };
    repo.snapshot = forge(&repo.snapshot, expired, &[key(5)]);
    repo.timestamp = unhashed_timestamp(&repo, 3, 2);
    sign_at(&mut repo, 3, "2030-01-02T00:00:00Z");
    assert_eq!(kind(device.refresh_at(&repo, unset).await), ReasonKind::Expired);
}

#[tokio::test]
async fn a_clock_that_was_far_ahead_leaves_no_trace() {
    let mut repo = Repo::new();
    let mut device = Device::refreshed(&repo).await;
    repo.publish(NOW);
    let far = datetime!(2100-01-01 00:00 UTC);
    let error = device.refresh_at(&repo, far).await.expect_err("all has expired");
    assert!(error.is_temporary() && error.to_string().contains("2100"), "{error}");
    let mut device = device.reopen().expect("opens");
    device.refresh(&repo).await.expect("the clock is right again");
    assert_eq!(device.versions(), [1, 2, 2, 1]);
}

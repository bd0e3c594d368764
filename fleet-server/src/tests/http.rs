//! The HTTPS API.

use super::harness::{Release, Server, batch, bundle, csr, new_key, report, sha256};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};
use whimbrel_updater::repo::SigningKey;
use whimbrel_wire::{
    decode,
    desired::DesiredState,
    encode,
    report::{Progress, Reason, ReasonKind},
    telemetry::Ack,
};

const MANY: usize = 2 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn operators_need_a_token_and_a_role() {
    let server = Server::start().await;
    let client = server.client(None);
    let without = client.get(server.url("/api/v1/devices")).send().await.expect("answer");
    assert_eq!(without.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(without.headers()["content-type"], "application/problem+json");
    let wrong =
        client.get(server.url("/api/v1/devices")).bearer_auth("x".repeat(64)).send().await.expect("answer");
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    let viewer =
        crate::store::operators::Operator { name: "eve".into(), role: crate::store::operators::Role::Viewer };
    server.app.fleet.store().add_operator("viewers-token", &viewer, 0).await.expect("added");
    let ask =
        |method, path: &str| client.request(method, server.url(path)).bearer_auth("viewers-token").body("{}");
    assert_eq!(ask(Method::GET, "/api/v1/devices").send().await.expect("answer").status(), StatusCode::OK);
    for path in [
        "/api/v1/enrollment-tokens",
        "/api/v1/rollouts",
        "/api/v1/repository/root",
        "/api/v1/rollouts/r-1/pause",
    ] {
        assert_eq!(
            ask(Method::POST, path).send().await.expect("answer").status(),
            StatusCode::FORBIDDEN,
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_enrols_once_and_only_whom_it_was_made_for() {
    let server = Server::start().await;
    let key = new_key();
    let secret = server.token(json!({"ttl_s": 60, "tags": ["beta"]})).await;
    // A refused request does not use the token up.
    assert_eq!(server.try_enrol(&secret, "cam-1", "not a request").await.status(), StatusCode::BAD_REQUEST);
    server.enrol_with(&secret, "cam-1").await;
    assert_eq!(
        server.try_enrol(&secret, "cam-2", &csr(&key)).await.status(),
        StatusCode::FORBIDDEN,
        "used twice"
    );
    assert_eq!(server.try_enrol("guess", "cam-2", &csr(&key)).await.status(), StatusCode::FORBIDDEN);
    let bound = server.token(json!({"ttl_s": 60, "device": "cam-9"})).await;
    assert_eq!(server.try_enrol(&bound, "cam-8", &csr(&key)).await.status(), StatusCode::FORBIDDEN);
    let any = server.token(json!({"ttl_s": 60})).await;
    assert_eq!(
        server.try_enrol(&any, "cam-1", &csr(&key)).await.status(),
        StatusCode::CONFLICT,
        "name taken"
    );
    let view = server.get("/api/v1/devices/cam-1").await;
    assert_eq!((&view["tags"], &view["online"]), (&json!(["beta"]), &json!(false)));
    assert_eq!(server.call(Method::GET, "/api/v1/devices/cam-7", "").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(
        server.call(Method::GET, "/api/v1/devices/..%2Fx", "").await.status(),
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn device_paths_want_a_certificate_that_stands() {
    let server = Server::start().await;
    let old = server.enrol("cam-1").await;
    let ask = |client: reqwest::Client| client.get(server.url("/api/v1/device/desired")).send();
    assert_eq!(ask(server.client(None)).await.expect("answer").status(), StatusCode::UNAUTHORIZED);
    assert_eq!(ask(server.client(Some(&old))).await.expect("answer").status(), StatusCode::OK);
    // Enrolled again: the earlier certificate ends.
    let again = server.token(json!({"ttl_s": 60, "device": "cam-1"})).await;
    let new = server.enrol_with(&again, "cam-1").await;
    assert_eq!(ask(server.client(Some(&old))).await.expect("answer").status(), StatusCode::FORBIDDEN);
    assert_eq!(ask(server.client(Some(&new))).await.expect("answer").status(), StatusCode::OK);
    let revoked = server.call(Method::POST, "/api/v1/devices/cam-1/revoke", "").await;
    assert_eq!(revoked.status(), StatusCode::NO_CONTENT);
    assert_eq!(ask(server.client(Some(&new))).await.expect("answer").status(), StatusCode::FORBIDDEN);
    // A certificate of another CA does not even finish the handshake.
    let other = Server::start().await;
    let stranger = other.enrol("cam-1").await;
    assert!(ask(server.client(Some(&stranger))).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_is_counted_once_and_acknowledged_always() {
    let server = Server::start().await;
    let device = server.enrol("cam-1").await;
    let client = server.client(Some(&device));
    let send = |bytes: Vec<u8>| client.post(server.url("/api/v1/device/telemetry")).body(bytes).send();
    for (sequence, requests) in [(1, 10), (1, 10), (2, 5), (1, 10)] {
        let bytes = encode(&batch(u64::MAX, sequence, requests)).expect("valid");
        let answer = send(bytes).await.expect("answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let ack: Ack = decode(&answer.bytes().await.expect("body")).expect("ack");
        assert_eq!(ack, Ack { boot: u64::MAX, sequences: vec![sequence] });
    }
    let sums = server.get("/api/v1/telemetry/summary").await;
    let sum = &sums["summary"][0];
    assert_eq!((&sum["requests"], &sum["errors"]), (&json!(15), &json!(2)));
    assert_eq!((&sum["batches"], &sum["devices"]), (&json!(2), &json!(1)));
    assert!(sum["latency_p50_ms"].as_f64().is_some_and(|ms| (ms - 2.0).abs() < 0.02));
    for bad in [vec![], vec![9, 9, 9], vec![1, 0xff]] {
        assert_eq!(send(bad).await.expect("answer").status(), StatusCode::BAD_REQUEST);
    }
    assert_eq!(send(vec![1; MANY]).await.expect("answer").status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_beyond_their_limit_are_refused_with_or_without_a_length() {
    let server = Server::start().await;
    let path = format!("/api/v1/repository/chunks/{}", sha256(b"x"));
    let stream = || {
        reqwest::Body::wrap_stream(futures_util::stream::iter(
            (0..64).map(|_| Ok::<_, std::io::Error>(vec![0u8; 64 << 10])),
        ))
    };
    let announced = server.call(Method::PUT, &path, vec![0u8; MANY]).await;
    assert_eq!(announced.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let chunked = server.call(Method::PUT, &path, stream()).await;
    assert_eq!(chunked.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(chunked.headers()["content-type"], "application/problem+json");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_must_be_signed_and_complete() {
    let server = Server::start().await;
    let post = |path: &'static str, bytes: Vec<u8>| server.call(Method::POST, path, bytes);
    let (root_path, targets_path) = ("/api/v1/repository/root", "/api/v1/repository/targets");
    // A root that is not signed, one that does not list the server's key.
    let key = SigningKey::generate().expect("key");
    let root = Release::root(&server, &key).await;
    let mut unsigned: Value = serde_json::from_slice(&root).expect("json");
    unsigned["signatures"] = json!([]);
    assert_eq!(post(root_path, unsigned.to_string().into_bytes()).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(post(root_path, b"{}".to_vec()).await.status(), StatusCode::BAD_REQUEST);
    let other = Server::start().await;
    let foreign = Release::root(&other, &key).await;
    assert_eq!(post(root_path, foreign).await.status(), StatusCode::BAD_REQUEST);

    let mut release = Release::start(&server).await;
    assert_eq!(post(root_path, root).await.status(), StatusCode::FORBIDDEN, "by keys of another root");
    let same = Release::root(&server, &release.key).await;
    assert_eq!(post(root_path, same).await.status(), StatusCode::CONFLICT, "version 1 twice");
    let (targets, index, chunk) = release.draft("1.0.0");
    let missing = post(targets_path, targets.clone()).await;
    assert_eq!(missing.status(), StatusCode::CONFLICT);
    let problem: Value = missing.json().await.expect("json");
    assert!(problem["detail"].as_str().is_some_and(|d| d.contains("target digits/1.0.0.wbi")), "{problem}");
    let asked = server.post("/api/v1/repository/chunks/missing", json!({"hashes": [sha256(&chunk)]})).await;
    assert_eq!(asked["hashes"], json!([sha256(&chunk)]));
    let wrong = format!("/api/v1/repository/chunks/{}", sha256(b"other"));
    assert_eq!(server.call(Method::PUT, &wrong, chunk.clone()).await.status(), StatusCode::BAD_REQUEST);
    let not_an_index = format!("/api/v1/repository/targets/{}", sha256(&chunk));
    assert_eq!(
        server.call(Method::PUT, &not_an_index, chunk.clone()).await.status(),
        StatusCode::BAD_REQUEST
    );

    let name = release.publish(&server, "1.0.0").await;
    assert_eq!(post(targets_path, targets).await.status(), StatusCode::CONFLICT, "version 1 twice");
    let view = server.get("/api/v1/repository").await;
    assert_eq!((&view["root_version"], &view["targets_version"]), (&json!(1), &json!(1)));
    let models = server.get("/api/v1/models").await;
    assert_eq!(models["models"][0]["target"], json!("digits/1.0.0.wbi"));
    let served = server.client(None).get(server.url(&format!("/tuf/targets/digits/{name}.1.0.0.wbi")));
    assert_eq!(served.send().await.expect("answer").bytes().await.expect("body")[..], index[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_metadata_is_satisfied_and_files_have_ranges() {
    let server = Server::start().await;
    let mut release = Release::start(&server).await;
    release.publish(&server, "1.0.0").await;
    release.publish(&server, "1.1.0").await;
    let client = server.client(None);
    let get = |path: String| {
        let request = client.get(server.url(&path));
        async move { request.send().await.expect("answer") }
    };
    let bytes = |path: &str| {
        let answer = get(format!("/tuf/{path}"));
        async move { answer.await.bytes().await.expect("body").to_vec() }
    };
    let mut trusted = whimbrel_updater::tuf::Trusted::new(&bytes("1.root.json").await).expect("root");
    let now = time::OffsetDateTime::now_utc();
    trusted.update_timestamp(&bytes("timestamp.json").await, now).expect("timestamp");
    trusted.update_snapshot(&bytes("2.snapshot.json").await, now).expect("snapshot");
    trusted.update_targets(&bytes("2.targets.json").await, now).expect("targets");
    let targets = &trusted.targets().expect("there").body().targets;
    assert!(targets.contains_key("digits/1.1.0.wbi") && targets.contains_key("digits/1.0.0.wbi"));

    let chunk = bundle("1.0.0").1;
    let path = format!("/chunks/{}", sha256(&chunk));
    let whole = get(path.clone()).await;
    assert!(whole.headers()["cache-control"].to_str().expect("text").contains("immutable"));
    assert_eq!(whole.content_length(), Some(chunk.len() as u64));
    let part = client.get(server.url(&path)).header("range", "bytes=2-4").send().await.expect("answer");
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.bytes().await.expect("body")[..], chunk[2..5]);
    for absent in
        ["/tuf/9.root.json", "/tuf/root.json", "/chunks/xx", "/tuf/targets/digits/x.1.0.0.wbi", "/nothing"]
    {
        assert_eq!(get(absent.to_owned()).await.status(), StatusCode::NOT_FOUND, "{absent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_goes_on_by_reports_over_https_and_says_why_not() {
    let server = Server::start().await;
    let mut release = Release::start(&server).await;
    let first = release.publish(&server, "1.0.0").await;
    release.publish(&server, "2.0.0").await;
    let device = server.enrol("cam-1").await;
    let client = server.client(Some(&device));
    let unpublished =
        json!({"model": "digits", "version": "9.0.0", "stages": [100], "success_percent_min": 100});
    let answer = server.call(Method::POST, "/api/v1/rollouts", unpublished.to_string()).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let wrong = json!({"model": "digits", "version": "1.0.0", "stages": [50], "success_percent_min": 100});
    assert_eq!(
        server.call(Method::POST, "/api/v1/rollouts", wrong.to_string()).await.status(),
        StatusCode::BAD_REQUEST
    );

    let desired = || async {
        let answer = client.get(server.url("/api/v1/device/desired")).send().await.expect("answer");
        let etag = answer.headers()["etag"].to_str().expect("text").to_owned();
        (decode::<DesiredState>(&answer.bytes().await.expect("body")).expect("state"), etag)
    };
    let tell = |report| {
        let request = client.post(server.url("/api/v1/device/report")).body(encode(&report).expect("valid"));
        async move { assert_eq!(request.send().await.expect("answer").status(), StatusCode::NO_CONTENT) }
    };
    let start = |version: &str| json!({"model": "digits", "version": version, "stages": [100], "success_percent_min": 100});

    let view = server.post("/api/v1/rollouts", start("1.0.0")).await;
    assert_eq!((&view["id"], &view["counts"]["asked"]), (&json!("r-1"), &json!(1)));
    let (state, etag) = desired().await;
    assert_eq!((state.serial, state.models[0].attempt, state.models[0].rollout.as_str()), (1, 1, "r-1"));
    let known = client.get(server.url("/api/v1/device/desired")).header("if-none-match", &etag).send().await;
    assert_eq!(known.expect("answer").status(), StatusCode::NOT_MODIFIED);
    tell(report(1, &state.models[0], Some(("1.0.0", first)), Progress::Active {})).await;
    server.until("/api/v1/rollouts/r-1", |r| r["state"] == "done").await;

    // Refused: the gate fails, the rollout pauses, the device says why; resuming offers it again.
    server.post("/api/v1/rollouts", start("2.0.0")).await;
    let (state, _) = desired().await;
    assert_eq!((state.serial, state.models[0].version.to_string().as_str()), (2, "2.0.0"));
    let reason = Reason::new(ReasonKind::GoldenMismatch, "vector 3");
    tell(report(2, &state.models[0], Some(("1.0.0", first)), Progress::Rejected { reason })).await;
    server.until("/api/v1/rollouts/r-2", |r| r["state"] == "paused" && r["counts"]["rejected"] == 1).await;
    let view = server.get("/api/v1/devices/cam-1").await;
    assert_eq!(view["why"][0], json!("digits: refused 2.0.0: golden_mismatch: vector 3; 1.0.0 stays active"));
    server.post("/api/v1/rollouts/r-2/resume", json!({})).await;
    let (state, _) = desired().await;
    assert_eq!((state.serial, state.models[0].attempt), (3, 2));

    // Rolled back: the device is asked to run what it ran before.
    server.post("/api/v1/rollouts/r-2/rollback", json!({})).await;
    let (state, _) = desired().await;
    assert_eq!((state.serial, state.models[0].version.to_string().as_str()), (4, "1.0.0"));
    assert_eq!(
        server.call(Method::POST, "/api/v1/rollouts/r-2/pause", "").await.status(),
        StatusCode::CONFLICT
    );
    assert_eq!(
        server.call(Method::POST, "/api/v1/rollouts/r-9/pause", "").await.status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        server.call(Method::POST, "/api/v1/rollouts/r-2/explode", "").await.status(),
        StatusCode::NOT_FOUND
    );

    // A device that enrols later gets the finished version; everything survives a restart.
    let server = server.restart().await;
    let late = server.enrol("cam-2").await;
    server.until("/api/v1/rollouts/r-1", |r| r["counts"]["asked"] == 2).await;
    let answer =
        server.client(Some(&late)).get(server.url("/api/v1/device/desired")).send().await.expect("answer");
    let state: DesiredState = decode(&answer.bytes().await.expect("body")).expect("state");
    assert_eq!(state.models[0].version.to_string(), "1.0.0");
    let verdict = server.app.fleet.store().verify_audit().await.expect("read");
    assert!(matches!(verdict, crate::store::audit::Verdict::Whole { rows } if rows > 10), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_are_open_and_name_no_device() {
    let server = Server::start().await;
    server.enrol("very-secret-name").await;
    let client = server.client(None);
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = client.get(server.url(path)).send().await.expect("answer");
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let text = answer.text().await.expect("text");
        assert!(!text.contains("very-secret-name"));
        assert_eq!(path == "/metrics", text.contains("whimbrel_fleet_devices_online 0"), "{text}");
    }
    let wrong = client.delete(server.url("/livez")).send().await.expect("answer");
    assert_eq!(wrong.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_renewed_before_they_expire() {
    let start = time::OffsetDateTime::now_utc().unix_timestamp();
    let clock = Arc::new(AtomicI64::new(start));
    let server = Server::start_at(&clock).await;
    let mut release = Release::start(&server).await;
    release.publish(&server, "1.0.0").await;
    let fetch = |file: &'static str| {
        let request = server.client(None).get(server.url(&format!("/tuf/{file}")));
        async move { request.send().await.expect("answer") }
    };
    let version = || async {
        let file: Value = fetch("timestamp.json").await.json().await.expect("json");
        (file["signed"]["version"].clone(), file["signed"]["meta"]["snapshot.json"]["version"].clone())
    };
    let after = |hours: i64| {
        clock.store(start + hours * 3600, Ordering::SeqCst);
        server.app.fleet.renew_signatures()
    };
    after(11).await.expect("looked");
    assert_eq!(version().await, (json!(1), json!(1)));
    after(13).await.expect("renewed");
    assert_eq!(version().await, (json!(2), json!(1)));
    after(4 * 24).await.expect("renewed");
    assert_eq!(version().await, (json!(3), json!(2)));
    assert_eq!(fetch("2.snapshot.json").await.status(), StatusCode::OK);
    let metrics = server.client(None).get(server.url("/metrics")).send().await.expect("answer");
    assert!(metrics.text().await.expect("text").contains("expires_timestamp_seconds{role=\"snapshot\"}"));
}

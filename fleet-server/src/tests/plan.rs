//! What a rollout would do is told before it is started.

use super::harness::{Identity, Release, Server, bundle, report, sha256};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use whimbrel_wire::{
    Digest,
    api::{FetchPlan, RolloutPlan},
    desired::DesiredModel,
    encode,
    report::Progress,
};

fn new(version: &str, tags: &[&str]) -> Value {
    json!({"model": "digits", "version": version, "stages": [50, 100], "tags": tags, "success_percent_min": 100})
}

async fn says_active(server: &Server, device: &Identity, version: &str, bundle: Digest) {
    let asked = DesiredModel {
        name: "digits".parse().expect("valid"),
        version: version.parse().expect("valid"),
        target: format!("digits/{version}.wbi"),
        attempt: 1,
        rollout: String::new(),
    };
    let said = report(1, &asked, Some((version, bundle)), Progress::Active {});
    let request = server.client(Some(device)).post(server.url("/api/v1/device/report"));
    let answer = request.body(encode(&said).expect("valid")).send().await.expect("answer");
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
}

async fn plan(server: &Server, new: Value) -> RolloutPlan {
    let view = server.post("/api/v1/rollouts/plan", new).await;
    serde_json::from_value(view).expect("a plan")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_goes_by_what_every_device_has_and_starts_nothing() {
    let server = Server::start().await;
    let mut release = Release::start(&server).await;
    let first = release.publish(&server, "1.0.0").await;
    release.publish(&server, "2.0.0").await;
    let whole_bytes = bundle("2.0.0").1.len() as u64;

    let nobody = plan(&server, new("2.0.0", &[])).await;
    assert_eq!((nobody.total, nobody.stages.len()), (FetchPlan::default(), 2));

    // One with the version before, whose chunk has the same content; one with a bundle from elsewhere; one with none; one
    // that is out.
    let old = server.enrol("cam-old").await;
    says_active(&server, &old, "1.0.0", first).await;
    let foreign = server.enrol("cam-foreign").await;
    says_active(&server, &foreign, "1.5.0", sha256(b"from a file")).await;
    let secret = server.token(json!({"ttl_s": 60, "tags": ["new"]})).await;
    server.enrol_with(&secret, "cam-none").await;
    server.enrol("cam-out").await;
    server.call(Method::POST, "/api/v1/devices/cam-out/revoke", "").await;

    let planned = plan(&server, new("2.0.0", &[])).await;
    let fetch = |devices, moved_bytes| FetchPlan { devices, moved_bytes, whole_bytes: devices * whole_bytes };
    assert_eq!(planned.total, fetch(3, 2 * whole_bytes));
    assert_eq!(planned.stages[0].fetch.devices + planned.stages[1].fetch.devices, 3);
    let of = |version: Option<&str>| {
        let source = planned
            .sources
            .iter()
            .find(|s| s.active.as_ref().map(|a| a.version.to_string()).as_deref() == version);
        source.map(|s| (s.compared, s.fetch)).expect("a line")
    };
    assert_eq!(of(Some("1.0.0")), (true, fetch(1, 0)));
    assert_eq!(of(Some("1.5.0")), (false, fetch(1, whole_bytes)));
    assert_eq!(of(None), (true, fetch(1, whole_bytes)));
    let tagged = plan(&server, new("2.0.0", &["new"])).await;
    assert_eq!(tagged.total, fetch(1, whole_bytes));
    assert_eq!(tagged.stages[0].first, ["cam-none".parse().expect("valid")]);

    // Nothing was started, and the first stage asks whom the plan says.
    assert_eq!(server.get("/api/v1/rollouts").await["rollouts"], json!([]));
    let view = server.post("/api/v1/rollouts", new("2.0.0", &[])).await;
    assert_eq!(view["counts"]["asked"], json!(planned.stages[0].fetch.devices));
    for device in &planned.stages[0].first {
        let why = server.get(&format!("/api/v1/devices/{device}")).await["why"].to_string();
        assert!(why.contains("2.0.0"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_cannot_be_planned() {
    let server = Server::start().await;
    let mut release = Release::start(&server).await;
    release.publish(&server, "1.0.0").await;
    let wrong = json!({"model": "digits", "version": "1.0.0", "stages": [50], "success_percent_min": 100});
    for (body, status) in [
        (new("9.0.0", &[]), StatusCode::NOT_FOUND),
        (wrong, StatusCode::BAD_REQUEST),
        (json!({}), StatusCode::BAD_REQUEST),
    ] {
        let answer = server.call(Method::POST, "/api/v1/rollouts/plan", body.to_string()).await;
        assert_eq!(answer.status(), status, "{body}");
    }
    let anyone = server.client(None).post(server.url("/api/v1/rollouts/plan"));
    let answer = anyone.body(new("1.0.0", &[]).to_string()).send().await.expect("answer");
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}

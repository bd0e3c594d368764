//! The embedded broker, from a device's side.

use super::harness::{Release, Server, batch, report, topic};
use reqwest::Method;
use rumqttc::v5::mqttbytes::{
    QoS,
    v5::{Packet, PubAckReason},
};
use serde_json::json;
use whimbrel_wire::{
    desired::DesiredState,
    encode,
    report::{Progress, Status},
    telemetry::Ack,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_gets_its_desired_state_and_acknowledgements() {
    let server = Server::start().await;
    let mut release = Release::start(&server).await;
    let bundle = release.publish(&server, "1.0.0").await;
    let id = server.enrol("cam-1").await;
    let rollout = json!({"model": "digits", "version": "1.0.0", "stages": [100], "success_percent_min": 100});
    server.post("/api/v1/rollouts", rollout).await;

    // Retained: published before the device came.
    let mut device = server.online(&id).await;
    assert!(device.subscribe(&topic("cam-1", "desired")).await);
    let state: DesiredState = device.message(&topic("cam-1", "desired")).await;
    assert_eq!((state.serial, state.models.len()), (1, 1));
    server.until("/api/v1/devices/cam-1", |d| d["online"] == true).await;

    assert!(device.subscribe(&topic("cam-1", "ack")).await);
    for sequence in [1, 2, 1] {
        device.publish(&topic("cam-1", "telemetry"), encode(&batch(7, sequence, 3)).expect("valid")).await;
        let ack: Ack = device.message(&topic("cam-1", "ack")).await;
        assert_eq!(ack, Ack { boot: 7, sequences: vec![sequence] });
    }
    let sums = server.get("/api/v1/telemetry/summary").await;
    assert_eq!(sums["summary"][0]["requests"], json!(6));

    let said = report(1, &state.models[0], Some(("1.0.0", bundle)), Progress::Active {});
    device.publish(&topic("cam-1", "report"), encode(&said).expect("valid")).await;
    let drive = async {
        loop {
            device.next().await.expect("connected");
        }
    };
    tokio::select! {
        () = drive => {}
        _ = server.until("/api/v1/rollouts/r-1", |r| r["state"] == "done") => {}
    }
    drop(device);
    server.until("/api/v1/devices/cam-1", |d| d["online"] == false).await;

    // The retained state is in the broker's memory only: a restart publishes it again.
    let server = server.restart().await;
    let mut device = server.online(&id).await;
    assert!(device.subscribe(&topic("cam-1", "desired")).await);
    let again: DesiredState = device.message(&topic("cam-1", "desired")).await;
    assert_eq!(again, state);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_a_connected_device_at_once() {
    let server = Server::start().await;
    let mut release = Release::start(&server).await;
    release.publish(&server, "1.0.0").await;
    let id = server.enrol("cam-1").await;
    let mut device = server.online(&id).await;
    assert!(device.subscribe(&topic("cam-1", "desired")).await);
    let rollout = json!({"model": "digits", "version": "1.0.0", "stages": [100], "success_percent_min": 100});
    server.post("/api/v1/rollouts", rollout).await;
    let state: DesiredState = device.message(&topic("cam-1", "desired")).await;
    assert_eq!(state.serial, 1);
    server.post("/api/v1/rollouts/r-1/abort", json!({})).await;
    let state: DesiredState = device.message(&topic("cam-1", "desired")).await;
    assert_eq!((state.serial, state.models.len()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_device_speaks_or_listens_for_another() {
    let server = Server::start().await;
    let (id, other) = (server.enrol("cam-1").await, server.enrol("cam-2").await);
    let mut device = server.online(&id).await;
    for refused in [
        topic("cam-2", "desired"),
        topic("cam-2", "ack"),
        topic("cam-1", "telemetry"),
        topic("+", "desired"),
        "whimbrel/#".into(),
        "#".into(),
        "$SYS/#".into(),
        format!("$share/group/{}", topic("cam-1", "desired")),
    ] {
        assert!(!device.subscribe(&refused).await, "{refused}");
    }
    let mut victim = server.online(&other).await;
    assert!(victim.subscribe(&topic("cam-2", "desired")).await);
    assert!(victim.subscribe(&topic("cam-2", "ack")).await);
    for refused in
        [topic("cam-2", "telemetry"), topic("cam-2", "desired"), topic("cam-1", "desired"), "x".into()]
    {
        let bytes = encode(&batch(1, 1, 1)).expect("valid");
        device.client.publish(refused.clone(), QoS::AtLeastOnce, true, bytes).await.expect("queued");
        let reason = loop {
            if let Packet::PubAck(ack) = device.next().await.expect("connected") {
                break ack.reason;
            }
        };
        assert_eq!(reason, PubAckReason::NotAuthorized, "{refused}");
    }
    // Its own batch is the only one that was counted, and nothing reached the other device before its own.
    victim.publish(&topic("cam-2", "telemetry"), encode(&batch(5, 1, 1)).expect("valid")).await;
    let ack: Ack = loop {
        if let Packet::Publish(publish) = victim.next().await.expect("connected") {
            break whimbrel_wire::decode(&publish.payload).expect("an acknowledgement comes first");
        }
    };
    assert_eq!(ack.boot, 5);
    assert_eq!(server.get("/api/v1/telemetry/summary").await["summary"][0]["batches"], json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_needs_the_certificate_of_its_client_id() {
    let server = Server::start().await;
    let (id, _) = (server.enrol("cam-1").await, server.enrol("cam-2").await);
    assert!(server.mqtt("cam-2", Some(&id), None).connected().await.is_err(), "another client id");
    assert!(server.mqtt("cam-1", None, None).connected().await.is_err(), "no certificate");
    let other = Server::start().await.enrol("cam-1").await;
    assert!(server.mqtt("cam-1", Some(&other), None).connected().await.is_err(), "another CA");
    let stolen = topic("cam-2", "status");
    assert!(server.mqtt("cam-1", Some(&id), Some(&stolen)).connected().await.is_err(), "a will for another");
    let own = topic("cam-1", "status");
    assert!(server.mqtt("cam-1", Some(&id), Some(&own)).connected().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_ends_the_connection_and_keeps_it_ended() {
    let server = Server::start().await;
    let id = server.enrol("cam-1").await;
    let mut device = server.online(&id).await;
    let revoked = server.call(Method::POST, "/api/v1/devices/cam-1/revoke", "").await;
    assert!(revoked.status().is_success());
    while device.next().await.is_ok() {}
    assert!(server.mqtt("cam-1", Some(&id), None).connected().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_messages_are_dropped_and_counted_only() {
    let server = Server::start().await;
    let id = server.enrol("cam-1").await;
    let mut device = server.online(&id).await;
    assert!(device.subscribe(&topic("cam-1", "ack")).await);
    for leaf in ["telemetry", "report", "status"] {
        device.publish(&topic("cam-1", leaf), vec![0xff; 100]).await;
    }
    let status = Status { online: true, boot: 1 };
    device.publish(&topic("cam-1", "status"), encode(&status).expect("valid")).await;
    device.publish(&topic("cam-1", "telemetry"), encode(&batch(1, 1, 1)).expect("valid")).await;
    let ack: Ack = device.message(&topic("cam-1", "ack")).await;
    assert_eq!(ack.sequences, [1]);
    let metrics = server.client(None).get(server.url("/metrics")).send().await.expect("answer");
    let text = metrics.text().await.expect("text");
    assert!(text.contains("whimbrel_fleet_messages_refused_total 3\n"), "{text}");
}

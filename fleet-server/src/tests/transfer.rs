//! Metadata, targets and chunks over the embedded broker.

use super::harness::{Mqtt, Release, Server, sha256, topic, within};
use reqwest::{Method, StatusCode};
use rumqttc::v5::mqttbytes::{
    QoS,
    v5::{Packet, PubAckReason},
};
use std::sync::Arc;
use whimbrel_updater::{
    transport::{MqttPort, Transport as _, TransportError, mqtt},
    tuf::Source as _,
};
use whimbrel_wire::{
    Digest, encode,
    transfer::{Get, Item, PART_BYTES_MAX, WINDOW_ITEMS, Want},
};

/// Bytes that do not repeat.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

async fn put_chunk(server: &Server, bytes: &[u8]) -> Digest {
    let path = format!("/api/v1/repository/chunks/{}", sha256(bytes));
    let answer = server.call(Method::PUT, &path, bytes.to_vec()).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    sha256(bytes)
}

/// Carries what the transport asks for and what comes back, until the connection ends.
async fn carry(mut device: Mqtt, id: &str, port: MqttPort) {
    assert!(device.subscribe(&topic(id, "chunk/+")).await);
    assert!(device.subscribe(&topic(id, "file")).await);
    let (port, client, get) = (Arc::new(port), device.client.clone(), topic(id, "chunk/get"));
    port.connected();
    let asking = tokio::spawn({
        let port = Arc::clone(&port);
        async move {
            loop {
                let bytes = encode(&port.next().await).expect("a good get");
                client.publish(&get, QoS::AtMostOnce, false, bytes).await.expect("queued");
            }
        }
    });
    while let Ok(packet) = device.next().await {
        if let Packet::Publish(publish) = packet {
            port.answer(&publish.payload).expect("an answer, and nothing else");
        }
    }
    asking.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_an_update_needs_comes_over_mqtt() {
    let server = Server::start().await;
    let mut release = Release::start(&server).await;
    let index = release.publish(&server, "1.0.0").await;
    let largest = noise(PART_BYTES_MAX);
    let mut chunks = vec![put_chunk(&server, &largest).await];
    for len in 1..40 {
        chunks.push(put_chunk(&server, &noise(len * 1000)).await);
    }
    let id = server.enrol("cam-1").await;
    let (transport, port) = mqtt();
    let device = server.online(&id).await;
    let carrying = tokio::spawn(async move { carry(device, "cam-1", port).await });

    let over_https = |path: String| {
        let request = server.client(None).get(server.url(&path));
        async move { request.send().await.expect("answer").bytes().await.expect("bytes") }
    };
    for file in ["1.root.json", "timestamp.json", "1.targets.json"] {
        let bytes = within(transport.metadata(file, 1 << 20)).await.expect("came").expect("is there");
        assert_eq!(bytes, over_https(format!("/tuf/{file}")).await, "{file}");
    }
    assert_eq!(within(transport.metadata("2.root.json", 1 << 20)).await.expect("answered"), None);
    assert_eq!(within(transport.metadata("../fleet.db", 1 << 20)).await.expect("answered"), None);

    let name = format!("digits/{index}.1.0.0.wbi");
    let target = within(transport.target(&name, 1 << 20)).await.expect("came");
    assert_eq!(sha256(&target), index);
    let short = within(transport.target(&name, 10)).await;
    assert!(matches!(short, Err(TransportError::TooLarge { .. })), "{short:?}");
    // A chunk is no target, whatever it is called.
    let other = within(transport.target(&format!("digits/{}.1.0.0.wbi", chunks[0]), 1 << 20)).await;
    assert!(matches!(other, Err(TransportError::NotFound { .. })), "{other:?}");

    let fetches = chunks.iter().map(|stored| transport.chunk(*stored, PART_BYTES_MAX as u64));
    let fetched = within(futures_util::future::join_all(fetches)).await;
    for (stored, bytes) in chunks.iter().zip(fetched) {
        assert_eq!(sha256(&bytes.expect("came")), *stored);
    }
    let absent = within(transport.chunk(Digest::new([9; 32]), 100)).await;
    assert!(matches!(absent, Err(TransportError::NotFound { .. })), "{absent:?}");
    carrying.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_on_over_the_next_connection() {
    let server = Server::start().await;
    let stored = put_chunk(&server, &noise(5000)).await;
    let id = server.enrol("cam-1").await;
    let (transport, port) = mqtt();
    let fetch = tokio::spawn(async move { transport.chunk(stored, 5000).await });
    port.connected();
    // Asked for on a connection that ends.
    assert_eq!(within(port.next()).await.wants.len(), 1);
    port.disconnected();
    let device = server.online(&id).await;
    let carrying = tokio::spawn(async move { carry(device, "cam-1", port).await });
    assert_eq!(sha256(&within(fetch).await.expect("no panic").expect("came")), stored);
    carrying.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_device_asks_or_hears_for_another() {
    let server = Server::start().await;
    let id = server.enrol("cam-1").await;
    let mut device = server.online(&id).await;
    for refused in ["chunk/+", "chunk/#", "file", "+/get"] {
        assert!(!device.subscribe(&topic("cam-2", refused)).await, "{refused}");
        assert!(!device.subscribe(&topic("+", refused)).await, "{refused}");
    }
    assert!(!device.subscribe(&topic("cam-1", "chunk/get")).await, "its own requests");
    assert!(device.subscribe(&topic("cam-1", "chunk/#")).await);
    let want =
        Want { id: 1, item: Item::Chunk { stored: Digest::new([1; 32]) }, offset: 0, size_bytes_max: 9 };
    let get = encode(&Get { wants: vec![want] }).expect("valid");
    let answer = topic("cam-1", &format!("chunk/{}", Digest::new([1; 32])));
    for (topic, allowed) in [
        (topic("cam-2", "chunk/get"), false),
        (answer, false),
        (topic("cam-1", "file"), false),
        (topic("cam-1", "chunk/get"), true),
    ] {
        device.client.publish(topic.clone(), QoS::AtLeastOnce, false, get.clone()).await.expect("queued");
        let reason = loop {
            if let Packet::PubAck(ack) = device.next().await.expect("connected") {
                break ack.reason;
            }
        };
        assert_eq!(reason != PubAckReason::NotAuthorized, allowed, "{topic}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_has_no_more_answers_made_than_its_window() {
    let server = Server::start().await;
    let stored = put_chunk(&server, &noise(1000)).await;
    let id = server.enrol("cam-1").await;
    let mut device = server.online(&id).await;
    // It asks and asks and does not listen, so no answer ever leaves.
    for get in 0..5 {
        let want =
            |n| Want { id: get * 100 + n, item: Item::Chunk { stored }, offset: 0, size_bytes_max: 1000 };
        let get = Get { wants: (0..WINDOW_ITEMS as u64).map(want).collect() };
        device.publish(&topic("cam-1", "chunk/get"), encode(&get).expect("valid")).await;
    }
    for _ in 0..5 {
        while !matches!(device.next().await.expect("connected"), Packet::PubAck(_)) {}
    }
    let metrics = within(async {
        loop {
            let answer = server.client(None).get(server.url("/metrics")).send().await.expect("answer");
            let text = answer.text().await.expect("text");
            if text.contains("whimbrel_fleet_mqtt_wants_dropped_total 32\n") {
                return text;
            }
        }
    });
    let text = metrics.await;
    assert!(!text.contains("whimbrel_fleet_messages_refused_total 1"), "{text}");
    let made = text.lines().find_map(|line| line.strip_prefix("whimbrel_fleet_mqtt_parts_total "));
    assert!(made.and_then(|n| n.parse::<usize>().ok()).is_some_and(|n| n <= WINDOW_ITEMS), "{made:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gets_that_cannot_be_read_are_counted_and_answered_with_nothing() {
    let server = Server::start().await;
    let stored = put_chunk(&server, &noise(1000)).await;
    let id = server.enrol("cam-1").await;
    let mut device = server.online(&id).await;
    assert!(device.subscribe(&topic("cam-1", "chunk/+")).await);
    device.publish(&topic("cam-1", "chunk/get"), vec![1, 0xff]).await;
    device.publish(&topic("cam-1", "chunk/get"), Vec::new()).await;
    let want = Want { id: 7, item: Item::Chunk { stored }, offset: 0, size_bytes_max: 1000 };
    device.publish(&topic("cam-1", "chunk/get"), encode(&Get { wants: vec![want] }).expect("valid")).await;
    let part: whimbrel_wire::transfer::Part =
        device.message(&topic("cam-1", &format!("chunk/{stored}"))).await;
    assert_eq!(part.id, 7);
    let answer = server.client(None).get(server.url("/metrics")).send().await.expect("answer");
    let text = answer.text().await.expect("text");
    assert!(text.contains("whimbrel_fleet_messages_refused_total 2\n"), "{text}");
}

//! The transport against a server behind the port, in paused time.

use super::*;
use crate::testing::{Repo, Server, pack};
use std::time::Duration;
use tokio::task::JoinHandle;
use whimbrel_wire::{
    encode,
    transfer::{Content, PART_BYTES_MAX, Want},
};

/// Answers what the port asks for from the server in memory, in parts of at most `part_bytes`.
fn serve(port: MqttPort, server: Server, part_bytes: usize) -> JoinHandle<()> {
    tokio::spawn(async move {
        port.connected();
        loop {
            for want in port.next().await.wants {
                let part = Part { id: want.id, content: content(&server, &want, part_bytes) };
                port.answer(&encode(&part).expect("a good part")).expect("decodes");
            }
        }
    })
}

fn content(server: &Server, want: &Want, part_bytes: usize) -> Content {
    let files = server.lock();
    let whole = match &want.item {
        Item::Chunk { stored } => files.chunks.get(stored),
        Item::Metadata { file } => files.metadata.get(file),
        Item::Target { file } => files.targets.get(file),
    };
    let Some(whole) = whole else { return Content::NotFound {} };
    let total_bytes = whole.len() as u64;
    if total_bytes > want.size_bytes_max {
        return Content::TooLarge { total_bytes };
    }
    let from = usize::try_from(want.offset).expect("small");
    let bytes = whole[from..].iter().copied().take(part_bytes).collect();
    Content::Bytes { offset: want.offset, total_bytes, bytes }
}

fn repo() -> Repo {
    let mut repo = Repo::new();
    repo.release(&pack("m", "1.0.0", &crate::testing::noise(1, 400_000), ""));
    repo
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_file_comes_whole() {
    let repo = repo();
    let (mqtt, port) = mqtt();
    let serving = serve(port, repo.server.clone(), 7);
    let root = mqtt.metadata("1.root.json", 1 << 20).await.expect("answered");
    assert_eq!(root.as_deref(), Some(&repo.root[..]));
    assert_eq!(mqtt.metadata("2.root.json", 1 << 20).await.expect("answered"), None);
    let (name, index) =
        repo.server.lock().targets.first_key_value().map(|(n, b)| (n.clone(), b.clone())).expect("one");
    assert_eq!(mqtt.target(&name, 1 << 20).await.expect("came"), index);
    let short = mqtt.target(&name, 10).await;
    assert!(matches!(short, Err(TransportError::TooLarge { size_bytes_max: 10, .. })));
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn chunks_are_fetched_side_by_side() {
    let repo = repo();
    let (mqtt, port) = mqtt();
    let chunks = repo.server.lock().chunks.clone();
    let serving = serve(port, repo.server.clone(), PART_BYTES_MAX);
    let fetches = chunks.keys().map(|stored| mqtt.chunk(*stored, PART_BYTES_MAX as u64));
    let fetched = futures_util::future::join_all(fetches).await;
    let fetched: Vec<Vec<u8>> = fetched.into_iter().map(|bytes| bytes.expect("came").to_vec()).collect();
    assert_eq!(fetched, chunks.into_values().collect::<Vec<_>>());
    assert!(fetched.len() > 4, "more than the first window");
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_is_asked_for_no_more() {
    let (mqtt, port) = mqtt();
    port.connected();
    let stored = Digest::new([1; 32]);
    {
        let fetch = mqtt.chunk(stored, 100);
        tokio::pin!(fetch);
        tokio::select! {
            biased;
            _ = &mut fetch => panic!("nobody answers"),
            get = port.next() => assert_eq!(get.wants.len(), 1),
        }
    }
    let silence = tokio::time::timeout(Duration::from_secs(3600), port.next()).await;
    assert!(silence.is_err(), "nothing is left to ask for");
}

#[tokio::test(start_paused = true)]
async fn requests_end_with_the_port() {
    let (mqtt, port) = mqtt();
    let waits = tokio::spawn({
        let mqtt = mqtt.clone();
        async move { mqtt.metadata("timestamp.json", 100).await }
    });
    // Until it waits.
    let _ = tokio::time::timeout(Duration::from_secs(1), port.next()).await;
    drop(port);
    assert!(waits.await.expect("no panic").is_err_and(|e| e.is_temporary()));
    assert!(mqtt.metadata("timestamp.json", 100).await.is_err_and(|e| e.is_temporary()));
}

#[tokio::test(start_paused = true)]
async fn without_a_connection_a_fetch_fails_in_time_and_garbage_is_named() {
    let (mqtt, port) = mqtt();
    assert!(port.answer(b"\x01\xff").is_err());
    let driver = tokio::spawn(async move {
        port.next().await;
    });
    let failed = mqtt.target("m/x", 100).await.expect_err("fails");
    assert!(
        failed.is_temporary() && failed.to_string().contains("target m/x over MQTT: not connected"),
        "{failed}"
    );
    driver.abort();
}

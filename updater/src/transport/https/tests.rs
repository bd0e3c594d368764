//! Against a server that speaks just enough HTTP.

use super::*;
use crate::testing::servers;
use std::{collections::VecDeque, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Mutex,
};

/// Answers one connection after another with these, and remembers the request lines and the ranges asked for.
struct Scripted {
    base: String,
    requests: Arc<Mutex<Vec<String>>>,
    ranges: Arc<Mutex<Vec<String>>>,
}

async fn scripted(answers: &[&str]) -> Scripted {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    let (requests, ranges) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let mut answers: VecDeque<String> = answers.iter().map(|a| a.replace('\n', "\r\n")).collect();
    let (seen, seen_ranges) = (Arc::clone(&requests), Arc::clone(&ranges));
    tokio::spawn(async move {
        while let Some(answer) = answers.pop_front() {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a request"));
            }
            let head = String::from_utf8(head).expect("text");
            seen.lock().await.push(head.lines().next().expect("a line").to_owned());
            let range = head.lines().find_map(|line| line.strip_prefix("range: "));
            seen_ranges.lock().await.push(range.unwrap_or_default().to_owned());
            stream.write_all(answer.as_bytes()).await.expect("answers");
        }
    });
    Scripted { base, requests, ranges }
}

impl Scripted {
    fn https(&self) -> Https {
        let Pace { window, bytes_min } = Pace::SLOWEST;
        Https::new(servers::client(), &format!("{}/", self.base)).for_test(window, bytes_min)
    }

    /// Fetches a chunk of at most ten bytes.
    async fn chunk(&self) -> Result<Bytes, TransportError> {
        self.https().chunk(Digest::new([0xab; 32]), 10).await
    }

    async fn asked(&self) -> usize {
        self.requests.lock().await.len()
    }
}

const OK: &str = "HTTP/1.1 200 OK\nContent-Length: 5\nConnection: close\n\nhello";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\nContent-Length: 0\nConnection: close\n\n";
const MANY: &str = "HTTP/1.1 429 Too Many Requests\nRetry-After: 0\nContent-Length: 0\nConnection: close\n\n";
const ABSENT: &str = "HTTP/1.1 404 Not Found\nContent-Length: 0\nConnection: close\n\n";
const DENIED: &str = "HTTP/1.1 403 Forbidden\nContent-Length: 0\nConnection: close\n\n";
const CUT: &str = "HTTP/1.1 200 OK\nContent-Length: 5\nConnection: close\n\nhel";
const ENDLESS: &str = "HTTP/1.1 200 OK\nConnection: close\n\nhello and so on and so on";

#[test]
fn paths_are_escaped_but_keep_their_folders() {
    assert_eq!(escaped("a/b 1+x?.wbi"), "a/b%201%2Bx%3F.wbi");
}

#[tokio::test]
async fn each_kind_of_file_has_its_path() {
    let server = scripted(&[OK, OK, OK]).await;
    let https = server.https();
    https.metadata("1.root.json", 9).await.expect("answers").expect("is there");
    https.target("m/ab.1.0.0.wbi", 9).await.expect("answers");
    let digest = Digest::new([0xab; 32]);
    assert_eq!(https.chunk(digest, 9).await.expect("answers"), "hello");
    let expected = [
        "GET /tuf/1.root.json HTTP/1.1".to_owned(),
        "GET /tuf/targets/m/ab.1.0.0.wbi HTTP/1.1".to_owned(),
        format!("GET /chunks/{digest} HTTP/1.1"),
    ];
    assert_eq!(*server.requests.lock().await, expected);
}

#[tokio::test]
async fn a_busy_server_and_a_cut_connection_are_tried_again() {
    for bad in [BUSY, MANY, CUT, ""] {
        let server = scripted(&[bad, bad, OK]).await;
        assert_eq!(server.https().target("t", 5).await.expect("the third try"), "hello");
    }
}

#[tokio::test]
async fn tries_come_to_an_end() {
    let server = scripted(&[BUSY, BUSY, BUSY, OK]).await;
    let error = server.https().target("t", 5).await.expect_err("three failures");
    assert!(error.is_temporary(), "{error}");
    assert_eq!(server.asked().await, 3);
}

#[tokio::test]
async fn refusals_are_final() {
    let server = scripted(&[DENIED, OK]).await;
    let error = server.https().target("t", 5).await.expect_err("refused");
    assert!(matches!(error, TransportError::Refused { .. }), "{error}");
    assert_eq!(server.asked().await, 1);
    let server = scripted(&[ABSENT, ABSENT]).await;
    assert_eq!(server.https().metadata("2.root.json", 5).await.expect("no such root"), None);
    let error = server.https().target("t", 5).await.expect_err("absent");
    assert!(matches!(error, TransportError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn more_bytes_than_accepted_are_refused_announced_or_not() {
    for answer in [OK, ENDLESS] {
        let server = scripted(&[answer, OK]).await;
        let error = server.https().target("t", 4).await.expect_err("too large");
        assert!(matches!(error, TransportError::TooLarge { size_bytes_max: 4, .. }), "{error}");
        assert_eq!(server.asked().await, 1);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_temporary_failure() {
    let server = scripted(&[]).await;
    tokio::task::yield_now().await;
    let https = Https { targets: "http://127.0.0.1:1".into(), ..server.https() };
    assert!(https.target("t", 5).await.expect_err("refused connection").is_temporary());
}

const HALF: &str = "HTTP/1.1 200 OK\nContent-Length: 10\nConnection: close\n\nhello";
const REST: &str = "HTTP/1.1 206 Partial Content\nContent-Range: bytes 5-9/10\nContent-Length: 5\nConnection: close\n\nworld";
const OTHER_REST: &str = "HTTP/1.1 206 Partial Content\nContent-Range: bytes 4-9/10\nContent-Length: 6\nConnection: close\n\noworld";
const LONG_REST: &str = "HTTP/1.1 206 Partial Content\nContent-Range: bytes 5-11/12\nContent-Length: 7\nConnection: close\n\nworld!!";
const WHOLE: &str = "HTTP/1.1 200 OK\nContent-Length: 10\nConnection: close\n\nhelloworld";

#[tokio::test]
async fn a_chunk_that_broke_off_goes_on_where_it_broke() {
    let server = scripted(&[HALF, REST]).await;
    assert_eq!(server.chunk().await.expect("the rest"), "helloworld");
    assert_eq!(*server.ranges.lock().await, ["", "bytes=5-"]);
}

#[tokio::test]
async fn a_server_that_does_not_give_the_rest_gives_the_whole() {
    let server = scripted(&[HALF, WHOLE]).await;
    assert_eq!(server.chunk().await.expect("the whole"), "helloworld");
    let server = scripted(&[HALF, OTHER_REST, WHOLE]).await;
    assert_eq!(server.chunk().await.expect("the whole"), "helloworld");
    assert_eq!(*server.ranges.lock().await, ["", "bytes=5-", ""]);
}

#[tokio::test]
async fn a_rest_that_is_too_long_is_refused() {
    let server = scripted(&[HALF, LONG_REST]).await;
    let error = server.chunk().await.expect_err("twelve bytes");
    assert!(matches!(error, TransportError::TooLarge { size_bytes_max: 10, .. }), "{error}");
}

#[tokio::test]
async fn a_file_that_may_change_is_never_put_together_from_two_answers() {
    let server = scripted(&[HALF, WHOLE]).await;
    let bytes = server.https().metadata("timestamp.json", 10).await.expect("answers");
    assert_eq!(bytes.expect("is there"), "helloworld");
    assert_eq!(*server.ranges.lock().await, ["", ""]);
}

/// Takes nothing.
#[derive(Debug)]
struct Full;

impl Sink for Full {
    type Error = std::io::Error;

    fn has_bytes(&self) -> u64 {
        0
    }

    fn add(&mut self, _: &[u8]) -> Result<(), Self::Error> {
        Err(std::io::ErrorKind::StorageFull.into())
    }

    fn clear(&mut self) {}
}

#[tokio::test]
async fn a_sink_that_takes_no_more_ends_the_fetching() {
    let server = scripted(&[OK, OK]).await;
    let error = server.https().target_into("t", 5, &mut Full).await.expect_err("full");
    assert!(matches!(error, FetchError::Sink(_)), "{error}");
    assert_eq!(server.asked().await, 1);
}

#[tokio::test]
async fn a_captive_portals_redirect_is_not_followed() {
    let portal =
        "HTTP/1.1 302 Found\nLocation: http://login.example/\nContent-Length: 0\nConnection: close\n\n";
    let server = scripted(&[portal, portal, portal, OK]).await;
    let none = reqwest::redirect::Policy::none();
    let client = servers::client_builder().redirect(none).build().expect("a client");
    let https = Https { client, ..server.https() };
    let error = https.target("t", 5).await.expect_err("not followed");
    assert!(error.is_temporary() && error.to_string().contains("login.example"), "{error}");
    // Nor is what a client that follows comes back with taken.
    let elsewhere = scripted(&[OK, OK, OK]).await;
    let portal = portal.replace("http://login.example/", &elsewhere.base);
    let server = scripted(&[&portal, &portal, &portal]).await;
    let error = server.https().target("t", 5).await.expect_err("from another place");
    assert!(error.is_temporary() && error.to_string().contains("another place"), "{error}");
}

#[tokio::test]
async fn a_server_that_asks_for_an_hour_is_left_alone() {
    let busy =
        "HTTP/1.1 503 Service Unavailable\nRetry-After: 3000\nContent-Length: 0\nConnection: close\n\n";
    let server = scripted(&[busy, OK]).await;
    let https = server.https();
    for _ in 0..3 {
        let error = https.target("t", 5).await.expect_err("not now");
        assert!(matches!(error, TransportError::Unavailable { retry_after: Some(_), .. }), "{error}");
    }
    assert_eq!(server.asked().await, 1);
}

#[tokio::test]
async fn a_drip_is_given_up() {
    let https = Https::new(servers::client(), &servers::drip().await);
    let https = https.for_test(Duration::from_millis(50), 10_000);
    let error = https.target("t", 1_000_000).await.expect_err("too slow");
    assert!(error.is_temporary() && error.to_string().contains("slowly"), "{error}");
}

#[tokio::test]
async fn a_server_with_another_name_is_told_apart_from_one_that_is_away() {
    let (client, base) = servers::with_another_name().await;
    let https = Https::new(client, &base).for_test(Duration::from_secs(30), 1);
    let error = https.target("t", 5).await.expect_err("another name");
    assert!(matches!(error, TransportError::Tls { .. }), "{error}");
}

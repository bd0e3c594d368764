//! Against a server that speaks just enough HTTP.

use super::*;
use std::{collections::VecDeque, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Mutex,
};

/// Answers one connection after another with these, and remembers the request lines.
struct Scripted {
    base: String,
    requests: Arc<Mutex<Vec<String>>>,
}

async fn scripted(answers: &[&str]) -> Scripted {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    let requests = Arc::new(Mutex::new(Vec::new()));
    let mut answers: VecDeque<String> = answers.iter().map(|a| a.replace('\n', "\r\n")).collect();
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Some(answer) = answers.pop_front() {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a request"));
            }
            let head = String::from_utf8(head).expect("text");
            seen.lock().await.push(head.lines().next().expect("a line").to_owned());
            stream.write_all(answer.as_bytes()).await.expect("answers");
        }
    });
    Scripted { base, requests }
}

impl Scripted {
    fn https(&self) -> Https {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().build().expect("a client");
        let backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(1) };
        Https { backoff, ..Https::new(client, &format!("{}/", self.base)) }
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

//! A whole enrolment against a small TLS server, and every way in which it must end without one.

use super::*;
use crate::testing::Ca;
use rustls::ServerConfig;
use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use whimbrel_updater::{hash::sha256, repo};
use whimbrel_wire::api::EnrollResponse;

const SECRET: &str = "abcDEF012_-abcDEF012";

/// What the server answers to `GET /tuf/1.root.json` and `POST /enroll`.
struct Server {
    url: Url,
    calls: Arc<Mutex<Vec<String>>>,
}

type Answer = (u16, Vec<u8>);

impl Server {
    /// Starts a server with a certificate of `ca`.
    async fn start(
        ca: &Ca,
        root: Answer,
        enroll: impl Fn(EnrollRequest) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certified = ca.server("localhost");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certified.certificate, ca.der()], certified.key)
            .expect("a certificate");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("bound").port();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&calls);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that does not like the certificate ends here.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let (line, body) = read_request(&mut stream).await;
                seen.lock().expect("not poisoned").push(line.clone());
                let (status, content) = match line.as_str() {
                    "GET /tuf/1.root.json" => root.clone(),
                    "POST /enroll" => enroll(serde_json::from_slice(&body).expect("a request")),
                    _ => (404, Vec::new()),
                };
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    content.len()
                );
                stream.write_all(head.as_bytes()).await.expect("writes");
                // A client that has read enough goes away in the middle.
                let _ = stream.write_all(&content).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { url: format!("https://localhost:{port}").parse().expect("a URL"), calls }
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().expect("not poisoned").clone()
    }
}

async fn read_request(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut end = None;
    while end.is_none() && stream.read_buf(&mut bytes).await.expect("reads") > 0 {
        end = bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
    }
    let end = end.expect("a whole head");
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
    let length: usize = length.map_or(0, |n| n.parse().expect("a number"));
    while bytes.len() < end + length && stream.read_buf(&mut bytes).await.expect("reads") > 0 {}
    let line = String::from_utf8_lossy(&bytes[..end]);
    let line = line.split(" HTTP/").next().unwrap_or_default().to_owned();
    (line, bytes[end..].to_vec())
}

fn enrolment(server: &Url, ca: &Ca, root: &[u8], state_dir: &std::path::Path) -> Enrolment {
    Enrolment {
        server: server.clone(),
        token: EnrollToken { secret: SECRET.into(), ca: sha256(&ca.der()), root: sha256(root) },
        device: "cam-1".parse().expect("valid"),
        mqtt_port: None,
        state_dir: state_dir.to_owned(),
        force: false,
    }
}

fn answer(ca_pem: String, certificate_pem: String) -> Answer {
    let response = EnrollResponse {
        device: "cam-1".parse().expect("valid"),
        tenant: "acme".parse().expect("valid"),
        certificate_pem,
        ca_pem,
        mqtt_port: 8883,
    };
    (200, serde_json::to_vec(&response).expect("JSON"))
}

fn honest(ca: Arc<Ca>) -> impl Fn(EnrollRequest) -> Answer {
    move |request| {
        assert_eq!(request.secret, SECRET);
        answer(ca.pem(), ca.device_for(&request.csr_pem, request.device.as_str(), "acme"))
    }
}

/// A root that its own key signed.
fn root_bytes() -> Vec<u8> {
    let key = repo::SigningKey::from_seed(&[7; 32]);
    let role = repo::RoleSpec { keys: vec![key.public()], threshold: 1 };
    let spec =
        repo::RootSpec { root: role.clone(), targets: role.clone(), snapshot: role.clone(), timestamp: role };
    let expires = time::macros::datetime!(2100-01-01 0:00 UTC);
    repo::sign(&repo::new_root(&spec, expires).expect("makes"), &key).expect("signs")
}

#[tokio::test]
async fn a_device_enrols_once_and_again_only_by_force() {
    let (ca, root, dir) = (Arc::new(Ca::new("fleet")), root_bytes(), tempfile::tempdir().expect("temp dir"));
    let server = Server::start(&ca, (200, root.clone()), honest(Arc::clone(&ca))).await;
    let mut enrolment = enrolment(&server.url, &ca, &root, dir.path());
    let membership = enroll(&enrolment).await.expect("enrols");
    assert_eq!(server.calls(), ["GET /tuf/1.root.json", "POST /enroll"]);
    assert_eq!((membership.device.as_str(), membership.mqtt_port), ("cam-1", 8883));
    let identity = Identity::load(dir.path()).expect("loads").expect("enrolled");
    assert_eq!(identity.membership, membership);
    identity.tls_config().expect("key and certificate belong together");
    assert_eq!(std::fs::read(dir.path().join("trust/root.json")).expect("there"), root);

    let again = enroll(&enrolment).await.expect_err("enrolled already");
    assert_eq!(again.exit_code(), 2);
    assert_eq!(server.calls().len(), 2, "the server was not asked");
    (enrolment.force, enrolment.mqtt_port) = (true, Some(1));
    assert_eq!(enroll(&enrolment).await.expect("enrols again").mqtt_port, 1);
    let second = Identity::load(dir.path()).expect("loads").expect("enrolled");
    assert_ne!(second.info.public_key, identity.info.public_key);
}

#[tokio::test]
async fn a_server_of_another_ca_or_name_hears_nothing() {
    let (ours, theirs) = (Arc::new(Ca::new("fleet")), Ca::new("fleet"));
    let (root, dir) = (root_bytes(), tempfile::tempdir().expect("temp dir"));
    let server = Server::start(&ours, (200, root.clone()), honest(Arc::clone(&ours))).await;
    let failure = enroll(&enrolment(&server.url, &theirs, &root, dir.path())).await.expect_err("another CA");
    assert_eq!(failure.exit_code(), 4, "{failure}");
    assert!(failure.to_string().contains("fingerprint"), "{failure}");
    let by_address: Url = server.url.as_str().replace("localhost", "127.0.0.1").parse().expect("a URL");
    let failure = enroll(&enrolment(&by_address, &ours, &root, dir.path())).await.expect_err("another name");
    assert_eq!(failure.exit_code(), 4, "{failure}");
    assert!(server.calls().is_empty());
    assert!(!Identity::exists(dir.path()).expect("can be told"));
}

#[tokio::test]
async fn a_root_other_than_the_operators_costs_no_token() {
    let (ca, root, dir) = (Arc::new(Ca::new("fleet")), root_bytes(), tempfile::tempdir().expect("temp dir"));
    let other = [&root[..], b" "].concat();
    let no_root = b"{}".to_vec();
    let cases = [
        ((200, other), root.clone(), 4),
        ((200, no_root.clone()), no_root, 4),
        ((200, vec![b' '; 2_000_000]), root.clone(), 1),
        ((404, Vec::new()), root.clone(), 1),
        ((500, b"<html>".to_vec()), root, 1),
    ];
    for (served, expected, exit_code) in cases {
        let server = Server::start(&ca, served, honest(Arc::clone(&ca))).await;
        let failure = enroll(&enrolment(&server.url, &ca, &expected, dir.path())).await.expect_err("no root");
        assert_eq!(failure.exit_code(), exit_code, "{failure}");
        assert_eq!(server.calls(), ["GET /tuf/1.root.json"]);
    }
    assert!(!dir.path().join("trust").exists());
}

#[tokio::test]
async fn a_refused_token_is_told_in_the_servers_words() {
    let (ca, root, dir) = (Arc::new(Ca::new("fleet")), root_bytes(), tempfile::tempdir().expect("temp dir"));
    for (status, exit_code) in [(401, 4), (403, 4), (409, 1), (429, 1), (500, 1)] {
        let server = Server::start(&ca, (200, root.clone()), move |_| {
            let problem = format!(
                r#"{{"type": "x", "title": "x", "status": {status}, "detail": "the token is\nused up"}}"#
            );
            (status, problem.into_bytes())
        });
        let server = server.await;
        let failure = enroll(&enrolment(&server.url, &ca, &root, dir.path())).await.expect_err("refused");
        assert_eq!(failure.exit_code(), exit_code, "{failure}");
        let text = failure.render(false);
        assert!(text.contains("the token is used up") && text.contains("\nhint: "), "{text}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_for_this_device_is_not_kept() {
    let (ca, theirs) = (Arc::new(Ca::new("fleet")), Arc::new(Ca::new("fleet")));
    let (root, dir) = (root_bytes(), tempfile::tempdir().expect("temp dir"));
    type Make = fn(&Ca, &Ca, &EnrollRequest) -> Answer;
    let cases: [(&str, Make); 6] = [
        ("another key", |ca, _, _| answer(ca.pem(), ca.device("cam-1", "acme").certificate_pem)),
        ("another name", |ca, _, r| answer(ca.pem(), ca.device_for(&r.csr_pem, "cam-2", "acme"))),
        ("another tenant", |ca, _, r| answer(ca.pem(), ca.device_for(&r.csr_pem, "cam-1", "other"))),
        ("another CA", |_, theirs, r| answer(theirs.pem(), theirs.device_for(&r.csr_pem, "cam-1", "acme"))),
        ("signed by another", |ca, theirs, r| {
            answer(ca.pem(), theirs.device_for(&r.csr_pem, "cam-1", "acme"))
        }),
        ("no certificate", |ca, _, _| answer(ca.pem(), "x".into())),
    ];
    for (what, make) in cases {
        let (ours, others) = (Arc::clone(&ca), Arc::clone(&theirs));
        let server = Server::start(&ca, (200, root.clone()), move |r| make(&ours, &others, &r)).await;
        let failure = enroll(&enrolment(&server.url, &ca, &root, dir.path())).await.expect_err(what);
        assert_eq!(failure.exit_code(), 4, "{what}: {failure}");
    }
    assert!(!dir.path().join("identity").exists() && !dir.path().join("trust").exists());
}

#[tokio::test]
async fn a_server_that_is_away_is_a_failure_with_a_hint() {
    let (ca, dir) = (Ca::new("fleet"), tempfile::tempdir().expect("temp dir"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let url = format!("https://localhost:{port}").parse().expect("a URL");
    let failure = enroll(&enrolment(&url, &ca, b"", dir.path())).await.expect_err("nobody there");
    assert_eq!(failure.exit_code(), 1);
    assert!(failure.render(false).contains("\nhint: "));
}

//! A server in this process that keeps what is published, over TLS: the rules of the real one, without its storage.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{Arc, Mutex},
};
use time::{Duration, OffsetDateTime};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use whimbrel_updater::{hash::sha256, repo, tuf::Targets};
use whimbrel_wire::api::{Hashes, Problem};

/// The server; ends with the test's runtime.
pub(crate) struct FakeServer {
    /// Its address, `https://…`.
    pub(crate) address: String,
    /// The certificate of its CA.
    pub(crate) ca_pem: String,
    kept: Arc<Mutex<Kept>>,
}

/// What it keeps.
pub(crate) struct Kept {
    online: repo::SigningKey,
    files: BTreeMap<String, Vec<u8>>,
    root_version: u32,
    targets_version: u32,
    blobs: BTreeSet<String>,
    /// Chunk uploads that it took.
    chunk_uploads: usize,
    /// Chunk uploads that it takes before it fails, where it is to fail.
    pub(crate) chunks_before_failure: Option<usize>,
}

impl FakeServer {
    pub(crate) async fn start(online: repo::SigningKey) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("a key")).expect("a CA");
        let key = KeyPair::generate().expect("a key");
        let names = vec!["127.0.0.1".to_owned()];
        let certificate =
            CertificateParams::new(names).expect("parameters").signed_by(&key, &ca).expect("signed");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a TLS configuration");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = format!("https://{}", listener.local_addr().expect("an address"));
        let kept = Arc::new(Mutex::new(Kept {
            online,
            files: BTreeMap::new(),
            root_version: 0,
            targets_version: 0,
            blobs: BTreeSet::new(),
            chunk_uploads: 0,
            chunks_before_failure: None,
        }));
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), Arc::clone(&kept)));
        Self { address, ca_pem: ca.pem(), kept }
    }

    pub(crate) fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().expect("no panic while held")
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, kept: Arc<Mutex<Kept>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, kept) = (tls.clone(), Arc::clone(&kept));
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request| answer(Arc::clone(&kept), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

type Answer = (StatusCode, Vec<u8>);

async fn answer(
    kept: Arc<Mutex<Kept>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    // A client that went away gets an answer that it will not read.
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let authorised = head.headers.get("authorization").is_some_and(|v| v == "Bearer secret");
    let path = head.uri.path().to_owned();
    let (status, bytes) =
        match kept.lock().expect("no panic while held").answer(&head.method, &path, &body, authorised) {
            Ok(done) | Err(done) => done,
        };
    let mut response = Response::new(Full::from(bytes));
    *response.status_mut() = status;
    Ok(response)
}

fn problem(status: u16, detail: impl ToString) -> Answer {
    let problem =
        Problem { kind: "refused".into(), title: "Refused".into(), status, detail: detail.to_string() };
    let status = StatusCode::from_u16(status).expect("a status");
    (status, serde_json::to_vec(&problem).expect("is JSON"))
}

impl Kept {
    fn answer(
        &mut self,
        method: &Method,
        path: &str,
        body: &Bytes,
        authorised: bool,
    ) -> Result<Answer, Answer> {
        if let Some(file) = path.strip_prefix("/tuf/") {
            let found = self.files.get(file).cloned();
            return found.map(|bytes| (StatusCode::OK, bytes)).ok_or_else(|| problem(404, "no such file"));
        }
        if !authorised {
            return Err(problem(401, "no such token"));
        }
        let done = (StatusCode::NO_CONTENT, Vec::new());
        match (method.as_str(), path.strip_prefix("/api/v1/repository").unwrap_or_default()) {
            ("GET", "") => {
                let view = json!({
                    "online_key": self.online.public().to_value(),
                    "root_version": self.root_version,
                    "targets_version": self.targets_version,
                });
                Ok((StatusCode::OK, view.to_string().into_bytes()))
            }
            ("POST", "/root") => {
                let old = self.files.get(&format!("{}.root.json", self.root_version));
                repo::check_root(old.map(Vec::as_slice), body).map_err(|e| problem(403, e))?;
                self.root_version += 1;
                self.files.insert(format!("{}.root.json", self.root_version), body.to_vec());
                Ok(done)
            }
            ("POST", "/targets") => self.take_targets(body).map(|()| done),
            ("POST", "/chunks/missing") => {
                let mut asked: Hashes = serde_json::from_slice(body).map_err(|e| problem(400, e))?;
                asked.hashes.retain(|h| !self.blobs.contains(&h.to_string()));
                Ok((StatusCode::OK, serde_json::to_vec(&asked).expect("is JSON")))
            }
            ("PUT", rest) => {
                let name = rest.rsplit('/').next().unwrap_or_default();
                if rest.starts_with("/chunks/") {
                    if self.chunks_before_failure == Some(self.chunk_uploads) {
                        return Err(problem(503, "the disk is busy"));
                    }
                    self.chunk_uploads += 1;
                }
                if sha256(body).to_string() != name {
                    return Err(problem(400, "other bytes"));
                }
                self.blobs.insert(name.to_owned());
                Ok(done)
            }
            _ => Err(problem(404, "no such path")),
        }
    }

    fn take_targets(&mut self, body: &Bytes) -> Result<(), Answer> {
        let root = self.files.get(&format!("{}.root.json", self.root_version));
        let root = root.ok_or_else(|| problem(409, "no root yet"))?;
        let old = self.files.get(&format!("{}.targets.json", self.targets_version)).map(Vec::as_slice);
        let targets: Targets = repo::check_targets(root, old, body).map_err(|e| problem(403, e))?;
        for target in targets.targets.values() {
            let sha256 = target.hashes.sha256.expect("signed with sha256").to_string();
            if !self.blobs.contains(&sha256) {
                return Err(problem(409, format!("upload first: target {}", target.path)));
            }
        }
        let end = OffsetDateTime::now_utc() + Duration::days(7);
        let old = self.files.get(&format!("{}.snapshot.json", self.targets_version)).map(Vec::as_slice);
        let snapshot = repo::snapshot(old, body, &self.online, end).expect("signed");
        let old = self.files.get("timestamp.json").map(Vec::as_slice);
        let timestamp =
            repo::timestamp(old, &snapshot, &self.online, OffsetDateTime::now_utc(), end).expect("signed");
        self.targets_version += 1;
        let version = self.targets_version;
        self.files.insert(format!("{version}.targets.json"), body.to_vec());
        self.files.insert(format!("{version}.snapshot.json"), snapshot);
        self.files.insert("timestamp.json".to_owned(), timestamp);
        Ok(())
    }
}

//! A server on free ports, operators' keys, and devices that speak the real protocol.

use crate::{
    app::App,
    config::{Flags, load},
    service::Clock,
};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use reqwest::{Client, Method, Response, StatusCode};
use rumqttc::v5::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions,
    mqttbytes::{QoS, v5::Packet},
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use semver::Version;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use time::OffsetDateTime;
use whimbrel_updater::repo::{self, NewTarget, RoleSpec, RootSpec, SigningKey, TargetsEdit};
use whimbrel_wire::{
    Digest, Message, decode,
    desired::DesiredModel,
    encode,
    index::{Chunk, FileEntry, Index},
    manifest::{Datatype, Golden, Manifest, Needs, Probation, TensorSpec},
    report::{Installed, ModelReport, Platform, Progress, Report, Update},
    telemetry::{Batch, LatencySketch, Window},
};

/// Nothing in these tests takes this long; it only ends a test that would hang.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Server {
    pub(super) app: App,
    pub(super) dir: TempDir,
    pub(super) admin: String,
    ca: CertificateDer<'static>,
}

/// A device's identity.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) device: String,
    cert: CertificateDer<'static>,
    key: Arc<KeyPair>,
}

pub(super) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens before patience ends")
}

pub(super) fn csr(key: &KeyPair) -> String {
    CertificateParams::default().serialize_request(key).expect("request").pem().expect("pem")
}

pub(super) fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("key")
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("temp dir")).await
    }

    /// With a clock that the test moves, in seconds since 1970.
    pub(super) async fn start_at(clock: &Arc<AtomicI64>) -> Self {
        let clock = Arc::clone(clock);
        let now = move || OffsetDateTime::from_unix_timestamp(clock.load(Ordering::SeqCst)).expect("valid");
        Self::start_with(tempfile::tempdir().expect("temp dir"), Arc::new(now)).await
    }

    pub(super) async fn start_in(dir: TempDir) -> Self {
        Self::start_with(dir, Arc::new(OffsetDateTime::now_utc)).await
    }

    async fn start_with(dir: TempDir, clock: Clock) -> Self {
        // Another test of the process may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let any = "127.0.0.1:0".parse().ok();
        let flags = Flags {
            state_dir: Some(dir.path().join("state")),
            https: any,
            mqtt: any,
            ui: any,
            ..Flags::default()
        };
        let app = App::start(load(flags).expect("config"), clock).await.expect("starts");
        let read = |name| std::fs::read_to_string(dir.path().join("state").join(name)).expect("file");
        let admin = read("admin.token").trim().to_owned();
        let ca = CertificateDer::from_pem_slice(read("ca.pem").as_bytes()).expect("pem");
        Self { app, dir, admin, ca }
    }

    /// Stops it and starts another on the same state.
    pub(super) async fn restart(self) -> Self {
        self.app.stop().await;
        Self::start_in(self.dir).await
    }

    pub(super) fn tls(&self, identity: Option<&Identity>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).expect("ca");
        let builder = ClientConfig::builder().with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some(id) => {
                let key = PrivateKeyDer::from_pem_slice(id.key.serialize_pem().as_bytes()).expect("key");
                builder.with_client_auth_cert(vec![id.cert.clone()], key).expect("identity")
            }
        }
    }

    pub(super) fn client(&self, identity: Option<&Identity>) -> Client {
        Client::builder()
            .tls_backend_preconfigured(self.tls(identity))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("client")
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.app.https.port())
    }

    /// A call as the first operator.
    pub(super) async fn call(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Response {
        let request = self.client(None).request(method, self.url(path)).bearer_auth(&self.admin).body(body);
        request.send().await.expect("answer")
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        let response = self.call(Method::GET, path, "").await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.expect("json")
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Value {
        let response = self.call(Method::POST, path, body.to_string()).await;
        assert!(response.status().is_success(), "{path}: {}", response.text().await.expect("text"));
        response.json().await.expect("json")
    }

    pub(super) async fn token(&self, new: Value) -> String {
        let created = self.post("/api/v1/enrollment-tokens", new).await;
        created["secret"].as_str().expect("secret").to_owned()
    }

    pub(super) async fn try_enrol(&self, secret: &str, device: &str, csr: &str) -> Response {
        let platform = json!({"arch": "x86_64", "board": "test", "cores": 1, "memory_bytes": 1});
        let body = json!({"secret": secret, "device": device, "csr_pem": csr, "platform": platform});
        self.client(None).post(self.url("/enroll")).body(body.to_string()).send().await.expect("answer")
    }

    pub(super) async fn enrol_with(&self, secret: &str, device: &str) -> Identity {
        let key = new_key();
        let response = self.try_enrol(secret, device, &csr(&key)).await;
        assert_eq!(response.status(), StatusCode::OK);
        let answer: Value = response.json().await.expect("json");
        assert_eq!(answer["mqtt_port"], json!(self.app.mqtt.port()));
        let cert = answer["certificate_pem"].as_str().expect("pem");
        let cert = CertificateDer::from_pem_slice(cert.as_bytes()).expect("certificate");
        Identity { device: device.to_owned(), cert, key: Arc::new(key) }
    }

    pub(super) async fn enrol(&self, device: &str) -> Identity {
        let secret = self.token(json!({"ttl_s": 60})).await;
        self.enrol_with(&secret, device).await
    }

    /// Reads until a condition holds.
    pub(super) async fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        within(async {
            loop {
                let value = self.get(path).await;
                if holds(&value) {
                    return value;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// A device on the broker.
    pub(super) fn mqtt(&self, client_id: &str, identity: Option<&Identity>, will: Option<&str>) -> Mqtt {
        let mut options = MqttOptions::new(client_id, "localhost", self.app.mqtt.port());
        options.set_keep_alive(Duration::from_secs(30));
        options.set_max_packet_size(Some(300 << 10));
        options.set_transport(rumqttc::Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(
            Arc::new(self.tls(identity)),
        )));
        if let Some(topic) = will {
            let will = rumqttc::v5::mqttbytes::v5::LastWill::new(topic, "x", QoS::AtLeastOnce, true, None);
            options.set_last_will(will);
        }
        let (client, events) = AsyncClient::new(options, 16);
        Mqtt { client, events }
    }

    /// A connected device.
    pub(super) async fn online(&self, identity: &Identity) -> Mqtt {
        let mut mqtt = self.mqtt(&identity.device, Some(identity), None);
        mqtt.connected().await.expect("connects");
        mqtt
    }
}

pub(super) struct Mqtt {
    pub(super) client: AsyncClient,
    events: EventLoop,
}

impl Mqtt {
    pub(super) async fn next(&mut self) -> Result<Packet, ConnectionError> {
        within(async {
            loop {
                if let Event::Incoming(packet) = self.events.poll().await? {
                    return Ok(packet);
                }
            }
        })
        .await
    }

    pub(super) async fn connected(&mut self) -> Result<(), ConnectionError> {
        loop {
            if let Packet::ConnAck(_) = self.next().await? {
                return Ok(());
            }
        }
    }

    /// True when the subscription was granted.
    pub(super) async fn subscribe(&mut self, filter: &str) -> bool {
        use rumqttc::v5::mqttbytes::v5::{Filter, SubscribeReasonCode};
        let filter = Filter { nolocal: !filter.starts_with('$'), ..Filter::new(filter, QoS::AtLeastOnce) };
        self.client.subscribe_many([filter]).await.expect("queued");
        loop {
            if let Packet::SubAck(ack) = self.next().await.expect("connected") {
                return matches!(ack.return_codes[..], [SubscribeReasonCode::Success(_)]);
            }
        }
    }

    pub(super) async fn publish(&self, topic: &str, bytes: Vec<u8>) {
        self.client.publish(topic, QoS::AtLeastOnce, false, bytes).await.expect("queued");
    }

    /// The next message of a kind on a topic.
    pub(super) async fn message<M: Message>(&mut self, topic: &str) -> M {
        loop {
            if let Packet::Publish(publish) = self.next().await.expect("connected")
                && publish.topic[..] == *topic.as_bytes()
            {
                return decode(&publish.payload).expect("decodes");
            }
        }
    }
}

pub(super) fn topic(device: &str, leaf: &str) -> String {
    format!("whimbrel/v1/default/{device}/{leaf}")
}

/// Keys of an operator, and the metadata signed so far.
pub(super) struct Release {
    pub(super) key: SigningKey,
    pub(super) targets: Vec<u8>,
    first: bool,
}

pub(super) fn sha256(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

fn later() -> OffsetDateTime {
    OffsetDateTime::now_utc() + time::Duration::days(30)
}

impl Release {
    /// Signs and uploads the first root.
    pub(super) async fn start(server: &Server) -> Self {
        let key = SigningKey::generate().expect("key");
        let root = Self::root(server, &key).await;
        let answer = server.call(Method::POST, "/api/v1/repository/root", root).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let targets = repo::new_targets(later()).expect("targets");
        Self { key, targets, first: true }
    }

    /// A first root, signed with `key`, that lists the server's own key.
    pub(super) async fn root(server: &Server, key: &SigningKey) -> Vec<u8> {
        let view = server.get("/api/v1/repository").await;
        let online = whimbrel_updater::tuf::Key::from_value(&view["online_key"]).expect("key");
        let one = |key| RoleSpec { keys: vec![key], threshold: 1 };
        let spec = RootSpec {
            root: one(key.public()),
            targets: one(key.public()),
            snapshot: one(online.clone()),
            timestamp: one(online),
        };
        repo::sign(&repo::new_root(&spec, later()).expect("root"), key).expect("signed")
    }

    /// Targets with another bundle in them, signed, and the bundle's index and chunk.
    pub(super) fn draft(&mut self, version: &str) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let (index, chunk) = bundle(version);
        let bytes = encode(&index).expect("index");
        let target = NewTarget::bundle(&index.manifest, bytes.len() as u64, sha256(&bytes));
        let edit = TargetsEdit { add: vec![target], ..TargetsEdit::default() };
        // The server's first targets have version 1; `next_targets` counts on from the draft.
        let base =
            if self.first { repo::new_targets(later()).expect("targets") } else { self.targets.clone() };
        let mut targets = repo::next_targets(&base, &edit, later()).expect("targets");
        if self.first {
            let text =
                String::from_utf8(targets).expect("utf-8").replace("\"version\": 2\n", "\"version\": 1\n");
            targets = text.into_bytes();
        }
        (repo::sign(&targets, &self.key).expect("signed"), bytes, chunk)
    }

    /// Publishes another version of `digits`.
    pub(super) async fn publish(&mut self, server: &Server, version: &str) -> Digest {
        let (targets, index, chunk) = self.draft(version);
        for (kind, bytes) in [("targets", &index), ("chunks", &chunk)] {
            let path = format!("/api/v1/repository/{kind}/{}", sha256(bytes));
            assert_eq!(server.call(Method::PUT, &path, bytes.clone()).await.status(), StatusCode::NO_CONTENT);
        }
        let answer = server.call(Method::POST, "/api/v1/repository/targets", targets.clone()).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{}", answer.text().await.expect("text"));
        (self.targets, self.first) = (targets, false);
        sha256(&index)
    }
}

/// A bundle's index and its one chunk, which the server never looks into.
pub(super) fn bundle(version: &str) -> (Index, Vec<u8>) {
    let spec = |name: &str| TensorSpec { name: name.into(), datatype: Datatype::Fp32, shape: vec![1] };
    let chunk = format!("chunk of {version}").into_bytes();
    let part = Chunk {
        stored: sha256(&chunk),
        stored_bytes: u32::try_from(chunk.len()).expect("small"),
        raw: Digest::new([1; 32]),
        raw_bytes: 4096,
    };
    let file = |path: &str| FileEntry {
        path: path.into(),
        size_bytes: 4096,
        sha256: Digest::new([2; 32]),
        chunks: vec![part],
    };
    let manifest = Manifest {
        name: "digits".parse().expect("valid"),
        version: version.parse().expect("valid"),
        description: "Reads digits".into(),
        licence: "MIT".into(),
        model: "model.onnx".into(),
        inputs: vec![spec("in")],
        outputs: vec![spec("out")],
        pipeline: whimbrel_wire::pipeline::Pipeline::default(),
        labels: Vec::new(),
        golden: Golden { file: "golden.npz".into(), count: 1, tolerance: 0.1 },
        needs: Needs::default(),
        probation: Probation::default(),
        reference: whimbrel_wire::telemetry::Reference::default(),
        lineage: BTreeMap::new(),
    };
    (Index { manifest, files: vec![file("golden.npz"), file("model.onnx")] }, chunk)
}

pub(super) fn batch(boot: u64, sequence: u64, requests: u64) -> Batch {
    let mut latency_ms = LatencySketch::default();
    latency_ms.add(2.0);
    let window = Window {
        model: "digits".parse().expect("valid"),
        version: Version::new(1, 0, 0),
        start_ms: 1,
        end_ms: 2,
        requests,
        errors: BTreeMap::from([("run".to_owned(), 1)]),
        latency_ms,
        features: Vec::new(),
        classes: BTreeMap::new(),
        confidence: Vec::new(),
    };
    Batch { boot, sequence, windows: vec![window] }
}

/// What a device says after an update ended.
pub(super) fn report(
    sequence: u64,
    asked: &DesiredModel,
    active: Option<(&str, Digest)>,
    progress: Progress,
) -> Report {
    let installed =
        |(version, bundle): (&str, Digest)| Installed { version: version.parse().expect("valid"), bundle };
    Report {
        boot: 1,
        sequence,
        at_ms: 0,
        agent: Version::new(0, 1, 0),
        platform: Platform { arch: "x86_64".into(), ..Platform::default() },
        desired_serial: 1,
        models: vec![ModelReport {
            name: asked.name.clone(),
            active: active.map(installed),
            update: Some(Update {
                version: asked.version.clone(),
                attempt: asked.attempt,
                rollout: asked.rollout.clone(),
                progress,
                waiting: None,
            }),
        }],
    }
}

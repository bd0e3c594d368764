//! A model that does as its input says, a server of it, and a client that sends what it is told to.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};
use whimbrel_infer::{Datatype, Model, RunError, Session, Tensor, TensorInfo};
use whimbrel_serve::{
    Limits, Listening, LoadedModel, NoObserver, Observation, Observer, Outcome, Registry, ServeConfig, listen,
};

/// Answers NaN as an error where the first element is this.
pub(crate) const FAIL: f32 = -1.0;
/// Panics where the first element is this.
pub(crate) const PANIC: f32 = 13.0;
/// Waits for [`Gate::open`] where the first element is this.
pub(crate) const WAIT: f32 = 1000.0;

/// `y = factor * x`, `n` = the number of elements; `x` is FP32 of any length.
pub(crate) struct Times {
    factor: f32,
    fails: bool,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    gate: Option<Arc<Gate>>,
}

/// Holds runs, so that a test can look while they last.
pub(crate) struct Gate {
    started: Mutex<Sender<()>>,
    seen: Mutex<Receiver<()>>,
    go: Mutex<Receiver<()>>,
    opener: Mutex<Sender<()>>,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        let (started, seen) = channel();
        let (opener, go) = channel();
        Arc::new(Self {
            started: Mutex::new(started),
            seen: Mutex::new(seen),
            go: Mutex::new(go),
            opener: Mutex::new(opener),
        })
    }

    /// Waits until a run is held.
    pub(crate) async fn reached(self: &Arc<Self>) {
        let gate = Arc::clone(self);
        let seen = move || gate.seen.lock().expect("one user").recv_timeout(Duration::from_secs(60));
        tokio::task::spawn_blocking(seen).await.expect("no panic").expect("a run reaches the gate");
    }

    /// Lets one held run go on.
    pub(crate) fn open(&self) {
        self.opener.lock().expect("one user").send(()).expect("the gate lives");
    }
}

pub(crate) struct TimesSession(Arc<Times>);

impl Session for TimesSession {
    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>, RunError> {
        let x: Vec<f32> = inputs[0].1.values().expect("FP32").collect();
        let first = x.first().copied().unwrap_or_default();
        if self.0.fails || first == FAIL || x.iter().any(|v| v.is_nan()) {
            return Err(RunError::NonFinite { output: "y".into() });
        }
        assert!(first != PANIC, "on purpose");
        if let (Some(gate), true) = (&self.0.gate, first == WAIT) {
            let _ = gate.started.lock().expect("one user").send(());
            let _ = gate.go.lock().expect("one user").recv();
        }
        let y: Vec<f32> = x.iter().map(|v| v * self.0.factor).collect();
        let n = Tensor::from_values(vec![1], &[x.len() as i64]).expect("valid");
        let y = Tensor::from_values(vec![y.len()], &y).expect("valid");
        Ok(vec![("y".into(), y), ("n".into(), n)])
    }
}

pub(crate) struct TimesModel(Arc<Times>);

impl Model for TimesModel {
    fn inputs(&self) -> &[TensorInfo] {
        &self.0.inputs
    }
    fn outputs(&self) -> &[TensorInfo] {
        &self.0.outputs
    }
    fn session(&self) -> Box<dyn Session> {
        Box::new(TimesSession(Arc::clone(&self.0)))
    }
}

pub(crate) fn times(version: &str, factor: f32) -> Arc<LoadedModel> {
    loaded(version, Times { factor, ..plain() })
}

pub(crate) fn failing(version: &str) -> Arc<LoadedModel> {
    loaded(version, Times { fails: true, ..plain() })
}

pub(crate) fn gated(version: &str, gate: &Arc<Gate>) -> Arc<LoadedModel> {
    loaded(version, Times { gate: Some(Arc::clone(gate)), ..plain() })
}

fn plain() -> Times {
    let info = |name: &str, datatype, shape| TensorInfo { name: name.into(), datatype, shape };
    Times {
        factor: 2.0,
        fails: false,
        inputs: vec![info("x", Datatype::Fp32, vec![None])],
        outputs: vec![info("y", Datatype::Fp32, vec![None]), info("n", Datatype::Int64, vec![Some(1)])],
        gate: None,
    }
}

fn loaded(version: &str, times: Times) -> Arc<LoadedModel> {
    let (name, version) = ("times".parse().expect("a name"), version.parse().expect("a version"));
    let model = Arc::new(TimesModel(Arc::new(times)));
    Arc::new(LoadedModel::from_model(name, version, model, "fake").expect("fits"))
}

/// Keeps what it is told.
#[derive(Default)]
pub(crate) struct Notes(pub(crate) Mutex<Vec<Note>>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Note {
    pub(crate) version: String,
    pub(crate) outcome: Outcome,
    pub(crate) answered_by: Option<String>,
    pub(crate) x: Vec<f32>,
    pub(crate) y: Option<Vec<f32>>,
}

impl Observer for Notes {
    fn observe(&self, o: &Observation<'_>) {
        let note = Note {
            version: o.version.to_string(),
            outcome: o.outcome,
            answered_by: o.answered_by.map(ToString::to_string),
            x: o.inputs[0].1.to_f32s().expect("numbers"),
            y: o.environment.map(|e| e.get("y").expect("made").to_f32s().expect("numbers")),
        };
        self.0.lock().expect("no panic").push(note);
    }
}

/// A server on a free port and, where asked for, a Unix socket.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) registry: Arc<Registry>,
    pub(crate) listening: Listening,
    pub(crate) stop: oneshot::Sender<()>,
}

pub(crate) async fn start_with(
    limits: Limits,
    uds: Option<PathBuf>,
    observer: Arc<dyn Observer>,
    models: &[Arc<LoadedModel>],
) -> Server {
    let registry = Arc::new(Registry::default());
    models.iter().for_each(|model| registry.set(Arc::clone(model), None));
    let (stop, stopped) = oneshot::channel();
    let http = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let config = ServeConfig { http, uds, limits };
    let shutdown = async move {
        let _ = stopped.await;
    };
    let listening = listen(config, Arc::clone(&registry), observer, shutdown).await.expect("listens");
    Server { address: listening.http.expect("bound"), registry, listening, stop }
}

pub(crate) async fn start(models: &[Arc<LoadedModel>]) -> Server {
    start_with(Limits::default(), None, Arc::new(NoObserver), models).await
}

/// A response, taken apart.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let length = self
            .header("inference-header-content-length")
            .map_or(self.body.len(), |v| v.parse().expect("a length"));
        serde_json::from_slice(&self.body[..length]).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The text of a protocol error.
    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no error: {self:?}")).to_owned()
    }
}

/// Sends bytes as they are, and reads until the server closes.
pub(crate) async fn raw(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> Response {
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let split =
        answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer:?}"));
    let head = String::from_utf8(answer[..split].to_vec()).expect("text");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    Response { status, head, body: answer[split + 4..].to_vec() }
}

pub(crate) fn message(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

impl Server {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connects")
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        raw(self.connect().await, &message("GET", path, "", b"")).await
    }

    pub(crate) async fn post(&self, path: &str, headers: &str, body: &[u8]) -> Response {
        raw(self.connect().await, &message("POST", path, headers, body)).await
    }

    pub(crate) async fn infer(&self, body: &str) -> Response {
        self.post("/v2/models/times/infer", "", body.as_bytes()).await
    }

    /// A request of JSON and binary tensors.
    pub(crate) async fn infer_binary(&self, head: &str, tail: &[u8]) -> Response {
        let header = format!("Inference-Header-Content-Length: {}\r\n", head.len());
        self.post("/v2/models/times/infer", &header, &[head.as_bytes(), tail].concat()).await
    }
}

/// A request with `x` in JSON.
pub(crate) fn x(values: &[f32]) -> String {
    let shape = values.len();
    format!(r#"{{"inputs": [{{"name": "x", "shape": [{shape}], "datatype": "FP32", "data": {values:?}}}]}}"#)
}

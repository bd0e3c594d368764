//! What happens around a run: fallback, observer, swaps, limits, shutdown.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{FAIL, Gate, Note, Notes, PANIC, WAIT, failing, gated, raw, start, start_with, times, x};
use semver::Version;
use std::{
    path::Path,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use whimbrel_infer::{
    Datatype, LoadOptions, MemoryError, Model, RunError, Session, Tensor, TensorInfo, memory::Purpose, tract,
};
use whimbrel_serve::{Limits, LoadModelError, LoadedModel, NoObserver, Outcome, Registry, Traffic};
use whimbrel_wire::{ModelName, manifest::Manifest};

fn name() -> ModelName {
    "times".parse().expect("a name")
}

#[tokio::test]
async fn the_fallback_answers_and_the_error_counts() {
    let notes = Arc::new(Notes::default());
    let server = start_with(Limits::default(), None, notes.clone(), &[]).await;
    server.registry.set(times("2.0.0", 3.0), Some(times("1.0.0", 2.0)));

    let good = server.infer(&x(&[5.0])).await.json();
    assert_eq!((&good["model_version"], &good["outputs"][0]["data"][0]), (&"2.0.0".into(), &15.0.into()));
    assert_eq!(server.registry.traffic(&name()), Traffic { requests: 1, errors: 0 });

    server.registry.set(failing("3.0.0"), Some(times("1.0.0", 2.0)));
    assert_eq!(server.registry.traffic(&name()), Traffic::default());
    let saved = server.infer(&x(&[5.0])).await;
    assert_eq!(saved.status, 200, "{saved:?}");
    let saved = saved.json();
    assert_eq!((&saved["model_version"], &saved["outputs"][0]["data"][0]), (&"1.0.0".into(), &10.0.into()));
    assert_eq!(saved["parameters"]["fallback"], true);
    assert_eq!(server.registry.traffic(&name()), Traffic { requests: 1, errors: 1 });

    // Both fail: the primary's error is what the client gets.
    let lost = server.infer(&x(&[FAIL])).await;
    assert_eq!(lost.status, 500);
    assert!(lost.error().contains("not finite"), "{lost:?}");
    assert_eq!(server.registry.traffic(&name()), Traffic { requests: 2, errors: 2 });

    let failed = Outcome::Failed { kind: "non_finite" };
    let note = |version: &str, outcome, answered_by: Option<&str>, x: f32, y: Option<f32>| Note {
        version: version.into(),
        outcome,
        answered_by: answered_by.map(Into::into),
        x: vec![x],
        y: y.map(|y| vec![y]),
    };
    let expected = [
        note("2.0.0", Outcome::Ok, Some("2.0.0"), 5.0, Some(15.0)),
        note("3.0.0", failed, Some("1.0.0"), 5.0, Some(10.0)),
        note("3.0.0", failed, None, FAIL, None),
    ];
    assert_eq!(*notes.0.lock().expect("no panic"), expected);
}

#[tokio::test]
async fn requests_that_are_at_fault_are_not_held_against_the_model() {
    let notes = Arc::new(Notes::default());
    let server = start_with(Limits::default(), None, notes.clone(), &[]).await;
    server.registry.set(times("2.0.0", 3.0), Some(times("1.0.0", 2.0)));
    let nan = f32::NAN.to_le_bytes();
    let head = r#"{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}]}"#;
    let response = server.infer_binary(head, &nan).await;
    assert_eq!(response.status, 400, "{response:?}");
    assert_eq!(server.infer(&x(&[1.0]).replace("\"x\"", "\"q\"")).await.status, 400);
    assert_eq!(server.registry.traffic(&name()), Traffic::default());
    assert!(notes.0.lock().expect("no panic").is_empty());
}

/// A model of which one session fits into memory, and whose sessions hold it until they are dropped.
struct Hoarder {
    info: [TensorInfo; 1],
    alive: Arc<()>,
    /// Two runs at once, where the first element is [`WAIT`].
    both: Arc<Barrier>,
}

/// Asks for more than there ever is, where the first element is this.
const TOO_MUCH: f32 = 99.0;

struct HoarderSession(Arc<()>, Arc<Barrier>);

impl Model for Hoarder {
    fn inputs(&self) -> &[TensorInfo] {
        &self.info
    }
    fn outputs(&self) -> &[TensorInfo] {
        &self.info
    }
    fn session(&self) -> Box<dyn Session> {
        Box::new(HoarderSession(Arc::clone(&self.alive), Arc::clone(&self.both)))
    }
}

impl Session for HoarderSession {
    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>, RunError> {
        let first = inputs[0].1.to_f32s().expect("numbers")[0];
        // The model has one of them.
        let others = Arc::strong_count(&self.0) - 2;
        let needed_bytes = if first == TOO_MUCH { 101 } else { 60 };
        let memory = |taken_bytes| {
            RunError::Memory(MemoryError {
                purpose: Purpose::Run,
                needed_bytes,
                taken_bytes,
                budget_bytes: 100,
            })
        };
        if first == WAIT {
            self.1.wait();
        } else if others > 0 || first == TOO_MUCH {
            return Err(memory(others as u64 * 60));
        }
        Ok(vec![("x".into(), inputs[0].1.clone())])
    }
}

#[tokio::test]
async fn memory_that_idle_sessions_hold_is_taken_back_and_a_refusal_is_not_held_against_the_model() {
    let info = TensorInfo { name: "x".into(), datatype: Datatype::Fp32, shape: vec![None] };
    let model = Hoarder { info: [info], alive: Arc::new(()), both: Arc::new(Barrier::new(2)) };
    let model =
        LoadedModel::from_model(name(), Version::new(1, 0, 0), Arc::new(model), "fake").expect("fits");
    let limits = Limits { workers: 2, ..Limits::default() };
    let server = start_with(limits, None, Arc::new(NoObserver), &[Arc::new(model)]).await;
    let wait = x(&[WAIT]);
    let (first, second) = tokio::join!(server.infer(&wait), server.infer(&wait));
    assert_eq!((first.status, second.status), (200, 200), "two sessions wait for their next runs now");
    assert_eq!(server.infer(&x(&[1.0])).await.status, 200, "one of them had to go");
    let refused = server.infer(&x(&[TOO_MUCH])).await;
    assert_eq!(refused.status, 413, "{refused:?}");
    assert!(refused.error().contains("101 bytes") && refused.error().contains("100 bytes"), "{refused:?}");
    assert_eq!(server.registry.traffic(&name()), Traffic { requests: 3, errors: 0 });
}

#[tokio::test]
async fn a_panic_costs_one_answer() {
    let limits = Limits { workers: 1, ..Limits::default() };
    let server = start_with(limits, None, Arc::new(NoObserver), &[times("1.0.0", 2.0)]).await;
    for _ in 0..3 {
        let response = server.infer(&x(&[PANIC])).await;
        assert_eq!(response.status, 500, "{response:?}");
        assert!(response.error().contains("panicked"), "{response:?}");
    }
    assert_eq!(server.registry.traffic(&name()), Traffic { requests: 3, errors: 3 });
    assert_eq!(server.infer(&x(&[1.0])).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_under_load_leave_no_request_without_an_answer() {
    let server = Arc::new(start(&[times("1.0.0", 1.0)]).await);
    let done = Arc::new(AtomicBool::new(false));
    let swaps = tokio::spawn({
        let (server, done) = (Arc::clone(&server), Arc::clone(&done));
        async move {
            let mut version = 1u16;
            while !done.load(Ordering::Acquire) {
                version += 1;
                server.registry.set(times(&format!("{version}.0.0"), f32::from(version)), None);
                tokio::task::yield_now().await;
            }
            version
        }
    });
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                for _ in 0..100 {
                    let response = server.infer(&x(&[2.0])).await;
                    assert_eq!(response.status, 200, "{response:?}");
                    let json = response.json();
                    let version: f64 = json["model_version"]
                        .as_str()
                        .and_then(|v| v.split('.').next()?.parse().ok())
                        .expect("a version");
                    // The version named is the one that computed.
                    assert_eq!(json["outputs"][0]["data"][0], 2.0 * version);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("every request was answered");
    }
    done.store(true, Ordering::Release);
    assert!(swaps.await.expect("no panic") > 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_says_when_to_come_back() {
    let gate = Gate::new();
    let limits = Limits { workers: 1, queue_max: 0, ..Limits::default() };
    let server = Arc::new(start_with(limits, None, Arc::new(NoObserver), &[gated("1.0.0", &gate)]).await);
    let held = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.infer(&x(&[WAIT])).await }
    });
    gate.reached().await;
    let response = server.infer(&x(&[1.0])).await;
    assert_eq!((response.status, response.header("retry-after")), (429, Some("1")), "{response:?}");
    assert!(!response.error().is_empty());
    let metrics = String::from_utf8(server.get("/metrics").await.body).expect("text");
    assert!(metrics.contains("whimbrel_agent_inference_requests_in_flight 1"), "{metrics}");
    gate.open();
    assert_eq!(held.await.expect("no panic").status, 200);
    let metrics = String::from_utf8(server.get("/metrics").await.body).expect("text");
    for line in [
        r#"whimbrel_agent_inference_requests_total{model="times",version="1.0.0",outcome="ok"} 1"#,
        r#"whimbrel_agent_inference_rejections_total{reason="queue_full"} 1"#,
        r#"whimbrel_agent_inference_duration_seconds_count{model="times",version="1.0.0"} 1"#,
        "whimbrel_agent_inference_requests_in_flight 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_a_worker_ends() {
    let gate = Gate::new();
    let limits = Limits { workers: 1, queue_wait_max: Duration::from_millis(1), ..Limits::default() };
    let server = Arc::new(start_with(limits, None, Arc::new(NoObserver), &[gated("1.0.0", &gate)]).await);
    let held = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.infer(&x(&[WAIT])).await }
    });
    gate.reached().await;
    assert_eq!(server.infer(&x(&[1.0])).await.status, 503);
    gate.open();
    assert_eq!(held.await.expect("no panic").status, 200);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let limits = Limits { body_read_max: Duration::from_millis(1), ..Limits::default() };
    let server = start_with(limits, None, Arc::new(NoObserver), &[times("1.0.0", 2.0)]).await;
    let head = "POST /v2/models/times/infer HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{";
    let response = raw(server.connect().await, head.as_bytes()).await;
    assert_eq!(response.status, 408, "{response:?}");
    assert!(!response.error().is_empty());
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let limits = Limits { header_read_max: Duration::from_millis(1), ..Limits::default() };
    let server = start_with(limits, None, Arc::new(NoObserver), &[times("1.0.0", 2.0)]).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /v2 HT").await.expect("sent");
    let mut rest = Vec::new();
    // The server closes: reading ends.
    let _ = stream.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn bodies_together_take_no_more_than_their_share() {
    let limits = Limits { bodies_size_bytes_max: 4096, ..Limits::default() };
    let server = start_with(limits, None, Arc::new(NoObserver), &[times("1.0.0", 2.0)]).await;
    let response = server.infer(&(" ".repeat(10_000) + &x(&[1.0]))).await;
    assert_eq!((response.status, response.header("retry-after")), (429, Some("1")), "{response:?}");
    // What was taken is given back.
    assert_eq!(server.infer(&x(&[1.0])).await.status, 200);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_one_to_end() {
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let server = start_with(limits, None, Arc::new(NoObserver), &[times("1.0.0", 2.0)]).await;
    let first = server.connect().await;
    let mut second = Box::pin(server.get("/v2"));
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut second).await.is_err());
    drop(first);
    assert_eq!(second.await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_flight_are_answered_before_the_server_ends() {
    let gate = Gate::new();
    let server = start(&[gated("1.0.0", &gate)]).await;
    let stream = server.connect().await;
    let idle = server.connect().await;
    let request = common::message("POST", "/v2/models/times/infer", "", x(&[WAIT]).as_bytes());
    let held = tokio::spawn(async move { raw(stream, &request).await });
    gate.reached().await;
    server.stop.send(()).expect("runs");
    let drained = tokio::spawn(server.listening.drained());
    gate.open();
    assert_eq!(held.await.expect("no panic").status, 200);
    drained.await.expect("no panic");
    drop(idle);
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn sockets_that_cannot_be_bound_are_named() {
    use whimbrel_serve::{ListenError, ServeConfig, listen};
    let server = start(&[]).await;
    let try_to =
        |config: ServeConfig| listen(config, Arc::new(Registry::default()), Arc::new(NoObserver), async {});
    let nowhere = try_to(ServeConfig::default()).await.expect_err("nowhere");
    assert!(matches!(nowhere, ListenError::Nowhere));
    let taken = try_to(ServeConfig { http: Some(server.address), ..ServeConfig::default() }).await;
    assert!(matches!(taken, Err(ListenError::Tcp { .. })));
    let no_folder =
        try_to(ServeConfig { uds: Some("/nonexistent/agent.sock".into()), ..ServeConfig::default() }).await;
    assert!(no_folder.expect_err("no folder").to_string().contains("/nonexistent/agent.sock"));
}

fn digits() -> (std::path::PathBuf, Manifest) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits/v1");
    let text = std::fs::read_to_string(dir.join("bundle.toml")).expect("part of the tree");
    (dir, toml::from_str(&text).expect("a manifest"))
}

#[tokio::test]
async fn the_digits_bundle_serves() {
    let (dir, manifest) = digits();
    let tract = tract();
    let model = LoadedModel::from_bundle(&dir, &manifest, tract, &LoadOptions::default()).expect("loads");
    let pixels = |ink: f32| Tensor::from_values(vec![1, 1, 8, 8], &[ink; 64]).expect("valid");
    let answer = model.infer(vec![("pixels".into(), pixels(8.0))]).expect("answers");
    let names: Vec<&str> = answer.outputs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["probabilities", "label", "score"]);
    assert!(model.infer(vec![("pixels".into(), pixels(f32::NAN))]).expect_err("NaN").is_bad_input());

    let server = start(&[Arc::new(model)]).await;
    let data = vec!["8"; 64].join(",");
    let body = format!(
        r#"{{"inputs": [{{"name": "pixels", "shape": [1,1,8,8], "datatype": "FP32", "data": [{data}]}}]}}"#
    );
    let json = server.post("/v2/models/digits/infer", "", body.as_bytes()).await.json();
    let probabilities: Vec<f64> =
        json["outputs"][0]["data"].as_array().expect("ten").iter().filter_map(|v| v.as_f64()).collect();
    assert_eq!(probabilities.len(), 10);
    assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-5);
    let best = probabilities.iter().fold(0.0, |a: f64, b| a.max(*b));
    assert_eq!(json["outputs"][2]["data"][0].as_f64(), Some(best));
    let label: usize = json["outputs"][1]["data"][0].as_str().and_then(|l| l.parse().ok()).expect("a digit");
    assert_eq!(probabilities[label], best);
}

#[test]
fn bundles_that_do_not_fit_are_refused() {
    let (dir, good) = digits();
    let tract = tract();
    let load = |change: fn(&mut Manifest)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        LoadedModel::from_bundle(&dir, &manifest, tract, &LoadOptions::default())
            .err()
            .expect("must be refused")
    };
    assert!(matches!(load(|m| m.model = "../v2/model.onnx".into()), LoadModelError::Manifest { .. }));
    assert!(matches!(load(|m| m.model = "absent.onnx".into()), LoadModelError::Load { .. }));
    assert!(matches!(load(|m| m.model = "golden.npz".into()), LoadModelError::Load { .. }));
    assert!(matches!(load(|m| m.pipeline.pre.clear()), LoadModelError::Compile { .. }));
    assert!(matches!(load(|m| m.labels.truncate(9)), LoadModelError::Compile { .. }));
    assert!(matches!(load(|m| m.outputs[0].shape = vec![1, 11]), LoadModelError::Compile { .. }));
}

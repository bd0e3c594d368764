//! The apps of the demo: one client per device that sends held-out images without a break and checks every answer.

use super::samples::Samples;
use crate::error::{Failure, chain};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Mutex, OwnedMutexGuard, watch},
    task::JoinSet,
};

/// Pause between two requests of one client.
const PAUSE: Duration = Duration::from_millis(10);
/// Pause where there is no agent, or no model yet.
const RETRY: Duration = Duration::from_millis(25);
/// After this a request has had no answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What one client has seen so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Requests begun, whatever became of them.
    pub(crate) begun: u64,
    /// Requests with an answer from the model, failed ones included: what telemetry must show.
    pub(crate) answered: u64,
    /// Successful ones among them.
    pub(crate) predictions: u64,
    /// Failed ones among them.
    pub(crate) errors: u64,
    /// Successful ones that the previous version gave in place of a failing candidate.
    pub(crate) by_fallback: u64,
    /// Requests whose connection broke before an answer: the agent may or may not have counted them.
    pub(crate) ambiguous: u64,
    /// Successful ones per version, and how many of them named the right class.
    pub(crate) by_version: BTreeMap<String, Share>,
    /// The first successful answer since the client was last pointed at an agent.
    pub(crate) first: Option<First>,
}

/// Right ones among several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) right: u64,
    pub(crate) of: u64,
}

/// An answer: when it came, and from which version.
#[derive(Debug, Clone)]
pub(crate) struct First {
    pub(crate) at: Instant,
    pub(crate) version: String,
}

/// Where a client sends.
#[derive(Debug, Clone, Copy, Default)]
struct Target {
    /// Counts the times the client was pointed somewhere.
    epoch: u64,
    agent: Option<SocketAddr>,
}

/// One client per device. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Traffic {
    lines: Vec<Line>,
    // Held for its drop: it aborts the clients.
    _clients: JoinSet<()>,
}

#[derive(Debug)]
struct Line {
    target: watch::Sender<Target>,
    tally: watch::Sender<Tally>,
    gate: Arc<Mutex<()>>,
}

/// Proof that no request is on its way. Traffic goes on when it is dropped.
#[derive(Debug)]
#[must_use = "traffic goes on when this is dropped"]
pub(crate) struct Paused(#[allow(dead_code, reason = "held for its drop")] Vec<OwnedMutexGuard<()>>);

impl Traffic {
    /// Clients for `devices` devices; each is silent until it is pointed at an agent.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub(crate) fn start(devices: usize, samples: Samples) -> Result<Self, Failure> {
        let samples = Arc::new(samples);
        let mut clients = JoinSet::new();
        let mut lines = Vec::new();
        for device in 0..devices {
            let http = reqwest::Client::builder()
                .no_proxy()
                .timeout(TIMEOUT)
                .build()
                .map_err(|e| Failure::failed("making an HTTP client", chain(&e)))?;
            let line = Line {
                target: watch::Sender::new(Target::default()),
                tally: watch::Sender::new(Tally::default()),
                gate: Arc::default(),
            };
            let client = AppClient {
                http,
                samples: Arc::clone(&samples),
                // Each client goes through the images from another one.
                next: device * samples.len() / devices,
                target: line.target.subscribe(),
                tally: line.tally.clone(),
                gate: Arc::clone(&line.gate),
            };
            clients.spawn(client.run());
            lines.push(line);
        }
        Ok(Self { lines, _clients: clients })
    }

    /// Points the client of a device at its agent, or at none.
    pub(crate) fn point(&self, device: usize, agent: Option<SocketAddr>) {
        let line = &self.lines[device];
        line.tally.send_modify(|t| t.first = None);
        line.target.send_modify(|target| *target = Target { epoch: target.epoch + 1, agent });
    }

    /// What the client of a device has seen.
    pub(crate) fn tally(&self, device: usize) -> Tally {
        self.lines[device].tally.borrow().clone()
    }

    /// What all clients have seen.
    pub(crate) fn total(&self) -> Tally {
        let mut sum = Tally::default();
        for line in &self.lines {
            sum.add(&line.tally.borrow());
        }
        sum
    }

    /// Waits until what the client of a device has seen is as asked.
    ///
    /// # Errors
    /// When the time is up before.
    pub(crate) async fn wait(
        &self,
        device: usize,
        what: &str,
        within: Duration,
        holds: impl Fn(&Tally) -> bool,
    ) -> Result<Tally, Failure> {
        let mut tally = self.lines[device].tally.subscribe();
        let attempted = || format!("waiting for {what}");
        match tokio::time::timeout(within, tally.wait_for(|t| holds(t))).await {
            Ok(Ok(tally)) => Ok(tally.clone()),
            Ok(Err(e)) => Err(Failure::failed(attempted(), e)),
            Err(_) => {
                let why = format!("not within {} s: {:?}", within.as_secs(), self.tally(device));
                Err(Failure::failed(attempted(), why))
            }
        }
    }

    /// Waits for the requests that are on their way, and sends no more until the result is dropped.
    pub(crate) async fn pause(&self) -> Paused {
        let mut guards = Vec::new();
        for line in &self.lines {
            guards.push(Arc::clone(&line.gate).lock_owned().await);
        }
        Paused(guards)
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.begun += other.begun;
        self.answered += other.answered;
        self.predictions += other.predictions;
        self.errors += other.errors;
        self.by_fallback += other.by_fallback;
        self.ambiguous += other.ambiguous;
        for (version, share) in &other.by_version {
            let sum = self.by_version.entry(version.clone()).or_default();
            sum.right += share.right;
            sum.of += share.of;
        }
    }

    /// Right answers among those of the versions given.
    pub(crate) fn share(&self, versions: &[&str]) -> Share {
        let mut sum = Share::default();
        for share in versions.iter().filter_map(|v| self.by_version.get(*v)) {
            sum.right += share.right;
            sum.of += share.of;
        }
        sum
    }
}

impl Share {
    /// The share as a number from 0 to 1; 0 of none.
    pub(crate) fn ratio(self) -> f64 {
        if self.of == 0 { 0.0 } else { self.right as f64 / self.of as f64 }
    }
}

struct AppClient {
    http: reqwest::Client,
    samples: Arc<Samples>,
    next: usize,
    target: watch::Receiver<Target>,
    tally: watch::Sender<Tally>,
    gate: Arc<Mutex<()>>,
}

/// The parts of an inference answer that are looked at.
#[derive(Debug, Deserialize)]
struct Answer {
    model_version: String,
    #[serde(default)]
    parameters: Parameters,
    outputs: Vec<Output>,
}
#[derive(Debug, Default, Deserialize)]
struct Parameters {
    #[serde(default)]
    fallback: bool,
}
#[derive(Debug, Deserialize)]
struct Output {
    name: String,
    data: Vec<serde_json::Value>,
}

/// What became of one request.
enum Outcome {
    Prediction {
        version: String,
        right: bool,
        fallback: bool,
    },
    /// The model failed, and said so.
    Failed,
    /// Nobody who could count it got it.
    NotSent,
    /// Sent, and no whole answer came back.
    Broken,
}

impl AppClient {
    async fn run(mut self) {
        loop {
            // Ends with the sender, which goes when the demo does.
            let Ok(target) = self.target.wait_for(|t| t.agent.is_some()).await.map(|t| *t) else { return };
            let Some(address) = target.agent else { continue };
            let gate = Arc::clone(&self.gate);
            let pause = {
                let _passing = gate.lock().await;
                self.tally.send_modify(|t| t.begun += 1);
                let outcome = self.ask(address).await;
                let pause = if matches!(outcome, Outcome::NotSent) { RETRY } else { PAUSE };
                let current = self.target.borrow().epoch == target.epoch;
                self.tally.send_modify(|t| t.count(outcome, current));
                pause
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn ask(&mut self, address: SocketAddr) -> Outcome {
        let sample = self.samples.get(self.next);
        let url = format!("http://{address}/v2/models/{}/infer", self.samples.model());
        let sent = self.http.post(url).header("content-type", "application/json").body(sample.body.clone());
        let response = match sent.send().await {
            Ok(response) => response,
            Err(e) if e.is_connect() => return Outcome::NotSent,
            Err(_) => return Outcome::Broken,
        };
        let status = response.status();
        let Ok(body) = response.bytes().await else { return Outcome::Broken };
        // No such model (yet), or not ready: no model saw the request.
        if matches!(status.as_u16(), 404 | 503) {
            return Outcome::NotSent;
        }
        self.next += 1;
        if !status.is_success() {
            return Outcome::Failed;
        }
        match serde_json::from_slice::<Answer>(&body) {
            Ok(answer) => Outcome::Prediction {
                right: answer.label(self.samples.label_output()) == Some(sample.label.as_str()),
                fallback: answer.parameters.fallback,
                version: answer.model_version,
            },
            Err(_) => Outcome::Failed,
        }
    }
}

impl Answer {
    fn label(&self, output: &str) -> Option<&str> {
        self.outputs.iter().find(|o| o.name == output)?.data.first()?.as_str()
    }
}

impl Tally {
    /// Counts one request; `current` when the client still points at the agent that was asked.
    fn count(&mut self, outcome: Outcome, current: bool) {
        match outcome {
            Outcome::NotSent => {}
            Outcome::Broken => self.ambiguous += 1,
            Outcome::Failed => {
                self.answered += 1;
                self.errors += 1;
            }
            Outcome::Prediction { version, right, fallback } => {
                self.answered += 1;
                self.predictions += 1;
                self.by_fallback += u64::from(fallback);
                if current && self.first.is_none() {
                    self.first = Some(First { at: Instant::now(), version: version.clone() });
                }
                let share = self.by_version.entry(version).or_default();
                share.right += u64::from(right);
                share.of += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction(version: &str, right: bool) -> Outcome {
        Outcome::Prediction { version: version.into(), right, fallback: false }
    }

    #[test]
    fn every_outcome_is_counted_once() {
        let mut tally = Tally::default();
        tally.count(prediction("1.0.0", true), false);
        assert!(tally.first.is_none(), "an answer of an agent that is gone is no first answer");
        tally.count(prediction("2.0.0", false), true);
        tally.count(Outcome::Failed, true);
        tally.count(Outcome::Broken, true);
        tally.count(Outcome::NotSent, true);
        assert_eq!((tally.answered, tally.predictions, tally.errors, tally.ambiguous), (3, 2, 1, 1));
        assert_eq!(tally.first.as_ref().expect("set").version, "2.0.0");
        assert_eq!(tally.share(&["1.0.0", "2.0.0", "9.0.0"]), Share { right: 1, of: 2 });
        let mut sum = Tally::default();
        sum.add(&tally);
        sum.add(&tally);
        assert_eq!(sum.share(&["1.0.0"]), Share { right: 2, of: 2 });
        assert!((sum.share(&["2.0.0"]).ratio() - 0.0).abs() < f64::EPSILON);
    }

    #[test]
    fn labels_are_read_from_the_output_asked_for() {
        let text = r#"{"model_name":"digits","model_version":"2.0.0","parameters":{"fallback":true},
            "outputs":[{"name":"scores","data":[0.1]},{"name":"label","datatype":"BYTES","shape":[1],"data":["7"]}]}"#;
        let answer: Answer = serde_json::from_str(text).expect("parses");
        assert_eq!(answer.label("label"), Some("7"));
        assert_eq!(answer.label("scores"), None);
        assert_eq!(answer.label("absent"), None);
        assert!(answer.parameters.fallback);
    }
}

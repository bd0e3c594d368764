//! An agent of the test's own.

use crate::{
    fleet::{Fleet, Operator},
    http::{self, Answer},
    process::{Process, binary, run, value},
};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A running `whimbrel-agent`.
pub struct Agent {
    /// Its process.
    pub process: Process,
    /// Its state folder.
    pub state: PathBuf,
    /// `http://…`
    pub http: String,
    /// Its Unix socket.
    pub socket: PathBuf,
}

impl Agent {
    /// Starts one that serves `model` (a file or folder) as `digits`, with no fleet.
    #[must_use]
    pub fn alone(dir: &Path, model: &Path) -> Self {
        Self::start(dir, "alone", &["--model", &format!("digits={}", model.display())])
    }

    /// Enrols a new device at `fleet` and starts it.
    ///
    /// # Panics
    /// When enrolment fails.
    #[must_use]
    pub fn enrolled(dir: &Path, id: &str, fleet: &Fleet, operator: &Operator) -> Self {
        Self::enrolled_with(dir, id, fleet, operator, &[])
    }

    /// The same, with more arguments of `serve`.
    ///
    /// # Panics
    /// When enrolment fails.
    #[must_use]
    pub fn enrolled_with(dir: &Path, id: &str, fleet: &Fleet, operator: &Operator, more: &[&str]) -> Self {
        let state = dir.join(id);
        let args =
            ["enroll", "--server", &fleet.https, "--token", &operator.token(), "--device", id, "--state-dir"];
        drop(run(&binary("whimbrel-agent"), args.iter().map(PathBuf::from).chain([state])).ok());
        Self::start(dir, id, more)
    }

    /// Starts (again) the agent whose state is in `dir/id`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(dir: &Path, id: &str, more: &[&str]) -> Self {
        let (state, socket) = (dir.join(id), dir.join(format!("{id}.sock")));
        let mut command = Command::new(binary("whimbrel-agent"));
        command
            .arg("serve")
            .arg("--state-dir")
            .arg(&state)
            .args(["--http", "127.0.0.1:0"])
            .arg("--uds")
            .arg(&socket);
        command.args(more).env("WHIMBREL__TELEMETRY__WINDOW_S", "2");
        let process = Process::start(&mut command, dir.join(format!("{id}.log")));
        let lines = process.until_ready();
        let http = format!("http://{}", value(&lines, "listening: http://"));
        Self { process, state, http, socket }
    }

    /// Asks for one digit: pixels 0 to 16, 8 rows of 8.
    #[must_use]
    pub fn infer(&self, pixels: &[f32]) -> Option<Answer> {
        let body = json!({"inputs": [{"name": "pixels", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": pixels}]});
        http::post(&self.http, "/v2/models/digits/infer", "", body.to_string().as_bytes())
    }

    /// Keeps asking in turns through `images` until `done` gives something; every answer must be a success.
    ///
    /// # Panics
    /// When an answer is none, or `done` gives nothing for long.
    pub fn serve_until<T>(&self, what: &str, images: &[Vec<f32>], mut done: impl FnMut() -> Option<T>) -> T {
        let mut turn = images.iter().cycle();
        crate::eventually(what, || {
            for pixels in turn.by_ref().take(25) {
                if let Some(answer) = self.infer(pixels) {
                    // 404 while no version serves yet; anything else must be an answer.
                    assert!(matches!(answer.status, 200 | 404 | 503), "{}", answer.head);
                }
            }
            done()
        })
    }

    /// The version that answers now.
    #[must_use]
    pub fn version(&self, pixels: &[f32]) -> Option<String> {
        let answer = self.infer(pixels).filter(|a| a.status == 200)?;
        match &answer.json()["model_version"] {
            Value::String(version) => Some(version.clone()),
            _ => None,
        }
    }
}

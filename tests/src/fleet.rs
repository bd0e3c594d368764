//! A fleet server of the test's own, and an operator who may do everything on it.

use crate::process::{Finished, Process, binary, finish, value};
use serde_json::Value;
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A running `whimbrel-fleet`.
pub struct Fleet {
    /// Its process.
    pub process: Process,
    /// Its state folder.
    pub state: PathBuf,
    /// `https://…`
    pub https: String,
    /// Port of the broker.
    pub mqtt_port: u16,
    /// `http://…` of the web page.
    pub ui: String,
}

impl Fleet {
    /// Starts one with its state in `dir`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        let state = dir.join("fleet");
        let any = "127.0.0.1:0";
        let mut command = Command::new(binary("whimbrel-fleet"));
        command.arg("serve").arg("--state-dir").arg(&state);
        command.args(["--https", any, "--mqtt", any, "--ui", any]);
        let process = Process::start(&mut command, dir.join("fleet.log"));
        let lines = process.until_ready();
        let https = value(&lines, "listening: https://").to_owned();
        let mqtt = value(&lines, "listening: mqtts://");
        let ui = value(&lines, "listening: http://").split(' ').next().unwrap_or_default().to_owned();
        let mqtt_port =
            mqtt.rsplit(':').next().and_then(|p| p.parse().ok()).expect("the broker's port is printed");
        Self { process, state, https: format!("https://{https}"), mqtt_port, ui: format!("http://{ui}") }
    }
}

/// Keys, a repository and the right to use them on one fleet server.
pub struct Operator {
    dir: PathBuf,
    server: OsString,
    token: PathBuf,
    ca: PathBuf,
}

impl Operator {
    /// Makes two root keys (both needed), one targets key, signs the first root and publishes it.
    ///
    /// # Panics
    /// When a step fails.
    #[must_use]
    pub fn new(dir: &Path, fleet: &Fleet) -> Self {
        let operator = Self {
            dir: dir.join("operator"),
            server: fleet.https.clone().into(),
            token: fleet.state.join("admin.token"),
            ca: fleet.state.join("ca.pem"),
        };
        fs::create_dir_all(&operator.dir).expect("the operator's folder can be made");
        for key in ["root-1", "root-2", "targets"] {
            drop(operator.call(&["key", "generate", "--out", &operator.path(&format!("{key}.pem"))]).ok());
        }
        let [one, two, targets, repo] =
            ["root-1.pem", "root-2.pem", "targets.pem", "repo"].map(|f| operator.path(f));
        let init =
            ["repo", "init", "--repo", &repo, "--root-key", &one, "--root-key", &two, "--threshold", "2"];
        drop(operator.call(&[&init[..], &["--targets-key", &targets]].concat()).ok());
        drop(operator.call(&["repo", "push", "--repo", &repo]).ok());
        operator
    }

    /// A path in the operator's folder, as text.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Runs `whimbrel` with this operator's server, token and CA.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn call(&self, args: &[&str]) -> Finished {
        let environment = [
            ("WHIMBREL_SERVER", self.server.as_ref()),
            ("WHIMBREL_TOKEN_FILE", self.token.as_os_str()),
            ("WHIMBREL_CA", self.ca.as_os_str()),
        ];
        finish(Command::new(binary("whimbrel")).args(args).envs(environment))
    }

    /// The same with `--json`, parsed.
    ///
    /// # Panics
    /// When it fails or prints something else.
    #[must_use]
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.call(&[args, &["--json"]].concat()).ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
    }

    /// Packs a bundle folder; gives the archive's path.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn pack(&self, folder: &Path, name: &str) -> String {
        let archive = self.path(name);
        drop(self.call(&["bundle", "pack", &folder.display().to_string(), "--out", &archive]).ok());
        archive
    }

    /// Signs and publishes an archive.
    ///
    /// # Panics
    /// When it fails.
    pub fn publish(&self, archive: &str) {
        let (repo, key) = (self.path("repo"), self.path("targets.pem"));
        drop(self.call(&["model", "publish", archive, "--repo", &repo, "--targets-key", &key]).ok());
    }

    /// A one-time enrolment token.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn token(&self) -> String {
        let root = self.path("repo/1.root.json");
        self.call(&["enroll", "create", "--root", &root]).ok().trim().to_owned()
    }

    /// What the server knows of a device.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn device(&self, id: &str) -> Value {
        self.json(&["device", "show", id])
    }

    /// The last update of the model `digits` on a device, as (version, progress).
    #[must_use]
    pub fn update(&self, id: &str) -> Option<(String, Value)> {
        let device = self.device(id);
        let model = device["report"]["models"].as_array()?.iter().find(|m| m["name"] == "digits")?;
        Some((model["update"]["version"].as_str()?.to_owned(), model["update"]["progress"].clone()))
    }
}

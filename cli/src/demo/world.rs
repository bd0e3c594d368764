//! What runs in the demo: one server, two agents behind a network that can be cut, and the apps that use them.

use super::{
    processes::{Process, Program},
    proxy::Proxy,
    traffic::Traffic,
};
use crate::{
    client::Client,
    commands::enroll,
    error::Failure,
    files,
    repository::{Key, Repository},
};
use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use whimbrel_wire::{DeviceId, api::NewToken};

/// Number of devices.
pub(crate) const DEVICES: usize = 2;
/// Time between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Longest wait for a program to be ready.
const START: Duration = Duration::from_secs(60);

/// Folders of the demo.
#[derive(Debug)]
pub(crate) struct Places {
    state: PathBuf,
    logs: PathBuf,
    binaries: PathBuf,
    examples: PathBuf,
}

impl Places {
    /// The folders below `state`, made where they are absent.
    ///
    /// # Errors
    /// When one cannot be made.
    pub(crate) fn new(state: &Path, binaries: PathBuf, examples: PathBuf) -> Result<Self, Failure> {
        let state = state.to_owned();
        let logs = state.join("logs");
        for dir in [&logs, &state.join("keys")] {
            std::fs::create_dir_all(dir)
                .map_err(|e| Failure::failed(format!("making {}", dir.display()), e))?;
        }
        Ok(Self { state, logs, binaries, examples })
    }

    /// A version's bundle folder.
    pub(crate) fn bundle(&self, version: u64) -> PathBuf {
        self.examples.join(format!("digits/v{version}"))
    }

    /// The images that no version was trained on.
    pub(crate) fn held_out(&self) -> PathBuf {
        self.examples.join("digits/heldout.npz")
    }

    /// The operator's metadata folder.
    pub(crate) fn repository(&self) -> PathBuf {
        self.state.join("repo")
    }

    /// An operator's key file.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.state.join("keys").join(format!("{name}.key"))
    }

    fn program(&self, name: &str, binary: &str, args: Vec<OsString>) -> Program {
        Program { name: name.to_owned(), path: self.binaries.join(binary), args, logs: self.logs.clone() }
    }
}

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct World {
    // First, so that the apps end before the agents.
    pub(crate) traffic: Traffic,
    pub(crate) agents: Vec<Agent>,
    pub(crate) fleet: Fleet,
    pub(crate) places: Places,
}

/// The server, and the operator's way to it.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) client: Client,
    pub(crate) network: Network,
    process: Process,
    ui: String,
    token_file: PathBuf,
}

/// The devices' way to the server.
#[derive(Debug)]
pub(crate) struct Network {
    https: Proxy,
    mqtt: Proxy,
}

impl Network {
    /// No byte passes any more.
    pub(crate) fn cut(&self) {
        self.https.cut();
        self.mqtt.cut();
    }

    /// Bytes pass again.
    pub(crate) fn restore(&self) {
        self.https.restore();
        self.mqtt.restore();
    }
}

impl Fleet {
    /// Starts the server and the relays to it.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub(crate) async fn start(places: &Places) -> Result<Self, Failure> {
        let state = places.state.join("fleet");
        let mut args: Vec<OsString> =
            ["serve", "--https", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"].map(Into::into).into();
        args.extend(["--ui", "127.0.0.1:0", "--state-dir"].map(OsString::from));
        // A file of its own, so that settings of a server installed on this machine do not reach the demo's.
        let config = places.state.join("fleet.toml");
        files::write(&config, b"")?;
        args.extend([state.clone().into(), "--config".into(), config.into()]);
        let mut process = places.program("fleet", "whimbrel-fleet", args).start()?;
        process.line("ready", START).await?;
        let https = process.line("listening: https://", START).await?;
        let mqtt = process.line("listening: mqtts://", START).await?;
        let ui = process.line("listening: http://", START).await?;
        let token_file = PathBuf::from(process.line("admin token: ", START).await?);
        let token = String::from_utf8_lossy(&files::read(&token_file, 4096)?).trim().to_owned();
        let ca = files::read(&state.join("ca.pem"), files::FILE_BYTES_MAX)?;
        let network = Network {
            https: Proxy::start(address(&https)?).await?,
            mqtt: Proxy::start(address(&mqtt)?).await?,
        };
        let client = Client::new(&format!("https://{}", address(&https)?), token, &ca)?;
        let ui = format!("http://{}", address(&ui)?);
        Ok(Self { client, network, process, ui, token_file })
    }
}

/// One device.
#[derive(Debug)]
pub(crate) struct Agent {
    program: Program,
    process: Process,
}

/// A device that has a certificate; its agent does not run yet.
#[derive(Debug)]
pub(crate) struct Enrolled {
    pub(crate) id: DeviceId,
    program: Program,
}

impl Enrolled {
    /// Enrols device `number` with a one-time token.
    ///
    /// # Errors
    /// When the server or the agent refuses.
    pub(crate) async fn new(
        places: &Places,
        fleet: &Fleet,
        repository: &Repository,
        number: usize,
    ) -> Result<Self, Failure> {
        let id: DeviceId =
            format!("device-{number}").parse().map_err(|e| Failure::failed("naming a device", e))?;
        let new = NewToken { ttl_s: 600, device: Some(id.clone()), tags: vec!["demo".to_owned()] };
        let token = enroll::create(&fleet.client, &new, &repository.root(1)?).await?;
        let state = places.state.join(id.as_str());
        let config = places.state.join(format!("{id}.toml"));
        files::write(&config, AGENT_CONFIG.as_bytes())?;
        let common: [OsString; 4] = ["--config".into(), config.into(), "--state-dir".into(), state.into()];

        let network = &fleet.network;
        let mut args: Vec<OsString> = ["enroll", "--device", id.as_str(), "--token"].map(Into::into).into();
        args.extend([token.token.into(), "--server".into()]);
        args.extend([format!("https://{}", network.https.address()).into(), "--mqtt-port".into()]);
        args.push(network.mqtt.address().port().to_string().into());
        args.extend(common.clone());
        places.program(&format!("{id}-enroll"), "whimbrel-agent", args).finish(START).await?;

        let mut args: Vec<OsString> = ["serve", "--http", "127.0.0.1:0"].map(Into::into).into();
        args.extend(common);
        Ok(Self { program: places.program(id.as_str(), "whimbrel-agent", args), id })
    }
}

impl Agent {
    /// Starts the agent of an enrolled device.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(device: Enrolled) -> Result<Self, Failure> {
        let process = device.program.start()?;
        Ok(Self { program: device.program, process })
    }

    /// Where its inference API listens; known as soon as it says so.
    ///
    /// # Errors
    /// When it does not in time.
    pub(crate) async fn address(&mut self) -> Result<SocketAddr, Failure> {
        address(&self.process.line("listening: http://", START).await?)
    }

    /// When its process was started.
    pub(crate) fn started(&self) -> std::time::Instant {
        self.process.started()
    }

    /// Ends its process as a power cut would.
    ///
    /// # Errors
    /// When it had ended before.
    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        self.process.kill().await
    }

    /// Starts its process again.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn restart(&mut self) -> Result<(), Failure> {
        self.process = self.program.start()?;
        Ok(())
    }
}

impl World {
    /// Looks again and again until `look` finds something.
    ///
    /// # Errors
    /// When a process ended, or the time is up, with the ends of all logs.
    pub(crate) async fn until<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut look: impl AsyncFnMut(&Self) -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            self.check_processes()?;
            if let Some(found) = look(self).await? {
                return Ok(found);
            }
            if tokio::time::Instant::now() >= deadline {
                let why = format!("not within {} s; {}", within.as_secs(), self.tails());
                return Err(Failure::failed(format!("waiting for {what}"), why));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until a process ends that should not.
    pub(crate) async fn watch(&mut self) -> Failure {
        loop {
            if let Err(failure) = self.check_processes() {
                return failure;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn check_processes(&mut self) -> Result<(), Failure> {
        let agents = self.agents.iter_mut().map(|a| &mut a.process);
        for process in agents.chain([&mut self.fleet.process]) {
            if let Some(status) = process.ended() {
                let why = format!("it ended with {status}; {}", process.tail());
                return Err(Failure::failed(format!("keeping {} running", process.name()), why));
            }
        }
        Ok(())
    }

    /// The ends of all logs.
    pub(crate) fn tails(&self) -> String {
        let agents = self.agents.iter().map(|a| &a.process);
        agents.chain([&self.fleet.process]).map(Process::tail).collect::<Vec<_>>().join("; ")
    }

    /// Where the user interface is, and how to get in.
    pub(crate) fn how_to_look(&self) -> String {
        format!(
            "\nThe fleet is up, with traffic flowing.\n  web UI    {}\n  log in    with the token in {}\nCtrl-C ends everything.",
            self.fleet.ui,
            self.fleet.token_file.display()
        )
    }
}

/// Short windows, so that telemetry is seen within seconds; no Unix socket, as two agents cannot share one.
const AGENT_CONFIG: &str = "[telemetry]\nwindow_s = 2\n\n[serve]\nuds = \"\"\n";

/// Two keys for the root, one for releases: what three operators would hold.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) root: [Key; 2],
    pub(crate) release: Key,
}

/// The address in a line such as `127.0.0.1:8350` or `127.0.0.1:8350 (ui)`, perhaps with a path.
fn address(text: &str) -> Result<SocketAddr, Failure> {
    let host = text.split([' ', '/']).next().unwrap_or_default();
    host.parse().map_err(|e| Failure::failed(format!("reading the address {text:?}"), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_the_lines_that_programs_print() {
        for text in ["127.0.0.1:8350", "127.0.0.1:8350 (ui)", "127.0.0.1:8350/"] {
            assert_eq!(address(text).expect("an address").port(), 8350, "{text}");
        }
        assert!(address("localhost").is_err());
    }
}

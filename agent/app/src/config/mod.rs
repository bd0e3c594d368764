//! The agent's configuration: defaults, then files, then the environment, then flags.
//!
//! | module | holds |
//! |---|---|
//! | [`sources`] | which files, variables and flags are read, in which order |
//! | [`mod@file`] | one TOML file |
//! | [`raw`] | every key as it was written, each optional |
//! | [`check`] | the rules, and the defaults |
//! | [`literal`] | one value as it was written |
//! | [`origin`] | where a value came from, and what is wrong with it |

mod check;
mod file;
mod literal;
mod origin;
mod raw;
mod sources;
#[cfg(test)]
mod tests;

pub(crate) use check::{Shown, server_url};
pub(crate) use origin::Origin;
pub(crate) use sources::{Loaded, Sources, load};

use reqwest::Url;
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use tracing::level_filters::LevelFilter;
use whimbrel_serve::{Limits, ServeConfig};

/// Every setting, checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The device itself.
    pub(crate) device: Device,
    /// The fleet server.
    pub(crate) server: Server,
    /// What apps talk to.
    pub(crate) serve: Serve,
    /// What is counted and sent.
    pub(crate) telemetry: Telemetry,
    /// What is written to standard error.
    pub(crate) log: Log,
}

/// `[device]`.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    /// Everything that the agent keeps.
    pub(crate) state_dir: PathBuf,
}

/// `[server]`.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// Where the fleet server is, if not where the device enrolled.
    pub(crate) url: Option<Url>,
    /// Its MQTT port, if not the one it named at the enrolment.
    pub(crate) mqtt_port: Option<u16>,
    /// How it is talked to.
    pub(crate) transport: Transport,
    /// Longest pause between two polls over HTTPS.
    pub(crate) poll_max: Duration,
    /// Longest pause between two reports.
    pub(crate) report_every: Duration,
    /// MQTT keep-alive.
    pub(crate) keep_alive: Duration,
}

/// How the fleet server is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Messages over MQTT, or HTTPS polling while MQTT cannot connect; updates over HTTPS, or MQTT while HTTPS does not work.
    Auto,
    /// MQTT only, updates included.
    Mqtt,
    /// HTTPS only.
    Https,
}

/// `[serve]`.
#[derive(Debug, Clone)]
pub(crate) struct Serve {
    /// TCP address of the HTTP front end; port 0 picks a free one.
    pub(crate) http: Option<SocketAddr>,
    /// Its Unix socket.
    pub(crate) uds: Option<PathBuf>,
    /// Whether nobody asked for the Unix socket: where it cannot be made, the agent then goes without it.
    pub(crate) uds_is_default: bool,
    /// Name of the backend that runs models.
    pub(crate) backend: String,
    /// What a client may ask for.
    pub(crate) limits: Limits,
}

/// `[telemetry]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Telemetry {
    /// Whether anything is counted.
    pub(crate) enabled: bool,
    /// Length of a window.
    pub(crate) window: Duration,
    /// Most bytes that wait to be sent.
    pub(crate) spool_bytes_max: u64,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    /// The least severe level that is written.
    pub(crate) level: LevelFilter,
}

impl Config {
    /// What the front end is started with.
    pub(crate) fn serve_config(&self) -> ServeConfig {
        let Serve { http, uds, uds_is_default: _, backend: _, limits } = self.serve.clone();
        ServeConfig { http, uds, limits }
    }
}

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

use crate::platform::memory_bytes;
use reqwest::Url;
use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};
use tracing::level_filters::LevelFilter;
use whimbrel_infer::{Cores, ImportLimits, LoadOptions};
use whimbrel_serve::{Limits, ServeConfig};
use whimbrel_updater::policy::DownloadPolicy;
use whimbrel_wire::ModelName;

/// Every setting, checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The device itself.
    pub(crate) device: Device,
    /// The fleet server.
    pub(crate) server: Server,
    /// What apps talk to.
    pub(crate) serve: Serve,
    /// What each model may use.
    pub(crate) models: Models,
    /// When and how bundles are fetched.
    pub(crate) updates: Updates,
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

/// `[models]` and `[model.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Models {
    /// Of models that are not named.
    pub(crate) every: ModelSettings,
    /// By name.
    pub(crate) named: BTreeMap<ModelName, ModelSettings>,
}

/// What a model may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelSettings {
    /// Most memory; a share of the machine's where it is not said.
    pub(crate) memory_bytes_max: Option<u64>,
    /// Largest input tensor.
    pub(crate) input_bytes_max: usize,
    /// Most threads of one run; 0 for as many as there are processors.
    pub(crate) threads: usize,
    /// The processors that its runs are bound to.
    pub(crate) cores: Option<Cores>,
}

impl Default for ModelSettings {
    fn default() -> Self {
        let input_bytes_max = ImportLimits::default().input_bytes_max;
        Self { memory_bytes_max: None, input_bytes_max, threads: 1, cores: None }
    }
}

impl Models {
    /// How the model of that name is loaded.
    pub(crate) fn options(&self, name: &ModelName) -> LoadOptions {
        self.named.get(name).unwrap_or(&self.every).options()
    }
}

impl ModelSettings {
    /// How a model is loaded.
    pub(crate) fn options(&self) -> LoadOptions {
        let Self { memory_bytes_max, input_bytes_max, threads, cores } = *self;
        let limits = ImportLimits {
            input_bytes_max,
            memory_bytes_max: memory_bytes_max.or_else(share_of_memory).unwrap_or(u64::MAX),
            ..ImportLimits::default()
        };
        let processors = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let threads = NonZeroUsize::new(threads).unwrap_or_else(processors);
        LoadOptions { limits, threads: Some(threads), cores, cache: None }
    }
}

/// Of the memory of the machine or of the control group: half, since an update loads a second version beside the first.
pub(crate) fn share_of_memory() -> Option<u64> {
    memory_bytes().map(|bytes| bytes / 2)
}

/// `[updates]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Updates {
    /// When, over which links and how fast.
    pub(crate) policy: DownloadPolicy,
    /// Whether the link is paid by the byte.
    pub(crate) metered: MeteredLink,
}

/// Whether the device's link is paid by the byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MeteredLink {
    /// Always or never.
    Fixed(bool),
    /// While the file [`crate::surroundings::METERED_FILE`] is there: whatever manages the network makes and removes it.
    Auto,
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

//! The rules, and the defaults.

use super::{
    Config, Device, Log, MeteredLink, ModelSettings, Models, Serve, Server, Telemetry, Transport, Updates,
    literal::Scalar,
    origin::{ConfigError, Origin},
    raw::{RawConfig, RawDevice, RawLog, RawModels, RawServe, RawServer, RawTelemetry, RawUpdates, Setting},
};
use reqwest::Url;
use std::{collections::BTreeMap, num::NonZeroU64, path::PathBuf, time::Duration};
use whimbrel_cpu::threads::THREADS_MAX;
use whimbrel_serve::Limits;
use whimbrel_updater::policy::{DownloadPolicy, Metered};

const STATE_DIR: &str = "/var/lib/whimbrel";
const HTTP: &str = "127.0.0.1:8350";
const UDS: &str = "/run/whimbrel/agent.sock";
const DAY_S: u64 = 24 * 3600;
/// The longest path that fits into a Unix socket's address.
const UDS_PATH_BYTES_MAX: usize = 107;

/// A key, its value as TOML, and where that came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// `section.key`, or `model.NAME.key`.
    pub(crate) key: String,
    /// The value as TOML; `None` where the key is not set and has no default.
    pub(crate) value: Option<String>,
    /// Where it came from.
    pub(crate) origin: Origin,
}

/// Applies defaults and rules. Every key is taken apart by name, so that a new one cannot be forgotten here.
///
/// # Errors
/// The first rule that a value breaks.
pub(super) fn check(raw: RawConfig) -> Result<(Config, Vec<Shown>), ConfigError> {
    let RawConfig { device, server, serve, models, model, updates, telemetry, log } = raw;
    let mut picker = Picker::default();
    let config = Config {
        device: device_of(&mut picker, device)?,
        server: server_of(&mut picker, server)?,
        serve: serve_of(&mut picker, serve)?,
        models: models_of(&mut picker, models, model)?,
        updates: updates_of(&mut picker, updates)?,
        telemetry: telemetry_of(&mut picker, telemetry)?,
        log: log_of(&mut picker, log)?,
    };
    Ok((config, picker.shown))
}

fn device_of(picker: &mut Picker, raw: RawDevice) -> Result<Device, ConfigError> {
    let RawDevice { state_dir } = raw;
    Ok(Device {
        state_dir: picker.pick("device.state_dir", state_dir, STATE_DIR.into(), |text| {
            match text.as_str() {
                "" => Err("the path of a folder"),
                path => Ok(PathBuf::from(path)),
            }
        })?,
    })
}

fn server_of(picker: &mut Picker, raw: RawServer) -> Result<Server, ConfigError> {
    let RawServer { url, mqtt_port, transport, poll_s_max, report_every_s, keep_alive_s } = raw;
    Ok(Server {
        url: picker.optional("server.url", url, |text| {
            server_url(&text).ok_or("an address like https://HOST:PORT")
        })?,
        mqtt_port: picker.optional("server.mqtt_port", mqtt_port, |port| {
            u16::try_from(port).ok().filter(|p| *p > 0).ok_or("a port, 1 to 65535")
        })?,
        transport: picker.pick("server.transport", transport, "auto".into(), |text| match text.as_str() {
            "auto" => Ok(Transport::Auto),
            "mqtt" => Ok(Transport::Mqtt),
            "https" => Ok(Transport::Https),
            _ => Err("auto, mqtt or https"),
        })?,
        poll_max: picker.seconds("server.poll_s_max", poll_s_max, 30)?,
        report_every: picker.seconds("server.report_every_s", report_every_s, 60)?,
        keep_alive: picker.pick("server.keep_alive_s", keep_alive_s, 30, |s| match s {
            // MQTT counts in 16 bits, and a client library may refuse less than a few seconds.
            5..=65_535 => Ok(Duration::from_secs(s)),
            _ => Err("seconds, 5 to 65535"),
        })?,
    })
}

fn serve_of(picker: &mut Picker, raw: RawServe) -> Result<Serve, ConfigError> {
    let RawServe {
        http,
        allow_remote,
        uds,
        backend,
        threads,
        body_bytes_max,
        bodies_bytes_max,
        tensor_elements_max,
        connections_max,
        queue_max,
        queue_wait_s_max,
        header_read_s_max,
        body_read_s_max,
        drain_s_max,
    } = raw;
    let http = picker.pick("serve.http", http, HTTP.into(), |text| match text.as_str() {
        "" => Ok(None),
        text => text.parse::<std::net::SocketAddr>().map(Some).map_err(|_| "ADDR:PORT"),
    })?;
    let allow_remote = picker.pick("serve.allow_remote", allow_remote, false, Ok)?;
    if http.is_some_and(|address| !address.ip().is_loopback()) && !allow_remote {
        return Err(picker.reject(
            "serve.http",
            "a loopback address, as requests are not authenticated; serve.allow_remote = true lifts this",
        ));
    }
    let uds_is_default = uds.is_none();
    let uds = picker.pick("serve.uds", uds, UDS.into(), |text| match text.len() {
        0 => Ok(None),
        len if len <= UDS_PATH_BYTES_MAX => Ok(Some(PathBuf::from(text))),
        _ => Err("the path of a socket, at most 107 bytes long"),
    })?;
    let backend = picker.pick("serve.backend", backend, "auto".into(), |text| match text.as_str() {
        "auto" | "cpu" | "gpu" | "tract" => Ok(text),
        _ => Err("auto, cpu, gpu or tract"),
    })?;
    let defaults = Limits::default();
    let limits = Limits {
        workers: match picker.size("serve.threads", threads, 0, 0..=1024)? {
            0 => defaults.workers,
            n => n,
        },
        body_size_bytes_max: picker.size(
            "serve.body_bytes_max",
            body_bytes_max,
            defaults.body_size_bytes_max,
            1024..=(4 << 30),
        )?,
        bodies_size_bytes_max: picker.size(
            "serve.bodies_bytes_max",
            bodies_bytes_max,
            defaults.bodies_size_bytes_max,
            1024..=(1 << 40),
        )?,
        tensor_elements_max: picker.size(
            "serve.tensor_elements_max",
            tensor_elements_max,
            defaults.tensor_elements_max,
            1..=(1 << 32),
        )?,
        connections_max: picker.size(
            "serve.connections_max",
            connections_max,
            defaults.connections_max,
            1..=65_536,
        )?,
        queue_max: picker.size("serve.queue_max", queue_max, defaults.queue_max, 0..=65_536)?,
        queue_wait_max: picker.wait("serve.queue_wait_s_max", queue_wait_s_max, defaults.queue_wait_max)?,
        header_read_max: picker.wait(
            "serve.header_read_s_max",
            header_read_s_max,
            defaults.header_read_max,
        )?,
        body_read_max: picker.wait("serve.body_read_s_max", body_read_s_max, defaults.body_read_max)?,
        drain_max: picker.wait("serve.drain_s_max", drain_s_max, defaults.drain_max)?,
    };
    Ok(Serve { http, uds, uds_is_default, backend, limits })
}

/// `[models]`, and then each `[model.NAME]`, which takes from there what it does not set.
fn models_of(
    picker: &mut Picker,
    raw: RawModels,
    named: BTreeMap<String, RawModels>,
) -> Result<Models, ConfigError> {
    let every = model_of(picker, "models", raw, ModelSettings::default())?;
    let mut models = Models { every, named: BTreeMap::new() };
    for (name, raw) in named {
        let section = format!("{}{name}", RawConfig::MODEL);
        let settings = model_of(picker, &section, raw, models.every.clone())?;
        let expected = "the name of a model: lower case letters, digits, '.', '_' and '-'";
        let name =
            name.parse().map_err(|_| ConfigError::value(&picker.origin(), &section, &name, expected))?;
        models.named.insert(name, settings);
    }
    Ok(models)
}

fn model_of(
    picker: &mut Picker,
    section: &str,
    raw: RawModels,
    otherwise: ModelSettings,
) -> Result<ModelSettings, ConfigError> {
    let RawModels { memory_bytes_max, input_bytes_max, threads, cores } = raw;
    let key = |key: &str| format!("{section}.{key}");
    let memory_bytes_max = picker.optional(&key("memory_bytes_max"), memory_bytes_max, |n| match n {
        0 => Ok(None),
        1_048_576..=1_125_899_906_842_624 => Ok(Some(n)),
        _ => Err("bytes, 1048576 (1 MiB) or more, or 0 for half of the memory of this machine"),
    })?;
    let input_bytes_max = picker.optional(&key("input_bytes_max"), input_bytes_max, |n| match n {
        1..=1_099_511_627_776 => usize::try_from(n).map_err(|_| "bytes that this machine can address"),
        _ => Err("bytes, 1 to 1099511627776 (1 TiB)"),
    })?;
    let threads = picker.optional(&key("threads"), threads, |n| match usize::try_from(n) {
        Ok(n @ 0..=THREADS_MAX) => Ok(n),
        _ => Err("threads of one run, 1 to 32, or 0 for as many as there are processors"),
    })?;
    let cores = picker.optional(&key("cores"), cores, |text| match text.as_str() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| "processors, like \"0-1\" or \"0,2\", or \"\" for any"),
    })?;
    Ok(ModelSettings {
        memory_bytes_max: memory_bytes_max.unwrap_or(otherwise.memory_bytes_max),
        input_bytes_max: input_bytes_max.unwrap_or(otherwise.input_bytes_max),
        threads: threads.unwrap_or(otherwise.threads),
        cores: cores.unwrap_or(otherwise.cores),
    })
}

fn updates_of(picker: &mut Picker, raw: RawUpdates) -> Result<Updates, ConfigError> {
    let RawUpdates { bytes_per_s_max, windows, metered, metered_download } = raw;
    let policy = DownloadPolicy {
        bytes_per_s_max: picker.pick("updates.bytes_per_s_max", bytes_per_s_max, 0, |n| match n {
            0 | 1024.. => Ok(NonZeroU64::new(n)),
            _ => Err("bytes per second, 1024 or more, or 0 for no cap"),
        })?,
        windows: picker.pick("updates.windows", windows, String::new(), |text| {
            let windows = text.split(',').filter(|window| !window.trim().is_empty()).map(str::parse);
            windows.collect::<Result<_, _>>().map_err(|_| "windows like 22:00-06:00, Sat 00:00-24:00")
        })?,
        metered: picker.pick(
            "updates.metered_download",
            metered_download,
            "always".into(),
            |text| match (text.as_str(), text.strip_prefix("small:").map(str::parse)) {
                ("never", _) => Ok(Metered::Never),
                ("always", _) => Ok(Metered::Always),
                (_, Some(Ok(bytes_max))) => Ok(Metered::Small { bytes_max }),
                _ => Err("never, always or small:BYTES"),
            },
        )?,
    };
    let metered = picker.pick("updates.metered", metered, "auto".into(), |text| match text.as_str() {
        "auto" => Ok(MeteredLink::Auto),
        "true" => Ok(MeteredLink::Fixed(true)),
        "false" => Ok(MeteredLink::Fixed(false)),
        _ => Err("\"auto\", \"true\" or \"false\""),
    })?;
    Ok(Updates { policy, metered })
}

fn telemetry_of(picker: &mut Picker, raw: RawTelemetry) -> Result<Telemetry, ConfigError> {
    let RawTelemetry { enabled, window_s, spool_bytes_max } = raw;
    Ok(Telemetry {
        enabled: picker.pick("telemetry.enabled", enabled, true, Ok)?,
        window: picker.seconds("telemetry.window_s", window_s, 300)?,
        spool_bytes_max: picker.pick(
            "telemetry.spool_bytes_max",
            spool_bytes_max,
            64 << 20,
            |n| match n {
                1_048_576..=1_099_511_627_776 => Ok(n),
                _ => Err("bytes, 1048576 (1 MiB) to 1099511627776 (1 TiB)"),
            },
        )?,
    })
}

fn log_of(picker: &mut Picker, raw: RawLog) -> Result<Log, ConfigError> {
    let RawLog { level } = raw;
    Ok(Log {
        level: picker.pick("log.level", level, "info".into(), |text| match text.as_str() {
            "off" | "error" | "warn" | "info" | "debug" | "trace" => text.parse().map_err(|_| "a level"),
            _ => Err("off, error, warn, info, debug or trace"),
        })?,
    })
}

/// The address of a fleet server: TLS, a host, perhaps a port, and no path, which would be lost.
pub(crate) fn server_url(text: &str) -> Option<Url> {
    let is_server = |url: &Url| {
        url.scheme() == "https"
            && url.has_host()
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    };
    Url::parse(text).ok().filter(is_server)
}

/// Takes settings one by one, and remembers what was taken.
#[derive(Default)]
struct Picker {
    shown: Vec<Shown>,
}

impl Picker {
    /// The value set, or the default, as `rule` makes of it. The rule answers what it expects instead.
    fn pick<R: Scalar, T>(
        &mut self,
        key: &str,
        setting: Option<Setting<R>>,
        default: R,
        rule: impl FnOnce(R) -> Result<T, &'static str>,
    ) -> Result<T, ConfigError> {
        let Setting { value, origin } =
            setting.unwrap_or(Setting { value: default, origin: Origin::Default });
        self.shown.push(Shown { key: key.to_owned(), value: Some(value.to_toml()), origin });
        rule(value).map_err(|expected| self.reject(key, expected))
    }

    /// The value set, as `rule` makes of it.
    fn optional<R: Scalar, T>(
        &mut self,
        key: &str,
        setting: Option<Setting<R>>,
        rule: impl FnOnce(R) -> Result<T, &'static str>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(Setting { value, origin }) = setting else {
            self.shown.push(Shown { key: key.to_owned(), value: None, origin: Origin::Default });
            return Ok(None);
        };
        self.shown.push(Shown { key: key.to_owned(), value: Some(value.to_toml()), origin });
        rule(value).map(Some).map_err(|expected| self.reject(key, expected))
    }

    fn seconds(
        &mut self,
        key: &str,
        setting: Option<Setting<u64>>,
        default: u64,
    ) -> Result<Duration, ConfigError> {
        self.pick(key, setting, default, |s| match s {
            1..=DAY_S => Ok(Duration::from_secs(s)),
            _ => Err("seconds, 1 to 86400"),
        })
    }

    fn wait(
        &mut self,
        key: &str,
        setting: Option<Setting<u64>>,
        default: Duration,
    ) -> Result<Duration, ConfigError> {
        self.seconds(key, setting, default.as_secs())
    }

    fn size(
        &mut self,
        key: &str,
        setting: Option<Setting<u64>>,
        default: usize,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<usize, ConfigError> {
        let picked = self.pick(key, setting, default as u64, |n| {
            Ok(usize::try_from(n).ok().filter(|_| range.contains(&n)))
        })?;
        picked.ok_or_else(|| self.reject(key, format!("{} to {}", range.start(), range.end())))
    }

    /// Where the value that was taken last came from.
    fn origin(&self) -> Origin {
        self.shown
            .iter()
            .rev()
            .map(|s| &s.origin)
            .find(|o| **o != Origin::Default)
            .cloned()
            .unwrap_or(Origin::Default)
    }

    /// An error about a value that was taken.
    fn reject(&self, key: &str, expected: impl std::fmt::Display) -> ConfigError {
        let shown = self.shown.iter().find(|s| s.key == key);
        let origin = shown.map_or(Origin::Default, |s| s.origin.clone());
        let found = shown.and_then(|s| s.value.as_deref()).unwrap_or("not set");
        ConfigError::value(&origin, key, found, expected)
    }
}

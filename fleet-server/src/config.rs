//! Settings: a TOML file, then flags. Every value has a default; unknown keys are refused.

use crate::service::Settings;
use serde::Deserialize;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};
use whimbrel_wire::TenantId;

/// Where settings are looked for when no file is named.
pub(crate) const DEFAULT_FILE: &str = "/etc/whimbrel/fleet.toml";
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file could not be read.
    #[error("read {path}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("read {path}: line {line}: {reason}")]
    Parse {
        /// Which file.
        path: String,
        /// Where, from 1.
        line: usize,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// A value cannot be used.
    #[error("{key}: {reason}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What is wrong, and what was expected.
        reason: String,
    },
}

/// The file. Absent keys keep their defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    state_dir: Option<PathBuf>,
    https: Option<SocketAddr>,
    mqtt: Option<SocketAddr>,
    ui: Option<SocketAddr>,
    hostnames: Option<Vec<String>>,
    tenant: Option<TenantId>,
    poll_s: Option<u32>,
    device_certificate_days: Option<u16>,
    timestamp_hours: Option<u16>,
    snapshot_days: Option<u16>,
    telemetry_days: Option<u16>,
    connections_max: Option<usize>,
}

/// Flags of `serve`; each overrides the file.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Flags {
    /// Settings file (default: /etc/whimbrel/fleet.toml where it exists).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder of everything the server keeps (default: /var/lib/whimbrel-fleet).
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Where devices and operators connect (default: 0.0.0.0:8443); port 0 picks one.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) https: Option<SocketAddr>,
    /// Where devices connect over MQTT (default: 0.0.0.0:8883); port 0 picks one.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) mqtt: Option<SocketAddr>,
    /// The web UI over plain HTTP, on a loopback address only (default: off).
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) ui: Option<SocketAddr>,
    /// Name of this server in its certificate, beside localhost; may be repeated.
    #[arg(long = "hostname", value_name = "NAME")]
    pub(crate) hostnames: Vec<String>,
}

/// Settings that can be used.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) state_dir: PathBuf,
    pub(crate) https: SocketAddr,
    pub(crate) mqtt: SocketAddr,
    pub(crate) ui: Option<SocketAddr>,
    pub(crate) hostnames: Vec<String>,
    /// Most connections at the same time, HTTPS and MQTT each.
    pub(crate) connections_max: usize,
    pub(crate) settings: Settings,
}

/// Reads the file and the flags.
///
/// # Errors
/// Names the file and line, or the key, and what was expected.
pub(crate) fn load(flags: Flags) -> Result<Config, ConfigError> {
    let file = match &flags.config {
        Some(path) => read(path)?,
        None if Path::new(DEFAULT_FILE).exists() => read(Path::new(DEFAULT_FILE))?,
        None => File::default(),
    };
    resolve(file, flags)
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let shown = path.display().to_string();
    let fail = |source| ConfigError::Read { path: shown.clone(), source };
    if std::fs::metadata(path).map_err(fail)?.len() > FILE_BYTES_MAX {
        return Err(fail(std::io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes"))));
    }
    let text = std::fs::read_to_string(path).map_err(fail)?;
    parse(&text, &shown)
}

fn parse(text: &str, path: &str) -> Result<File, ConfigError> {
    toml::from_str(text).map_err(|e| {
        let at = e.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
        let reason = e.message().lines().collect::<Vec<_>>().join("; ");
        ConfigError::Parse { path: path.to_owned(), line, reason }
    })
}

fn resolve(file: File, flags: Flags) -> Result<Config, ConfigError> {
    // Taken apart whole: a key that is added and forgotten here does not compile.
    let File {
        state_dir,
        https,
        mqtt,
        ui,
        hostnames,
        tenant,
        poll_s,
        device_certificate_days,
        timestamp_hours,
        snapshot_days,
        telemetry_days,
        connections_max,
    } = file;
    let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let tenant = match tenant {
        Some(tenant) => tenant,
        None => "default".parse().map_err(|e: whimbrel_wire::IdError| value("tenant", e.to_string()))?,
    };
    let config = Config {
        state_dir: flags.state_dir.or(state_dir).unwrap_or_else(|| "/var/lib/whimbrel-fleet".into()),
        https: flags.https.or(https).unwrap_or_else(|| any(8443)),
        mqtt: flags.mqtt.or(mqtt).unwrap_or_else(|| any(8883)),
        ui: flags.ui.or(ui),
        hostnames: if flags.hostnames.is_empty() { hostnames.unwrap_or_default() } else { flags.hostnames },
        connections_max: connections_max.unwrap_or(20_000),
        settings: Settings {
            tenant,
            mqtt_port: 0,
            poll_s: poll_s.unwrap_or(30),
            device_certificate_days: device_certificate_days.unwrap_or(365),
            timestamp_hours: timestamp_hours.unwrap_or(24),
            snapshot_days: snapshot_days.unwrap_or(7),
            telemetry_days: telemetry_days.unwrap_or(90),
        },
    };
    check(&config)?;
    Ok(config)
}

fn check(config: &Config) -> Result<(), ConfigError> {
    let settings = &config.settings;
    for (key, number) in [
        ("poll_s", settings.poll_s),
        ("device_certificate_days", settings.device_certificate_days.into()),
        ("timestamp_hours", settings.timestamp_hours.into()),
        ("snapshot_days", settings.snapshot_days.into()),
        ("telemetry_days", settings.telemetry_days.into()),
    ] {
        if number == 0 {
            return Err(value(key, "0, expected a number above 0".into()));
        }
    }
    if config.connections_max == 0 {
        return Err(value("connections_max", "0, expected a number above 0".into()));
    }
    if let Some(ui) = config.ui.filter(|ui| !ui.ip().is_loopback()) {
        let reason = format!(
            "{ui} is no loopback address: plain HTTP leaves the machine only over HTTPS, which serves the same UI"
        );
        return Err(value("ui", reason));
    }
    let is_name = |n: &String| {
        !n.is_empty()
            && n.len() <= 253
            && n.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':'))
    };
    match config.hostnames.iter().find(|n| !is_name(n)) {
        Some(bad) => Err(value("hostnames", format!("{bad:?}, expected a DNS name or an IP address"))),
        None => Ok(()),
    }
}

fn value(key: &'static str, reason: String) -> ConfigError {
    ConfigError::Value { key, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_override_the_file_and_the_file_the_defaults() {
        let file = parse("https = \"127.0.0.1:1\"\npoll_s = 5\nhostnames = [\"a\"]", "f").expect("parses");
        let flags = Flags { https: Some(SocketAddr::from(([127, 0, 0, 1], 2))), ..Flags::default() };
        let config = resolve(file, flags).expect("usable");
        assert_eq!(config.https.port(), 2);
        assert_eq!(config.settings.poll_s, 5);
        assert_eq!(config.settings.snapshot_days, 7);
        assert_eq!(config.hostnames, ["a"]);
    }

    #[test]
    fn errors_name_the_line_and_the_key() {
        let error = parse("poll_s = 5\n\nnonsense = 1\n", "fleet.toml").expect_err("unknown key").to_string();
        assert!(error.starts_with("read fleet.toml: line 3: ") && error.contains("nonsense"), "{error}");
        let error = parse("poll_s = \"soon\"", "fleet.toml").expect_err("wrong type").to_string();
        assert!(error.contains("line 1"), "{error}");
    }

    #[test]
    fn plain_http_off_the_machine_and_zeros_are_refused() {
        let flags = |ui: &str| Flags { ui: ui.parse().ok(), ..Flags::default() };
        assert!(resolve(File::default(), flags("0.0.0.0:8080")).is_err());
        assert!(resolve(File::default(), flags("127.0.0.1:0")).is_ok());
        assert!(resolve(File::default(), flags("[::1]:0")).is_ok());
        assert!(resolve(parse("snapshot_days = 0", "f").expect("parses"), Flags::default()).is_err());
    }
}

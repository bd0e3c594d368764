//! What was written, key by key, before any rule is applied: every key may be absent.

use super::{
    literal::{Literal, Scalar},
    origin::{ConfigError, Origin},
};
use std::collections::BTreeMap;

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it came from.
    pub(crate) origin: Origin,
}

macro_rules! raw_config {
    ($($section:ident: $raw:ident { $($key:ident: $type:ty),* $(,)? })*) => {
        /// Everything that can be set. A later [`RawConfig::set`] of a key replaces an earlier one.
        #[derive(Debug, Default)]
        pub(crate) struct RawConfig {
            $(pub(crate) $section: $raw,)*
            /// `[model.NAME]`: what is other for one model than in `[models]`.
            pub(crate) model: BTreeMap<String, RawModels>,
        }

        impl RawConfig {
            const SECTIONS: &[&str] = &[$(stringify!($section)),*, "model.NAME"];

            /// What the section of one model begins with.
            pub(crate) const MODEL: &str = "model.";

            /// The names of the sections, if `section` is none of them.
            pub(crate) fn unknown_section(section: &str, origin: &Origin) -> ConfigError {
                unknown("section", section, Self::SECTIONS, origin)
            }

            /// Sets a key.
            pub(crate) fn set(
                &mut self,
                section: &str,
                key: &str,
                literal: &Literal,
                origin: Origin,
            ) -> Result<(), ConfigError> {
                match section {
                    $(stringify!($section) => self.$section.set(section, key, literal, origin),)*
                    _ => match section.strip_prefix(Self::MODEL) {
                        Some(name) if !name.is_empty() => {
                            self.model.entry(name.to_owned()).or_default().set(section, key, literal, origin)
                        }
                        _ => Err(Self::unknown_section(section, &origin)),
                    },
                }
            }

            /// Whether there is a section of that name.
            pub(crate) fn has_section(section: &str) -> bool {
                Self::SECTIONS.contains(&section)
            }
        }

        $(
            #[derive(Debug, Default)]
            pub(crate) struct $raw {
                $(pub(crate) $key: Option<Setting<$type>>,)*
            }

            impl $raw {
                const KEYS: &[&str] = &[$(stringify!($key)),*];

                fn set(
                    &mut self,
                    section: &str,
                    key: &str,
                    literal: &Literal,
                    origin: Origin,
                ) -> Result<(), ConfigError> {
                    let full = format!("{section}.{key}");
                    match key {
                        $(stringify!($key) => self.$key = Some(read(&full, literal, origin)?),)*
                        _ => {
                            let keys: Vec<String> =
                                Self::KEYS.iter().map(|key| format!("{section}.{key}")).collect();
                            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                            return Err(unknown("key", &full, &keys, &origin));
                        }
                    }
                    Ok(())
                }
            }
        )*
    };
}

raw_config! {
    device: RawDevice { state_dir: String }
    server: RawServer {
        url: String,
        mqtt_port: u64,
        transport: String,
        poll_s_max: u64,
        report_every_s: u64,
        keep_alive_s: u64,
    }
    serve: RawServe {
        http: String,
        allow_remote: bool,
        uds: String,
        backend: String,
        threads: u64,
        body_bytes_max: u64,
        bodies_bytes_max: u64,
        tensor_elements_max: u64,
        connections_max: u64,
        queue_max: u64,
        queue_wait_s_max: u64,
        header_read_s_max: u64,
        body_read_s_max: u64,
        drain_s_max: u64,
    }
    models: RawModels { memory_bytes_max: u64, input_bytes_max: u64, threads: u64, cores: String }
    updates: RawUpdates { bytes_per_s_max: u64, windows: String, metered: String, metered_download: String }
    telemetry: RawTelemetry { enabled: bool, window_s: u64, spool_bytes_max: u64 }
    log: RawLog { level: String }
}

fn read<T: Scalar>(key: &str, literal: &Literal, origin: Origin) -> Result<Setting<T>, ConfigError> {
    match T::read(literal) {
        Some(value) => Ok(Setting { value, origin }),
        None => Err(ConfigError::value(&origin, key, &literal.shown(), T::EXPECTED)),
    }
}

fn unknown(kind: &str, name: &str, known: &[&str], origin: &Origin) -> ConfigError {
    let name: String = name.chars().take(80).collect();
    ConfigError::new(origin, format!("{name}: unknown {kind}: expected one of {}", known.join(", ")))
}

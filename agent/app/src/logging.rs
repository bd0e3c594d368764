//! Lines for people on standard error.

use std::io::IsTerminal as _;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Registry, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

/// The part of the log that can change while the program runs.
#[derive(Clone)]
pub(crate) struct Level {
    /// `None` where `RUST_LOG` decides.
    filter: Option<reload::Handle<EnvFilter, Registry>>,
}

impl Level {
    /// Writes lines of this level and above from now on. `RUST_LOG`, where set, stays in charge.
    pub(crate) fn set(&self, level: LevelFilter) {
        if let Some(filter) = &self.filter
            && let Err(error) = filter.reload(directives(level))
        {
            tracing::warn!(%error, "the log level could not be changed");
        }
    }
}

/// Starts the log: `RUST_LOG` if it is set and valid, otherwise the level given.
pub(crate) fn start(level: LevelFilter) -> Level {
    let from_env = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let from_env = from_env.and_then(|text| EnvFilter::try_new(text).ok());
    let is_fixed = from_env.is_some();
    let (filter, handle) = reload::Layer::new(from_env.unwrap_or_else(|| directives(level)));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // Fails only where a log was started before, which then stays.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Level { filter: (!is_fixed).then_some(handle) }
}

/// The level for Whimbrel itself; libraries speak up from warnings on only, so that a level of `debug` stays readable.
fn directives(level: LevelFilter) -> EnvFilter {
    let libraries = level.min(LevelFilter::WARN);
    let ours = [
        "whimbrel_agent",
        "whimbrel_gpu",
        "whimbrel_telemetry",
        "whimbrel_updater",
        "whimbrel_serve",
        "whimbrel_infer",
        "whimbrel_pipeline",
    ];
    let ours: String = ours.iter().map(|name| format!(",{name}={level}")).collect();
    // A machine without a Vulkan driver is no error, whatever its loader says.
    EnvFilter::new(format!("{libraries},wgpu_hal=off{ours}"))
}

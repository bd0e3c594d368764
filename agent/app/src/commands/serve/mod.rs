//! `serve`: answers apps, and follows the fleet server if enrolled.
//!
//! Order matters: what was confirmed before serves first, then the sockets open, then the network is looked at. No
//! step of this waits for a server, and telemetry that cannot be written stops nothing.

mod lock;
mod member;
mod signals;

use crate::{
    cli::{NamedModel, ServeArgs},
    config::{Config, Models},
    failure::{Failure, chain},
    host::AgentHost,
    logging::Level,
    model,
    observer::AgentObserver,
    telemetry::{Telemetry, TelemetrySettings},
};
pub(super) use lock::Lock;
use member::Member;
use signals::{Signal, Signals};
use std::{io::Write as _, path::Path, sync::Arc, time::Duration};
use tokio::sync::{oneshot, watch};
use whimbrel_infer::Backend;
use whimbrel_serve::{Listening, NoObserver, Observer, Registry, ServeConfig, listen};
use whimbrel_wire::report::ModelReport;

/// Longest time for the engine and the link to come to rest.
const REST: Duration = Duration::from_secs(30);

/// Serves until a signal ends it.
///
/// # Errors
/// The configuration or a model is not valid, another agent has the state folder, or nothing can be listened on.
pub(crate) async fn run(config: Config, args: &ServeArgs, level: Level) -> Result<(), Failure> {
    let signals = Signals::new().map_err(|e| Failure::failed("waiting for signals", e))?;
    let backend = crate::backends::named(&config.serve.backend)
        .map_err(|e| Failure::not_supported("choosing the backend", chain(&e)))?;
    let lock = Lock::take(&config.device.state_dir, args.models.is_empty())?;
    let telemetry = (config.telemetry.enabled && lock.state_is_usable())
        .then(|| Telemetry::new(TelemetrySettings::of(&config)));
    let registry = Arc::new(Registry::default());
    let observer = telemetry.clone().map(AgentObserver::new);
    serve_named(&args.models, &registry, observer.as_deref(), (backend, &config.models))?;
    let mut member = match lock.state_is_usable() {
        true => {
            let host =
                AgentHost::new(Arc::clone(&registry), observer.clone(), backend, config.models.clone());
            Member::open(&config, host, telemetry.clone()).await?
        }
        false => None,
    };
    if member.is_none() && args.models.is_empty() {
        tracing::warn!("this device is not enrolled and no --model is named: there is nothing to answer yet");
    }

    let (close, closed) = oneshot::channel::<()>();
    let observer: Arc<dyn Observer> = match observer {
        Some(observer) => observer,
        None => Arc::new(NoObserver),
    };
    let listening = start_listening(&config, registry, observer, async {
        // A sender that is gone means the same.
        let _ = closed.await;
    })
    .await?;
    let keeper = telemetry.clone().map(|t| tokio::spawn(t.keep()));
    announce(&listening)?;
    let (stop, stopping) = watch::channel(false);
    if let Some(member) = &mut member {
        member.start(stopping);
    }
    signals::notify_ready();

    wait_for_end(signals, args, &level).await;

    signals::notify_stopping();
    drop(close);
    listening.drained().await;
    if let Some(member) = &mut member {
        member.rest(REST).await;
    }
    if let Some(keeper) = keeper {
        keeper.abort();
    }
    if let Some(telemetry) = telemetry {
        let finish = tokio::task::spawn_blocking(move || telemetry.finish());
        if let Err(error) = finish.await {
            tracing::error!(%error, "storing the open window failed");
        }
    }
    stop.send_replace(true);
    if let Some(member) = member {
        member.end(REST).await;
    }
    drop(lock);
    tracing::info!("stopped");
    Ok(())
}

/// Loads the models that the command line names.
fn serve_named(
    models: &[NamedModel],
    registry: &Registry,
    observer: Option<&AgentObserver>,
    (backend, settings): (&'static dyn Backend, &Models),
) -> Result<(), Failure> {
    for NamedModel { name, path } in models {
        let opened = model::open(path, Some(name), backend, &settings.options(name))?;
        if let (Some(observer), Some(manifest)) = (observer, &opened.manifest) {
            observer.watch(manifest);
        }
        registry.set(Arc::new(opened.model), None);
        tracing::info!(model = %name, path = %path.display(), "serving");
    }
    Ok(())
}

/// Binds the sockets. A Unix socket that nobody asked for is gone without where its folder is missing.
async fn start_listening(
    config: &Config,
    registry: Arc<Registry>,
    observer: Arc<dyn Observer>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Listening, Failure> {
    let mut serve: ServeConfig = config.serve_config();
    if config.serve.uds_is_default
        && serve.http.is_some()
        && let Some(path) = &serve.uds
        && !can_make(path)
    {
        tracing::warn!(path = %path.display(), "the default Unix socket cannot be made here; going without it");
        serve.uds = None;
    }
    listen(serve, registry, observer, shutdown).await.map_err(|e| {
        Failure::failed("listening for apps", chain(&e))
            .hint("another agent may be running; choose other addresses with --http and --uds")
    })
}

/// Whether a file can be made at this path.
fn can_make(path: &Path) -> bool {
    path.parent().is_some_and(|dir| tempfile::Builder::new().prefix(".whimbrel-").tempfile_in(dir).is_ok())
}

/// What other programs wait for on standard output.
fn announce(listening: &Listening) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let mut say = || {
        if let Some(address) = listening.http {
            writeln!(out, "listening: http://{address}")?;
        }
        if let Some(path) = &listening.uds {
            writeln!(out, "listening: unix:{}", path.display())?;
        }
        writeln!(out, "ready")?;
        out.flush()
    };
    say().or_else(|e: std::io::Error| match e.kind() {
        // Nobody listens any more: no reason to stop answering.
        std::io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(Failure::failed("writing to standard output", e)),
    })
}

/// Waits for the signal that ends the agent; a reload is checked, and what can change while running is taken over.
async fn wait_for_end(mut signals: Signals, args: &ServeArgs, level: &Level) {
    loop {
        match signals.next().await {
            Signal::End(name) => {
                tracing::info!(signal = name, "stopping");
                return;
            }
            Signal::Reload => match args.load() {
                Ok(loaded) => {
                    level.set(loaded.config.log.level);
                    tracing::info!(
                        "the configuration is valid; the log level was taken over, the rest needs a restart"
                    );
                }
                Err(failure) => {
                    tracing::error!(%failure, "the configuration is not valid; the old one stays")
                }
            },
        }
    }
}

/// Told after every change of any model.
type Changes = watch::Sender<Vec<ModelReport>>;

//! The agent as a member of a fleet: the updater's engine, and the link to the server.

use super::Changes;
use crate::{
    config::Config,
    failure::{Failure, chain},
    fleet::{FleetSettings, Inbox, Link, Reporter, Updates, client, nobody},
    host::AgentHost,
    identity::{Identity, IdentityError},
    telemetry::Telemetry,
};
use rustls::ClientConfig;
use semver::Version;
use sha2::{Digest as _, Sha256};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinHandle};
use whimbrel_updater::{
    engine::{Engine, EngineConfig},
    transport::{Https, MqttPort},
};
use whimbrel_wire::desired::DesiredState;

/// Everything that an enrolled device does beside answering.
pub(super) struct Member {
    inbox: Arc<Inbox>,
    changes: Arc<Changes>,
    waiting: Option<Waiting>,
    engine: Option<JoinHandle<()>>,
    link: Option<JoinHandle<()>>,
}

/// What is ready to run and was not started yet.
struct Waiting {
    engine: Engine<AgentHost, Updates>,
    desired: watch::Receiver<Option<DesiredState>>,
    /// `None` without a usable identity: models are served, the fleet is not talked to.
    link: Option<(Arc<Link>, Arc<ClientConfig>, reqwest::Client)>,
    port: MqttPort,
}

impl Member {
    /// Lets the host serve what was confirmed before. `None` when the device is not enrolled.
    ///
    /// # Errors
    /// The state folder cannot be used at all.
    pub(super) async fn open(
        config: &Config,
        host: AgentHost,
        telemetry: Option<Arc<Telemetry>>,
    ) -> Result<Option<Self>, Failure> {
        let state_dir = &config.device.state_dir;
        let identity = match Identity::load(state_dir) {
            Ok(None) => return Ok(None),
            Ok(Some(identity)) => Some(identity),
            Err(error) => {
                tracing::error!(%error, hint = IdentityError::HINT, "the fleet cannot be talked to; models are served all the same");
                None
            }
        };
        let tls = match identity.as_ref().map(Identity::tls_config) {
            Some(Ok(tls)) => Some(tls),
            Some(Err(error)) => {
                tracing::error!(%error, hint = IdentityError::HINT, "the fleet cannot be talked to; models are served all the same");
                None
            }
            None => None,
        };
        let failed = |e: &dyn std::error::Error| Failure::failed("preparing HTTPS", chain(e));
        let usable = match &tls {
            Some(tls) => tls.clone(),
            None => nobody().map_err(|e| failed(&e))?,
        };
        let client = client(&usable).map_err(|e| failed(&e))?;
        let settings = identity.as_ref().map(|identity| settings(config, identity));
        let base = settings.as_ref().map_or("https://localhost", |s| s.url.as_str());
        let agent = Version::parse(env!("CARGO_PKG_VERSION"))
            .map_err(|e| Failure::failed("reading the agent's own version", e))?;
        let engine_config = EngineConfig::new(state_dir, agent.clone());
        let (updates, port) = Updates::new(config.server.transport, Https::new(client.clone(), base));
        let engine = Engine::open(engine_config, host, updates).await.map_err(|e| {
            Failure::failed(format!("opening the state folder {}", state_dir.display()), chain(&e))
        })?;
        for (model, error) in engine.broken() {
            tracing::error!(%model, error = %chain(error), "the model is not served: its journal is damaged");
        }
        let (inbox, desired) = Inbox::open(desired_path(state_dir, identity.as_ref()));
        let inbox = Arc::new(inbox);
        let (changes, reports) = watch::channel(engine.reports());
        let link = match (settings, tls) {
            (Some(settings), Some(tls)) => {
                let boot = getrandom::u64().map_err(|e| Failure::failed("naming this start", e))?;
                let reporter = Reporter::new(boot, agent, reports);
                let link = Link::new(settings, Arc::clone(&inbox), reporter, telemetry);
                Some((link, Arc::new(tls), client))
            }
            _ => None,
        };
        let waiting = Some(Waiting { engine, desired, link, port });
        Ok(Some(Self { inbox, changes: Arc::new(changes), waiting, engine: None, link: None }))
    }

    /// Begins to follow the fleet.
    pub(super) fn start(&mut self, stop: watch::Receiver<bool>) {
        let Some(Waiting { engine, desired, link, port }) = self.waiting.take() else { return };
        let changes = Arc::clone(&self.changes);
        self.engine = Some(tokio::spawn(engine.run(desired, move |models| {
            changes.send_replace(models);
        })));
        self.link = link.map(|(link, tls, client)| tokio::spawn(link.run(tls, client, port, stop)));
    }

    /// Lets updates come to rest: an orderly stop, which no candidate is blamed for.
    pub(super) async fn rest(&mut self, within: Duration) {
        self.inbox.close();
        if let Some(engine) = self.engine.take() {
            finish("the updater", engine, within).await;
        }
    }

    /// Waits until the link has said goodbye; `stop` was set before.
    pub(super) async fn end(self, within: Duration) {
        if let Some(link) = self.link {
            finish("the link to the fleet", link, within).await;
        }
    }
}

async fn finish(what: &str, mut task: JoinHandle<()>, within: Duration) {
    match tokio::time::timeout(within, &mut task).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "{what} ended badly"),
        Err(_) => {
            tracing::warn!("{what} did not come to rest in time");
            task.abort();
        }
    }
}

fn settings(config: &Config, identity: &Identity) -> FleetSettings {
    let membership = &identity.membership;
    let url = config.server.url.as_ref().unwrap_or(&membership.server);
    FleetSettings {
        url: url.as_str().trim_end_matches('/').to_owned(),
        host: url.host_str().unwrap_or_default().to_owned(),
        mqtt_port: config.server.mqtt_port.unwrap_or(membership.mqtt_port),
        device: membership.device.clone(),
        tenant: membership.tenant.clone(),
        transport: config.server.transport,
        keep_alive: config.server.keep_alive,
        report_every: config.server.report_every,
        poll_max: config.server.poll_max,
    }
}

/// Serials of the desired state belong to an enrolment: after another one they begin anew.
fn desired_path(state_dir: &Path, identity: Option<&Identity>) -> std::path::PathBuf {
    let name = identity.map_or_else(
        || "none".to_owned(),
        |identity| hex::encode(&Sha256::digest(identity.certificate.as_ref())[..8]),
    );
    state_dir.join(format!("desired-{name}.wbd"))
}

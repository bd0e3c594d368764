//! Puts the parts together and keeps them running.

use crate::{
    bus::embedded::{BrokerConfig, Embedded},
    ca::Ca,
    config::Config,
    files::{Readable, private_folder, write_whole},
    http::{self, Shared, listen},
    service::{self, CertificateAdmission, Clock, Fleet, Parts, Settings},
    store::{
        Store,
        blobs::Blobs,
        operators::{Operator, Role},
    },
    ui::Sessions,
};
use anyhow::Context as _;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use whimbrel_updater::repo::SigningKey;

/// A running server.
pub(crate) struct App {
    pub(crate) https: SocketAddr,
    pub(crate) mqtt: SocketAddr,
    pub(crate) ui: Option<SocketAddr>,
    pub(crate) admin_token: PathBuf,
    pub(crate) fleet: Arc<Fleet>,
    listeners: Vec<JoinHandle<()>>,
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

impl App {
    /// Opens the state folder, making what is missing, and starts every listener.
    pub(crate) async fn start(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let dir = &config.state_dir;
        private_folder(dir)?;
        let store = Store::open(&dir.join("fleet.db")).await?;
        let ca = Ca::open(dir, clock())?;
        let identity = ca.server_identity(&config.hostnames, clock())?;
        let admin_token = admin_token(dir, &store, &clock).await?;
        let online_key = online_key(&dir.join("online.pem"))?;
        let tls = listen::tls(&ca, &identity)?;
        let broker = BrokerConfig {
            listen: config.mqtt,
            chain: identity.chain,
            key: identity.key,
            client_ca: ca.certificate_path(),
            tenant: config.settings.tenant.clone(),
            connections_max: config.connections_max,
        };
        let admission = Arc::new(CertificateAdmission(store.clone()));
        let (bus, incoming) = Embedded::start(broker, admission).await?;
        let mqtt = bus.address();
        let fleet = Arc::new(Fleet::new(Parts {
            settings: Settings { mqtt_port: mqtt.port(), ..config.settings },
            store,
            chunks: Blobs::open(&dir.join("chunks"))?,
            targets: Blobs::open(&dir.join("targets"))?,
            ca,
            online_key,
            bus: Arc::new(bus),
            clock,
        }));
        fleet.publish_all_desired().await?;
        let (stop, stopped) = watch::channel(false);
        let shared = Shared { fleet: Arc::clone(&fleet), sessions: Arc::new(Sessions::default()) };
        let listener = bind("HTTPS", config.https).await?;
        let https = listener.local_addr()?;
        let connections_max = config.connections_max;
        let serve =
            listen::serve(listener, Some(tls), http::router(&shared), connections_max, stopped.clone());
        let mut listeners = vec![tokio::spawn(serve)];
        let mut ui = None;
        if let Some(address) = config.ui {
            let listener = bind("UI", address).await?;
            ui = Some(listener.local_addr()?);
            let serve = listen::serve(listener, None, http::ui_router(&shared), connections_max, stopped);
            listeners.push(tokio::spawn(serve));
        }
        let tasks = vec![
            tokio::spawn(service::intake(Arc::clone(&fleet), incoming)),
            tokio::spawn(service::plan_rollouts(Arc::clone(&fleet))),
            tokio::spawn(service::keep_seen(Arc::clone(&fleet))),
            tokio::spawn(service::maintain(Arc::clone(&fleet))),
            tokio::spawn(service::collect_blobs(Arc::clone(&fleet))),
        ];
        Ok(Self { https, mqtt, ui, admin_token, fleet, listeners, tasks, stop })
    }

    /// Stops listening, lets running requests finish, closes the database.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true);
        for listener in self.listeners {
            let _ = listener.await;
        }
        for task in &self.tasks {
            task.abort();
        }
        for task in self.tasks {
            let _ = task.await;
        }
        if let Err(error) = self.fleet.keep_seen().await {
            tracing::error!("note when devices were seen: {error}");
        }
        self.fleet.store().close().await;
    }
}

async fn bind(what: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("start the {what} listener on {address}"))
}

/// The first operator's token, made once. Its file may be deleted after it was taken note of.
async fn admin_token(dir: &Path, store: &Store, clock: &Clock) -> anyhow::Result<PathBuf> {
    let path = dir.join("admin.token");
    if !store.has_operators().await? {
        let token = service::random_secret()?;
        // The file first: a token that nobody knows could not be used to make another.
        write_whole(&path, format!("{token}\n").as_bytes(), Readable::ByOwner)?;
        let admin = Operator { name: "admin".into(), role: Role::Admin };
        store.add_operator(&token, &admin, service::millis(clock())).await?;
    }
    Ok(path)
}

/// The key for snapshots and timestamps, made once.
fn online_key(path: &Path) -> anyhow::Result<SigningKey> {
    if !path.exists() {
        SigningKey::generate()?.write_new(path)?;
    }
    Ok(SigningKey::read(path)?)
}

//! Connections and drain.

use crate::{
    config::ServeConfig,
    http::{self, App},
    observer::Observer,
    registry::Registry,
    socket::{self, SocketFile},
};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Pause after the system refused a connection, for want of file handles most often.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why listening did not start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Nothing to listen on was named.
    #[error("listen for requests: neither a TCP address nor a Unix socket is configured")]
    Nowhere,
    /// The TCP address was not bound.
    #[error("listen on http://{address}")]
    Tcp {
        /// Which address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The Unix socket was not bound.
    #[error("listen on unix:{path}")]
    Unix {
        /// Which path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Front ends that take requests until the shutdown future resolves.
#[derive(Debug)]
pub struct Listening {
    /// The TCP address, with the port that was picked.
    pub http: Option<SocketAddr>,
    /// The Unix socket.
    pub uds: Option<PathBuf>,
    task: JoinHandle<()>,
}

impl Listening {
    /// Waits until shutdown was asked for and requests in flight are answered, or the drain limit is over.
    pub async fn drained(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the front ends ended badly");
        }
    }
}

/// Binds the sockets and starts to answer in the background.
///
/// # Errors
/// No address is configured, or one cannot be bound.
pub async fn listen(
    config: ServeConfig,
    registry: Arc<Registry>,
    observer: Arc<dyn Observer>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Listening, ListenError> {
    let ServeConfig { http, uds, limits } = config;
    if http.is_none() && uds.is_none() {
        return Err(ListenError::Nowhere);
    }
    let (tcp, http) = match http {
        Some(address) => {
            bind_tcp(address).await.map(|(listener, address)| (Some(listener), Some(address)))?
        }
        None => (None, None),
    };
    let unix = match &uds {
        Some(path) => {
            Some(socket::bind_unix(path).map_err(|source| ListenError::Unix { path: path.clone(), source })?)
        }
        None => None,
    };
    let app = Arc::new(App::new(registry, observer, limits));
    let task = tokio::spawn(serve(app, tcp, unix, shutdown));
    Ok(Listening { http, uds, task })
}

async fn bind_tcp(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let fail = |source| ListenError::Tcp { address, source };
    let listener = TcpListener::bind(address).await.map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    Ok((listener, bound))
}

async fn serve(
    app: Arc<App>,
    tcp: Option<TcpListener>,
    unix: Option<(UnixListener, SocketFile)>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let connections = Connections {
        router: http::router(Arc::clone(&app)),
        graceful: GracefulShutdown::new(),
        free: Arc::new(Semaphore::new(app.limits.connections_max.clamp(1, Semaphore::MAX_PERMITS))),
        header_read_max: app.limits.header_read_max,
    };
    let (unix, _file) = unix.unzip();
    tokio::select! {
        () = shutdown => {}
        () = accept_tcp(tcp.as_ref(), &connections) => {}
        () = accept_unix(unix.as_ref(), &connections) => {}
    }
    app.draining.store(true, Ordering::Release);
    drop((tcp, unix));
    if timeout(app.limits.drain_max, connections.graceful.shutdown()).await.is_err() {
        tracing::warn!(seconds = app.limits.drain_max.as_secs(), "requests in flight were cut off");
    }
}

struct Connections {
    router: Router,
    graceful: GracefulShutdown,
    free: Arc<Semaphore>,
    header_read_max: Duration,
}

/// Never ends. Without a listener it waits for ever, so that it can stand in a `select!`.
async fn accept_tcp(listener: Option<&TcpListener>, connections: &Connections) {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        let Some(permit) = connections.permit().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are short and awaited: better sent at once than joined with later ones.
                let _ = stream.set_nodelay(true);
                connections.start(stream, permit);
            }
            Err(error) => pause(&error).await,
        }
    }
}

async fn accept_unix(listener: Option<&UnixListener>, connections: &Connections) {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        let Some(permit) = connections.permit().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => connections.start(stream, permit),
            Err(error) => pause(&error).await,
        }
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "accept a connection");
    sleep(ACCEPT_PAUSE).await;
}

impl Connections {
    /// A place for one more connection. `None` never comes: the semaphore is not closed.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    fn start(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        permit: OwnedSemaphorePermit,
    ) {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_read_max)
            .max_header_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router.clone()));
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                // A client that went away or spoke no HTTP: its affair, worth a line only when looked for.
                tracing::debug!(%error, "a connection ended early");
            }
            drop(permit);
        });
    }
}

//! Connections: TLS with optional client certificates, HTTP/2 and HTTP/1.1, limits on their number and on how long they may
//! dawdle.

use super::{
    activity::{Activity, Spent},
    extract::{OverTls, Peer},
};
use crate::ca::{Ca, ServerIdentity, read_device};
use axum::{
    Router,
    http::{HeaderValue, Request, header},
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

/// Longest TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the head of a request, the first and each later one on a connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest head of a request.
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// Requests of one HTTP/2 connection at the same time: the 16 chunks that a device fetches at once, and what it says beside.
const STREAMS_MAX: u32 = 32;
/// Requests of one HTTP/2 connection that were taken back and that the server has not looked at yet.
const RESETS_PENDING_MAX: usize = STREAMS_MAX as usize;
/// Streams of one HTTP/2 connection that the server ended for errors of its client.
const STREAM_ERRORS_MAX: usize = 100;
/// Bytes of an answer that wait in memory for their HTTP/2 stream, beside its body.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// Bytes of all requests of an HTTP/2 connection that wait in memory for who reads them: the client may send no more.
const RECEIVE_WINDOW_BYTES: u32 = 1 << 20;
/// Time between two questions whether the client of an HTTP/2 connection with requests is still there, and for the answer.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long requests may take to finish when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The name of HTTP/2 in the TLS handshake.
const HTTP_2: &[u8] = b"h2";

/// Why the TLS listener cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A PEM file could not be read.
    #[error("read {path}: {reason}")]
    Pem {
        /// Which file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The TLS library refuses the configuration.
    #[error("set up TLS")]
    Config(#[from] rustls::Error),
    /// The TLS library refuses the CA.
    #[error("set up TLS: {0}")]
    Verifier(String),
}

/// TLS 1.2 and 1.3; a client certificate is optional, but one that is shown must be signed by the fleet CA.
///
/// # Errors
/// When the server's own files are unusable.
pub(crate) fn tls(ca: &Ca, identity: &ServerIdentity) -> Result<TlsAcceptor, TlsError> {
    let bad = |path: &std::path::Path, e: &dyn std::fmt::Display| TlsError::Pem {
        path: path.display().to_string(),
        reason: e.to_string(),
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&identity.chain)
        .and_then(Iterator::collect)
        .map_err(|e| bad(&identity.chain, &e))?;
    let key = PrivateKeyDer::from_pem_file(&identity.key).map_err(|e| bad(&identity.key, &e))?;
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|e| TlsError::Verifier(e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![HTTP_2.to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until `stop` turns true, then lets running requests finish. Without `tls` it speaks plain HTTP.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    connections_max: usize,
    stop: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    loop {
        // Beyond the limit, new connections wait in the kernel's queue.
        let permit = tokio::select! {
            permit = Arc::clone(&permits).acquire_owned() => permit,
            () = stopped(stop.clone()) => break,
        };
        let Ok(permit) = permit else { break };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let connection = connection(stream, tls.clone(), router.clone(), permit, stop.clone());
                    connections.spawn(connection);
                }
                Err(error) => {
                    // Out of file descriptors, most likely: without a pause this would spin.
                    tracing::warn!("accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            () = stopped(stop.clone()) => break,
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let drain = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, drain).await.is_err() {
        tracing::warn!("some requests did not finish in time");
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    _permit: OwnedSemaphorePermit,
    stop: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return requests(stream, Speaks::Http1, Peer(None), OverTls(false), router, stop).await;
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let session = stream.get_ref().1;
            let shown = session.peer_certificates().and_then(<[_]>::first);
            let peer = Peer(shown.and_then(read_device));
            let speaks = if session.alpn_protocol() == Some(HTTP_2) { Speaks::Http2 } else { Speaks::Http1 };
            requests(stream, speaks, peer, OverTls(true), router, stop).await;
        }
        Ok(Err(error)) => tracing::debug!("TLS handshake: {error}"),
        Err(_) => tracing::debug!("TLS handshake: not finished within {} s", HANDSHAKE_TIMEOUT.as_secs()),
    }
}

/// What was agreed on in the handshake. It is not guessed from the first bytes: there is no time limit on those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Http1,
    Http2,
}

/// The limits of a connection.
fn builder(speaks: Speaks) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(STREAM_ERRORS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .initial_connection_window_size(RECEIVE_WINDOW_BYTES)
        .initial_stream_window_size(RECEIVE_WINDOW_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY);
    match speaks {
        Speaks::Http1 => builder.http1_only(),
        Speaks::Http2 => builder.http2_only(),
    }
}

async fn requests<S>(
    stream: S,
    speaks: Speaks,
    peer: Peer,
    tls: OverTls,
    router: Router,
    stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new();
    let service = service_fn(|mut request: Request<Incoming>| {
        let in_flight = activity.begin();
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(tls);
        name_host(&mut request);
        let answer = router.clone().oneshot(request);
        async move { answer.await.map(|response| in_flight.answered(response)) }
    });
    let builder = builder(speaks);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        spent = activity.spent(HEADER_TIMEOUT) => {
            tracing::debug!("connection ended: {spent:?}");
            if spent == Spent::Abandoning {
                return;
            }
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(DRAIN_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
        () = stopped(stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("connection: {error}");
    }
}

/// HTTP/2 says in the address what HTTP/1.1 says in a header (RFC 9113, 8.3.1), where everything else here looks for it.
fn name_host(request: &mut Request<Incoming>) {
    let Some(authority) = request.uri().authority() else { return };
    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        request.headers_mut().insert(header::HOST, host);
    }
}

/// Ends when the server stops, or is gone.
async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|s| *s).await;
}

#[cfg(test)]
mod tests;

//! The HTTPS client towards the fleet server.

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use std::{sync::Arc, time::Duration};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(15);
/// Longest silence while an answer comes.
const SILENCE: Duration = Duration::from_secs(30);

/// TLS settings that trust nobody: for an agent that cannot read its identity, and goes on with the models it has.
///
/// # Errors
/// Never with a provider that knows TLS 1.2 and 1.3.
pub(crate) fn nobody() -> Result<ClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Ok(config)
}

/// The client with these settings. Proxies that the environment names are for other programs.
///
/// # Errors
/// When the settings cannot be used.
pub(crate) fn client(config: &ClientConfig) -> reqwest::Result<reqwest::Client> {
    let mut config = config.clone();
    // Many chunks on one connection where the server can.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .user_agent(concat!("whimbrel-agent/", env!("CARGO_PKG_VERSION")))
        .build()
}

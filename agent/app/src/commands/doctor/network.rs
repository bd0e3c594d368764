//! The agent's own sockets, and the way to the fleet server.

use super::report::Check;
use crate::{
    config::{Serve, Server},
    failure::chain,
    identity::Identity,
};
use reqwest::Url;
use rustls::{ClientConnection, pki_types::ServerName};
use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

/// Longest wait for a connection, and for each step of a handshake.
const WAIT: Duration = Duration::from_secs(5);
/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Checks that the agent can listen, or that something does already.
pub(super) fn sockets(serve: &Serve) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.extend(serve.http.map(http));
    checks.extend(serve.uds.as_deref().map(|path| uds(path, serve.uds_is_default)));
    checks
}

fn http(address: SocketAddr) -> Check {
    const NAME: &str = "http";
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(NAME, format!("{address} is free")),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Check::ok(NAME, format!("{address} is in use"))
            .hint("by the agent, if it runs; else serve.http names another"),
        Err(e) => Check::fail(NAME, format!("{address}: {e}")).hint("serve.http names another address"),
    }
}

fn uds(path: &Path, is_default: bool) -> Check {
    const NAME: &str = "unix socket";
    let shown = path.display();
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match UnixStream::connect(path) {
        Ok(_) => return Check::ok(NAME, format!("{shown} answers")),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            return Check::warn(NAME, format!("{shown}: {e}"))
                .hint("run this as the agent's user or a member of its group");
        }
        // Absent, or left over from an agent that was killed: `serve` replaces it.
        Err(_) => {}
    }
    match tempfile::tempfile_in(dir) {
        Ok(_) => Check::ok(NAME, format!("{shown} can be made")),
        Err(e) => {
            let detail = format!("{shown} cannot be made: {e}");
            if is_default {
                return Check::warn(NAME, detail).hint("the agent goes without it; serve.uds names another");
            }
            Check::fail(NAME, detail).hint(format!("make {} and give it to the agent's user", dir.display()))
        }
    }
}

/// Checks that the fleet server is reached, and is the one the device enrolled with.
pub(super) fn server(identity: &Identity, settings: &Server) -> Check {
    const NAME: &str = "fleet server";
    let url = settings.url.as_ref().unwrap_or(&identity.membership.server);
    let config = match identity.tls_config() {
        Ok(config) => config,
        Err(error) => return Check::fail(NAME, chain(&error)),
    };
    match reach(url, config) {
        Ok(version) => Check::ok(NAME, format!("{url} answers, {version}")),
        // A device works without its server, so that this is no failure of the device.
        Err(Unreached::Network(why)) => Check::warn(NAME, format!("{url}: {why}"))
            .hint("check network, address and firewall; updates wait meanwhile"),
        Err(Unreached::Tls(why)) => Check::fail(NAME, format!("{url}: {why}"))
            .hint("check the clock, and that this is the server of the enrolment"),
    }
}

#[derive(Debug)]
enum Unreached {
    Network(String),
    Tls(String),
}

/// Connects and shakes hands. The protocol version that was agreed.
fn reach(url: &Url, config: rustls::ClientConfig) -> Result<String, Unreached> {
    let network = |e: io::Error| Unreached::Network(e.to_string());
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(|e| Unreached::Tls(e.to_string()))?;
    let port = url.port_or_known_default().unwrap_or(443);
    let mut tried = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for address in (host, port).to_socket_addrs().map_err(network)?.take(ADDRESSES_MAX) {
        tried = TcpStream::connect_timeout(&address, WAIT);
        if tried.is_ok() {
            break;
        }
    }
    let mut stream = tried.map_err(network)?;
    stream.set_read_timeout(Some(WAIT)).map_err(network)?;
    stream.set_write_timeout(Some(WAIT)).map_err(network)?;
    let mut connection =
        ClientConnection::new(Arc::new(config), name).map_err(|e| Unreached::Tls(e.to_string()))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(|e| {
            match e.get_ref().and_then(|i| i.downcast_ref()) {
                Some(error @ rustls::Error::InvalidCertificate(_)) => Unreached::Tls(error.to_string()),
                _ => network(e),
            }
        })?;
    }
    Ok(connection.protocol_version().map_or_else(|| "TLS".to_owned(), |v| format!("{v:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{commands::doctor::report::Status, testing::Ca};
    use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection};

    /// Shakes hands with one client, then ends.
    fn tls_server(ca: &Ca) -> (Url, std::thread::JoinHandle<()>) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certified = ca.server("localhost");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certified.certificate], certified.key)
            .expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = listener.local_addr().expect("bound").port();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepts");
            let mut connection = ServerConnection::new(Arc::new(config)).expect("a connection");
            while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
        });
        (format!("https://localhost:{port}").parse().expect("a URL"), thread)
    }

    fn trusting(ca: &Ca) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(ca.der()).expect("a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    #[test]
    fn a_server_of_another_ca_is_told_from_one_that_is_away() {
        let (ours, theirs) = (Ca::new("fleet"), Ca::new("fleet"));
        let (url, thread) = tls_server(&ours);
        assert_eq!(reach(&url, trusting(&ours)).expect("reached"), "TLSv1_3");
        thread.join().expect("ends");
        assert!(
            matches!(reach(&url, trusting(&ours)), Err(Unreached::Network(_))),
            "nobody listens any more"
        );
        let (url, thread) = tls_server(&theirs);
        assert!(matches!(reach(&url, trusting(&ours)), Err(Unreached::Tls(_))));
        thread.join().expect("ends");
    }

    #[test]
    fn sockets_that_can_be_made_are_told_from_those_that_cannot() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
        assert_eq!(http(taken.local_addr().expect("bound")).status, Status::Ok);
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("a.sock");
        assert_eq!(uds(&path, false).status, Status::Ok);
        assert_eq!(uds(&path.join("below"), false).status, Status::Fail);
        assert_eq!(uds(&path.join("no/folder"), true).status, Status::Warn);
    }
}

//! Servers on real sockets that do what no server should, and clients of them.

use reqwest::{Client, ClientBuilder};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// The page of a network that wants a login first.
pub(crate) const LOGIN: &str = "HTTP/1.1 200 OK\nContent-Type: text/html\nContent-Length: 39\nConnection: close\n\n\
    <html><body>Please log in</body></html>";

pub(crate) fn client_builder() -> ClientBuilder {
    // Fails only where another test installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy()
}

pub(crate) fn client() -> Client {
    client_builder().build().expect("a client")
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

/// Reads a request; whether one came.
async fn request(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    true
}

/// Gives the same answer to everything that is asked: its address. Lines of the answer end as in source code.
pub(crate) async fn always(answer: &str) -> String {
    let (listener, port) = listen().await;
    let answer = answer.replace('\n', "\r\n");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            if request(&mut stream).await {
                // Who asked may be gone.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    format!("http://127.0.0.1:{port}")
}

/// Begins every answer and goes on a byte at a time, without end: its address.
pub(crate) async fn drip() -> String {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            tokio::spawn(async move {
                let mut alive = request(&mut stream).await
                    && stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await.is_ok();
                while alive {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    alive = stream.write_all(b" ").await.is_ok();
                }
            });
        }
    });
    format!("http://127.0.0.1:{port}")
}

/// Has a certificate for another name than it is asked under: a client that trusts the certificate, and the address.
pub(crate) async fn with_another_name() -> (Client, String) {
    let builder = client_builder();
    let made = rcgen::generate_simple_self_signed(vec!["other.example".into()]).expect("a certificate");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .expect("a configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepts");
            // It fails: that is what this is about.
            drop(acceptor.accept(stream).await);
        }
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let client = builder.tls_backend_preconfigured(tls).build().expect("a client");
    (client, format!("https://localhost:{port}"))
}

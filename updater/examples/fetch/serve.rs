//! A static file server over TLS, HTTP/1.1 and HTTP/2.

use clap::Args;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Bytes, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{
    convert::Infallible,
    fs,
    io::Write,
    path::PathBuf,
    sync::{Arc, Mutex},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The folder to serve; `cert.pem` is written into it
    #[arg(long)]
    dir: PathBuf,
    /// HTTP/1.1 only
    #[arg(long)]
    http1: bool,
}

pub(crate) async fn run(args: ServeArgs) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    fs::write(args.dir.join("cert.pem"), made.cert.pem()).expect("writes");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a TLS configuration");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if !args.http1 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    println!("listening: https://localhost:{}", listener.local_addr().expect("bound").port());
    std::io::stdout().flush().expect("prints");
    let served = Arc::new(Served { dir: args.dir, paths: Mutex::default() });
    loop {
        let (stream, _) = listener.accept().await.expect("accepts");
        tokio::spawn(connection(stream, acceptor.clone(), Arc::clone(&served)));
    }
}

/// The folder, and the paths that were answered since `/requests` was last asked for.
struct Served {
    dir: PathBuf,
    paths: Mutex<Vec<String>>,
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, served: Arc<Served>) {
    stream.set_nodelay(true).expect("a socket");
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(move |request: Request<_>| {
        let served = Arc::clone(&served);
        async move { Ok::<_, Infallible>(answer(&served, &request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(256);
    // A client that is killed ends its connection badly; that is part of the measurement.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer<B>(served: &Served, request: &Request<B>) -> Response<Full<Bytes>> {
    let path = request.uri().path().trim_start_matches('/');
    let plain = path.split('/').all(|part| !part.is_empty() && part != "..");
    let bytes = match path {
        "requests" => {
            let paths = std::mem::take(&mut *served.paths.lock().expect("no panic"));
            Some(paths.join("\n").into_bytes())
        }
        _ if plain => {
            served.paths.lock().expect("no panic").push(format!("/{path}"));
            tokio::fs::read(served.dir.join(path)).await.ok()
        }
        _ => None,
    };
    let mut answer = Response::new(Full::default());
    match bytes {
        Some(bytes) => *answer.body_mut() = Full::from(bytes),
        None => *answer.status_mut() = StatusCode::NOT_FOUND,
    }
    answer
}

//! Fetching and installing, measured.

use bytes::Bytes;
use clap::Args;
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use semver::Version;
use serde_json::json;
use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;
use whimbrel_updater::{
    engine::{CHUNK_WINDOW, Engine, EngineConfig, Host, Traffic},
    slots::InstalledBundle,
    transport::{Https, Transport, TransportError},
    tuf::{Source, Trust},
};
use whimbrel_wire::{
    Digest, ModelName,
    desired::{DesiredModel, DesiredState},
    report::{ModelReport, Progress, Reason},
};

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// The repository's folder, for its root and the server's certificate
    #[arg(long)]
    dir: PathBuf,
    /// The server
    #[arg(long)]
    base: String,
    /// The device's state folder; made when absent
    #[arg(long)]
    state_dir: PathBuf,
    /// The version to install
    #[arg(long, default_value = "1.0.0")]
    version: Version,
}

/// Takes every bundle.
struct AnyModel;

impl Host for AnyModel {
    async fn self_test(&self, _: &InstalledBundle) -> Result<(), Reason> {
        Ok(())
    }

    async fn serve(&self, _: &InstalledBundle, _: Option<&InstalledBundle>) -> Result<(), Reason> {
        Ok(())
    }

    async fn withdraw(&self, _: &ModelName) {}

    fn traffic(&self, _: &ModelName) -> Traffic {
        Traffic { requests: 1_000_000, errors: 0 }
    }
}

/// What was moved.
#[derive(Debug, Default)]
struct Moved {
    chunks: AtomicU64,
    bytes: AtomicU64,
}

/// Counts what is moved.
struct Counting {
    inner: Https,
    moved: Arc<Moved>,
}

impl Counting {
    fn count(&self, bytes: &Bytes) {
        self.moved.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
}

impl Source for Counting {
    async fn metadata(&self, file: &str, size_bytes_max: u64) -> Result<Option<Bytes>, TransportError> {
        let bytes = self.inner.metadata(file, size_bytes_max).await?;
        bytes.iter().for_each(|bytes| self.count(bytes));
        Ok(bytes)
    }
}

impl Transport for Counting {
    async fn target(&self, file: &str, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        let bytes = self.inner.target(file, size_bytes_max).await?;
        self.count(&bytes);
        Ok(bytes)
    }

    async fn chunk(&self, stored: Digest, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        let bytes = self.inner.chunk(stored, size_bytes_max).await?;
        self.count(&bytes);
        self.moved.chunks.fetch_add(1, Ordering::Relaxed);
        Ok(bytes)
    }
}

pub(crate) async fn run(args: UpdateArgs) {
    let trust = args.state_dir.join("trust");
    if !trust.exists() {
        let root = fs::read(args.dir.join("tuf/1.root.json")).expect("a repository");
        Trust::init(&trust, &root).expect("a good root");
    }
    let moved = Arc::new(Moved::default());
    let transport = Counting { inner: Https::new(client(&args), &args.base), moved: Arc::clone(&moved) };
    let config = EngineConfig::new(&args.state_dir, Version::new(0, 1, 0));
    let engine = Engine::open(config, AnyModel, transport).await.expect("opens");
    let (_wish, wishes) = watch::channel(Some(wish(&args.version)));
    let (sender, mut reports) = watch::channel(engine.reports());
    // From here on the peak is that of the update alone.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let idle_rss_bytes = status_bytes("VmRSS:");
    let begun = Instant::now();
    let engine = tokio::spawn(engine.run(wishes, move |reports| {
        sender.send_replace(reports);
    }));
    loop {
        reports.changed().await.expect("runs");
        if is_done(&reports.borrow_and_update(), &args.version) {
            break;
        }
    }
    let wall = begun.elapsed();
    engine.abort();
    say(wall, &moved, idle_rss_bytes);
}

fn client(args: &UpdateArgs) -> reqwest::Client {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(args.dir.join("cert.pem")).expect("the server's");
    roots.add(certificate).expect("a certificate");
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy().build().expect("a client")
}

fn wish(version: &Version) -> DesiredState {
    let model = DesiredModel {
        name: "m".parse().expect("a name"),
        version: version.clone(),
        target: format!("m/{version}.wbi"),
        attempt: 1,
        rollout: String::new(),
    };
    DesiredState { serial: 1, models: vec![model], poll_s: 60 }
}

/// Whether the version serves; prints how far it is where it does not.
fn is_done(reports: &[ModelReport], version: &Version) -> bool {
    let Some(update) = reports.iter().find_map(|r| r.update.as_ref()).filter(|u| u.version == *version)
    else {
        return false;
    };
    match &update.progress {
        Progress::Fetching { done_bytes, total_bytes } => println!("progress {done_bytes} {total_bytes}"),
        Progress::Probation { .. } | Progress::Active {} => return true,
        Progress::Rejected { reason } | Progress::RolledBack { reason } => panic!("{reason}"),
        Progress::Resolving {} | Progress::SelfTest {} => {}
    }
    false
}

fn say(wall: Duration, moved: &Moved, idle_rss_bytes: u64) {
    let peak_rss_bytes = status_bytes("VmHWM:");
    let said = json!({
        "window_chunks": CHUNK_WINDOW,
        "wall_s": wall.as_secs_f64(),
        "chunks": moved.chunks.load(Ordering::Relaxed),
        "moved_bytes": moved.bytes.load(Ordering::Relaxed),
        "idle_rss_bytes": idle_rss_bytes,
        "peak_rss_bytes": peak_rss_bytes,
        "above_idle_bytes": peak_rss_bytes.saturating_sub(idle_rss_bytes),
    });
    println!("{said}");
}

/// A size in the kernel's account of this process; 0 where there is none.
fn status_bytes(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or_default() * 1024
}

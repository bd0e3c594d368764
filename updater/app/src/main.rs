//! `whimbrel-update`: the updater on its own, as a client of any TUF 1.0 repository over HTTP or HTTPS.
//!
//! Trusted metadata is kept in a folder under names without versions (`root.json`, `timestamp.json`, …, and a file for each
//! delegated role). Exit codes: 0 full success, 1 any failure, 2 bad usage.

mod cli;
mod download;

use anyhow::{Context, Result, bail};
use clap::Parser as _;
use cli::{Cli, Command, Options};
use std::{fs, path::Path, process::ExitCode, time::Duration};
use time::OffsetDateTime;
use tracing_subscriber::EnvFilter;
use whimbrel_updater::{
    disk::{Disk as _, Files},
    transport::Https,
    tuf::{Role as _, Root, Trust},
};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(15);
/// Longest silence while an answer comes.
const SILENCE: Duration = Duration::from_secs(30);
/// Largest accepted file of CA certificates.
const CA_BYTES_MAX: u64 = 1 << 20;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("WHIMBREL_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // Fails only where a provider is installed already, which is then as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", format!("{error:#}").replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let trust = &cli.metadata_dir;
    match cli.command {
        Command::Init { root } => init(trust, &root),
        Command::Refresh => work(async {
            let source = source(&cli.options)?;
            let mut trust = Trust::open(trust)?;
            Ok(trust.refresh(&source, OffsetDateTime::now_utc()).await?)
        }),
        Command::Download => work(async {
            let Options { target_base_url, target_names, target_dir, .. } = &cli.options;
            let (Some(_), Some(dir)) = (target_base_url, target_dir) else {
                bail!("download: --target-base-url and --target-dir are needed");
            };
            if target_names.is_empty() {
                bail!("download: no --target-name was given");
            }
            download::run(Trust::open(trust)?, &source(&cli.options)?, target_names, dir).await
        }),
    }
}

/// Begins trust with a root that came in a trusted way.
fn init(trust: &Path, root: &Path) -> Result<()> {
    let bytes = Files.read(root, Root::SIZE_BYTES_MAX)?;
    let bytes = bytes.with_context(|| format!("read {}: no such file", root.display()))?;
    Trust::init(trust, &bytes).with_context(|| format!("trust {}", root.display()))?;
    Ok(())
}

/// One thread is enough: what takes time is the network.
fn work(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("start the runtime")?.block_on(work)
}

/// The repository at the addresses given.
fn source(options: &Options) -> Result<Https> {
    let Some(metadata) = &options.metadata_url else {
        bail!("reach the repository: --metadata-url is needed");
    };
    let targets = options.target_base_url.as_deref().unwrap_or_default();
    let mut client = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("whimbrel-update/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = &options.ca {
        client = client.tls_certs_only(certificates(path)?);
    }
    Ok(Https::plain(client.build().context("prepare HTTPS")?, metadata, targets))
}

fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>> {
    let attempted = || format!("read CA certificates from {}", path.display());
    if fs::metadata(path).with_context(attempted)?.len() > CA_BYTES_MAX {
        bail!("{}: longer than the {CA_BYTES_MAX} bytes accepted", attempted());
    }
    let certificates = reqwest::Certificate::from_pem_bundle(&fs::read(path).with_context(attempted)?);
    let certificates = certificates.with_context(attempted)?;
    match certificates.is_empty() {
        true => bail!("{}: it holds none in PEM", attempted()),
        false => Ok(certificates),
    }
}

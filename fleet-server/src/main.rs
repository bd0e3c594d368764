//! The Whimbrel fleet server: model registry, staged rollouts, device registry, telemetry intake, web UI.
//!
//! | module | holds |
//! |---|---|
//! | [`app`] | puts the parts together |
//! | [`config`] | settings: file and flags |
//! | [`service`] | what the server does, whoever asks |
//! | [`rollout`] | whom to ask when: pure |
//! | [`store`] | the database and the files; all SQL |
//! | [`bus`] | messages to and from devices; the embedded MQTT broker |
//! | [`http`] | the API over TLS |
//! | [`ui`] | the web UI |
//! | [`ca`] | the fleet's certificate authority |
//! | [`files`] | files that must be whole or private |

mod app;
mod bus;
mod ca;
mod config;
mod files;
mod http;
mod rollout;
mod service;
mod store;
#[cfg(test)]
mod tests;
mod ui;

use anyhow::Context as _;
use app::App;
use clap::{Parser, Subcommand};
use config::{Config, Flags};
use std::{process::ExitCode, sync::Arc};
use store::{
    Store,
    audit::Verdict,
    operators::{Operator, Role},
};
use time::OffsetDateTime;
use tracing_subscriber::EnvFilter;

/// The Whimbrel fleet server.
#[derive(Parser)]
#[command(name = "whimbrel-fleet", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server.
    Serve(Flags),
    /// Check the settings and say what they come to.
    Config(Flags),
    /// Check that the audit log is whole; exits with 4 when it is not.
    Audit(Flags),
    /// Make a token for another operator and print it.
    Token {
        #[command(flatten)]
        flags: Flags,
        /// The operator's name, as the audit log shows it.
        #[arg(long)]
        name: String,
        /// viewer, operator, releaser or admin.
        #[arg(long)]
        role: Role,
    },
}

/// What a command ended with, as its exit code.
enum End {
    Done,
    Refused(String),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    start_log();
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return fail("start: another TLS provider is installed already", 1);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("start the runtime: {error}"), 1),
    };
    match runtime.block_on(run(cli.command)) {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::Refused(why)) => fail(&why, 4),
        Err(error) if error.is::<config::ConfigError>() => fail(&format!("{error:#}"), 2),
        Err(error) => fail(&format!("{error:#}"), 1),
    }
}

fn fail(why: &str, code: u8) -> ExitCode {
    eprintln!("error: {}", why.replace('\n', " "));
    ExitCode::from(code)
}

fn start_log() {
    // The broker logs every refused connection; what matters of it is logged by our own hooks.
    let quiet = "info,rmqtt=error,rmqtt_net=error,rmqtt_codec=error";
    let filter = EnvFilter::try_from_env("WHIMBREL_LOG").unwrap_or_else(|_| EnvFilter::new(quiet));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .try_init();
    if let Err(error) = started {
        eprintln!("error: start the log: {error}");
    }
}

async fn run(command: Command) -> anyhow::Result<End> {
    match command {
        Command::Serve(flags) => serve(config::load(flags)?).await,
        Command::Config(flags) => {
            println!("{:#?}", config::load(flags)?);
            Ok(End::Done)
        }
        Command::Audit(flags) => audit(&config::load(flags)?).await,
        Command::Token { flags, name, role } => token(&config::load(flags)?, name, role).await,
    }
}

async fn serve(config: Config) -> anyhow::Result<End> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let app = App::start(config, Arc::new(OffsetDateTime::now_utc)).await?;
    println!("listening: https://{}", app.https);
    println!("listening: mqtts://{}", app.mqtt);
    if let Some(ui) = app.ui {
        println!("listening: http://{ui} (ui)");
    }
    println!("admin token: {}", app.admin_token.display());
    println!("ready");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    app.stop().await;
    Ok(End::Done)
}

async fn audit(config: &Config) -> anyhow::Result<End> {
    let store = open(config).await?;
    match store.verify_audit().await? {
        Verdict::Whole { rows } => {
            println!("the audit log is whole: {rows} rows");
            Ok(End::Done)
        }
        Verdict::Broken { sequence } => Ok(End::Refused(format!(
            "check the audit log: row {sequence} does not follow from those before it"
        ))),
    }
}

async fn token(config: &Config, name: String, role: Role) -> anyhow::Result<End> {
    anyhow::ensure!(!name.is_empty() && name.len() <= 64, "make a token: a name has 1 to 64 bytes");
    let store = open(config).await?;
    let token = service::random_secret()?;
    store.add_operator(&token, &Operator { name, role }, service::millis(OffsetDateTime::now_utc())).await?;
    println!("{token}");
    Ok(End::Done)
}

async fn open(config: &Config) -> anyhow::Result<Store> {
    let path = config.state_dir.join("fleet.db");
    anyhow::ensure!(path.exists(), "open {}: there is no database; start the server first", path.display());
    Ok(Store::open(&path).await?)
}

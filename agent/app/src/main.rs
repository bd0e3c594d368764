//! The Whimbrel device agent.
//!
//! | module | holds |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`commands`] | one module per command |
//! | [`config`] | the configuration, and where each value came from |
//! | [`enroll`] | joining a fleet |
//! | [`identity`] | who this device is to its fleet |
//! | [`fleet`] | desired states in, reports and telemetry out |
//! | [`host`] | models of installed bundles, for the updater |
//! | [`model`] | models named on the command line |
//! | [`golden`] | inputs with known answers |
//! | [`npz`] | tensors in npz files |
//! | [`observer`] | what requests say about the data |
//! | [`telemetry`] | the recorder and the spool |
//! | [`failure`] | errors and exit codes |
//! | [`logging`] | lines on standard error |

mod backends;
mod certificate;
mod cli;
mod commands;
mod config;
mod enroll;
mod failure;
mod fleet;
mod golden;
mod host;
mod identity;
mod logging;
mod model;
mod npz;
mod observer;
mod platform;
mod surroundings;
mod telemetry;
#[cfg(test)]
mod testing;

use clap::Parser as _;
use cli::{Cli, Command, ServeArgs};
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Both providers of rustls can be in the tree; this one is used. Fails only if one was chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    match run(&cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.render(cli.command.json()));
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Enroll(args) => {
            logging::start(tracing::level_filters::LevelFilter::WARN);
            runtime()?.block_on(commands::enroll::run(args))
        }
        Command::Install(args) => {
            logging::start(tracing::level_filters::LevelFilter::WARN);
            runtime()?.block_on(commands::install::run(args))
        }
        Command::Serve(args) => serve(args),
        Command::Spool(command) => commands::spool::run(command),
        Command::Run(args) => {
            logging::start(tracing::level_filters::LevelFilter::WARN);
            commands::run::run(args)
        }
        Command::Bench(args) => {
            logging::start(tracing::level_filters::LevelFilter::WARN);
            commands::bench::run(args)
        }
        Command::Doctor(args) => commands::doctor::run(args),
        Command::Config(command) => commands::config::run(command),
    }
}

fn serve(args: &ServeArgs) -> Result<(), Failure> {
    let config = args.load()?.config;
    let level = logging::start(config.log.level);
    runtime()?.block_on(commands::serve::run(config, args, level))
}

/// The asynchronous runtime.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed("starting the runtime", e))
}

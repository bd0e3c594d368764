//! `whimbrel`: keys, signed metadata, bundles, rollouts and devices from the command line, and the demo.
//!
//! | module | holds |
//! |---|---|
//! | [`commands`] | arguments, and what each command prints |
//! | [`repository`] | the operator's folder of signed metadata |
//! | [`publish`] | bringing a bundle to a fleet server |
//! | [`client`] | the fleet server's API |
//! | [`demo`] | everything on one machine, as real processes |
//! | [`output`], [`error`], [`duration`], [`files`] | how commands print, fail and read |

mod client;
mod commands;
mod demo;
mod duration;
mod error;
mod files;
mod onnx;
mod output;
mod publish;
mod repository;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match commands::Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return usage(&e),
    };
    let json = cli.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.render(json));
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(cli: commands::Cli) -> Result<(), error::Failure> {
    // Fails only where a provider is installed already, which is then as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| error::Failure::failed("starting the runtime", e))?
        .block_on(commands::run(cli))
}

/// Help and the version are no failure; the rest is bad usage, in the form that the caller asked for.
fn usage(e: &clap::Error) -> ExitCode {
    let asked_json = std::env::args_os().any(|a| a == "--json");
    if !e.use_stderr() || !asked_json {
        // Nothing more can be done where the terminal is gone.
        let _ = e.print();
        return ExitCode::from(u8::from(e.use_stderr()) * 2);
    }
    let text = e.to_string();
    let why = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    eprintln!("{}", error::Failure::usage("reading the command line", why).render(true));
    ExitCode::from(2)
}

//! Measures how a bundle is fetched and installed, against a static file server. Three processes, so that each is measured alone:
//!
//! ```text
//! fetch make --dir D --size-mib 100 [--version 1.0.0] [--seed 1] [--change 0.1]
//! fetch serve --dir D                       prints `listening: https://localhost:PORT`; `/requests` lists the paths asked for since the last list
//! fetch update --dir D --base URL --state-dir S [--version 1.0.0]
//! ```
//! `make` writes a signed repository of one model, of bytes that do not compress, with `raw/VERSION.bin` for other programs to fetch.
//! `update` prints `progress DONE TOTAL` while it works, so that a parent can kill it on the way and start it again, and ends with one
//! line of JSON: `wall_s`, `chunks`, `moved_bytes`, `idle_rss_bytes`, `peak_rss_bytes`, `above_idle_bytes`.

#![allow(clippy::expect_used, clippy::panic, reason = "a measuring program stops with what was unexpected")]

mod make;
mod serve;
mod update;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a signed repository, or add a version to it
    Make(make::MakeArgs),
    /// Serve a repository over HTTPS
    Serve(serve::ServeArgs),
    /// Fetch and install a version, and say what that took
    Update(update::UpdateArgs),
}

fn main() {
    rustls::crypto::ring::default_provider().install_default().expect("the first provider");
    match Cli::parse().command {
        Command::Make(args) => make::run(&args),
        Command::Serve(args) => block_on(serve::run(args)),
        Command::Update(args) => block_on(update::run(args)),
    }
}

fn block_on(task: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime").block_on(task);
}

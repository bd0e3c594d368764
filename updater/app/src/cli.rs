//! The command line.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// A TUF client: keeps trusted metadata up to date and downloads targets
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  whimbrel-update --metadata-dir trust init root.json
  whimbrel-update --metadata-dir trust --metadata-url https://updates.example/metadata refresh
  whimbrel-update --metadata-dir trust --metadata-url https://updates.example/metadata \\
    --target-name app/1.0.tar --target-base-url https://updates.example/targets --target-dir downloads download

Options stand before the command or after it. Exit codes: 0 full success, 1 any failure, 2 bad usage."
)]
pub(crate) struct Cli {
    /// The folder of trusted metadata
    #[arg(long, value_name = "DIR", global = true, default_value = "trust")]
    pub(crate) metadata_dir: PathBuf,
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Begin trust with a root that came in a trusted way
    Init {
        /// The root's file
        root: PathBuf,
    },
    /// Bring the trusted metadata up to date
    Refresh,
    /// Bring the metadata up to date and download targets, in the order given
    Download,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the repository's metadata is
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) metadata_url: Option<String>,
    /// Where its targets are
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) target_base_url: Option<String>,
    /// A target to download; may repeat
    #[arg(long = "target-name", value_name = "NAME", global = true)]
    pub(crate) target_names: Vec<String>,
    /// Where targets go, each under its percent-encoded name; one that is there already and right is not fetched again
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) target_dir: Option<PathBuf>,
    /// CA certificates in PEM to trust in place of the system's
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) ca: Option<PathBuf>,
}

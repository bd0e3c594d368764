//! The command line.

use crate::{
    config::{Loaded, ModelSettings, Sources, load},
    failure::Failure,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, str::FromStr};
use whimbrel_infer::{Cores, LoadOptions};
use whimbrel_wire::{DeviceId, ModelName};

/// The Whimbrel device agent: runs models, answers apps, takes signed updates.
#[derive(Debug, Parser)]
#[command(name = "whimbrel-agent", version, propagate_version = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Join a fleet with a token from an operator.
    Enroll(EnrollArgs),
    /// Answer apps, and follow the fleet server if enrolled.
    Serve(ServeArgs),
    /// Install a signed bundle from a file, while the agent does not serve.
    Install(InstallArgs),
    /// Run a model on arrays from npz files.
    Run(RunArgs),
    /// Measure how fast a model runs here.
    Bench(BenchArgs),
    /// Check this device and say what to do about what is wrong.
    Doctor(DoctorArgs),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at the telemetry that waits to be sent.
    #[command(subcommand)]
    Spool(SpoolCommand),
}

impl Command {
    /// Whether answers and errors are to be JSON.
    pub(crate) const fn json(&self) -> bool {
        match self {
            Self::Enroll(_) | Self::Install(_) | Self::Serve(_) | Self::Run(_) | Self::Config(_) => false,
            Self::Bench(args) => args.json,
            Self::Doctor(args) => args.json,
            Self::Spool(SpoolCommand::Stat(args)) => args.json,
        }
    }
}

/// Where the configuration and the state are.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file [default: /etc/whimbrel/agent.toml, which may be absent]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder of everything the agent keeps [default: /var/lib/whimbrel]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

impl ConfigArgs {
    /// The sources of the configuration, these flags included.
    pub(crate) fn sources(&self) -> Sources {
        Sources::of_process(self.config.as_deref()).path_flag(
            "--state-dir",
            ("device", "state_dir"),
            self.state_dir.as_deref(),
        )
    }

    /// The configuration.
    ///
    /// # Errors
    /// It is not valid.
    pub(crate) fn load(&self) -> Result<Loaded, Failure> {
        Ok(load(&self.sources())?)
    }
}

/// `enroll`.
#[derive(Debug, Args)]
pub(crate) struct EnrollArgs {
    /// Address of the fleet server, https://HOST:PORT
    #[arg(long, value_name = "URL")]
    pub(crate) server: String,
    /// The token, as `whimbrel enroll create` printed it
    #[arg(long, value_name = "TOKEN", required_unless_present = "token_file", conflicts_with = "token_file")]
    pub(crate) token: Option<String>,
    /// A file that holds the token, out of sight of other users; `-` reads it from standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The name to ask for [default: the host's name]
    #[arg(long, value_name = "ID")]
    pub(crate) device: Option<DeviceId>,
    /// The server's MQTT port, if not the one that it names
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) mqtt_port: Option<u16>,
    /// Give up the present enrolment
    #[arg(long)]
    pub(crate) force: bool,
    /// Where the configuration and the state are.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// `install`.
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// The .wbundle file, with the metadata that vouches for it (`whimbrel bundle sign` puts it in)
    pub(crate) file: PathBuf,
    /// Where the configuration and the state are.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// `serve`.
#[derive(Debug, Default, Args)]
pub(crate) struct ServeArgs {
    /// TCP address for apps; port 0 picks a free one [default: 127.0.0.1:8350]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) http: Option<String>,
    /// Unix socket for apps; "" for none [default: /run/whimbrel/agent.sock]
    #[arg(long, value_name = "PATH")]
    pub(crate) uds: Option<String>,
    /// A model to serve without a fleet: an .onnx file, a bundle's folder or a .wbundle; may repeat
    #[arg(long = "model", value_name = "NAME=PATH")]
    pub(crate) models: Vec<NamedModel>,
    /// Where the configuration and the state are.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

impl ServeArgs {
    /// The configuration, these flags included.
    ///
    /// # Errors
    /// It is not valid.
    pub(crate) fn load(&self) -> Result<Loaded, Failure> {
        let sources = self.config.sources().flag("--http", ("serve", "http"), self.http.as_deref()).flag(
            "--uds",
            ("serve", "uds"),
            self.uds.as_deref(),
        );
        Ok(load(&sources)?)
    }
}

/// `NAME=PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedModel {
    /// The name that apps call it by.
    pub(crate) name: ModelName,
    /// Where it is.
    pub(crate) path: PathBuf,
}

impl FromStr for NamedModel {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, path)) if !path.is_empty() => {
                Ok(Self { name: name.parse().map_err(|e| format!("{e}"))?, path: path.into() })
            }
            _ => Err("expected NAME=PATH".to_owned()),
        }
    }
}

/// What runs a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendChoice {
    /// The best that this build has for this device.
    #[default]
    Auto,
    /// The best that this build has for the processor.
    Cpu,
    /// The GPU.
    Gpu,
    /// Tract, on the processor.
    Tract,
}

impl BackendChoice {
    /// Its name among the backends.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Tract => "tract",
        }
    }
}

/// What a model named on the command line may use.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct ResourceArgs {
    /// Most memory that the model may take; it is refused beyond, before it is loaded [default: half of the machine's]
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory_bytes_max: Option<u64>,
    /// The processors that runs are bound to, like 0-1 or 0,2 [default: any]
    #[arg(long, value_name = "LIST")]
    pub(crate) cores: Option<Cores>,
}

impl ResourceArgs {
    /// How a model is loaded.
    pub(crate) fn options(self) -> LoadOptions {
        let Self { memory_bytes_max, cores } = self;
        ModelSettings { memory_bytes_max, cores, ..ModelSettings::default() }.options()
    }
}

/// `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// An .onnx file, a bundle's folder or a .wbundle
    pub(crate) model: PathBuf,
    /// An npz file whose arrays are named like the model's inputs, or a folder of such files; may repeat
    #[arg(long, value_name = "NPZ", required = true)]
    pub(crate) inputs: Vec<PathBuf>,
    /// The npz file to write; with several inputs, a folder that gets a file of the same name for each
    #[arg(long, value_name = "NPZ")]
    pub(crate) outputs: PathBuf,
    /// What runs the model
    #[arg(long, value_enum, default_value_t)]
    pub(crate) backend: BackendChoice,
    /// What the model may use.
    #[command(flatten)]
    pub(crate) resources: ResourceArgs,
    /// How many input files are worked on at a time [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Keep the plan in this folder, ready to run, and load it from there as long as the model's file stays as it is
    #[arg(long, value_name = "DIR")]
    pub(crate) plan_cache: Option<PathBuf>,
}

/// `bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// An .onnx file, a bundle's folder or a .wbundle
    pub(crate) model: PathBuf,
    /// What runs the model
    #[arg(long, value_enum, default_value_t)]
    pub(crate) backend: BackendChoice,
    /// Most threads that one run may use; a backend may use fewer [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// What the model may use.
    #[command(flatten)]
    pub(crate) resources: ResourceArgs,
    /// How many runs are measured
    #[arg(long, value_name = "R", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) runs: u32,
    /// How many runs come before those
    #[arg(long, value_name = "W", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(crate) warmup: u32,
    /// Also tell the time of each layer, what runs it, and which layers have no kernel
    #[arg(long)]
    pub(crate) profile: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Keep the plan in this folder, ready to run, and load it from there as long as the model's file stays as it is
    #[arg(long, value_name = "DIR")]
    pub(crate) plan_cache: Option<PathBuf>,
}

/// `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Where the configuration and the state are.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// `config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say `ok`, or what is wrong.
    Check(ConfigArgs),
    /// Print every value.
    Show(ConfigShowArgs),
}

/// `config show`.
#[derive(Debug, Args)]
pub(crate) struct ConfigShowArgs {
    /// Add where each value came from
    #[arg(long)]
    pub(crate) origin: bool,
    /// Where the configuration and the state are.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// `spool`.
#[derive(Debug, Subcommand)]
pub(crate) enum SpoolCommand {
    /// Print how much waits, and since when.
    Stat(SpoolStatArgs),
}

/// `spool stat`.
#[derive(Debug, Args)]
pub(crate) struct SpoolStatArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Where the configuration and the state are.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_named_model_needs_a_name_and_a_path() {
        let model: NamedModel = "digits=/a=b.onnx".parse().expect("parses");
        assert_eq!(model.path, PathBuf::from("/a=b.onnx"));
        for bad in ["digits", "digits=", "=x.onnx", "Up=x.onnx"] {
            assert!(bad.parse::<NamedModel>().is_err(), "accepted {bad:?}");
        }
    }
}

//! The command line: one file per noun.

pub(crate) mod bundle;
mod device;
pub(crate) mod enroll;
mod key;
mod model;
pub(crate) mod repo;
mod rollout;
mod telemetry;

use crate::{demo, error::Failure, output::Output};
use clap::{Parser, Subcommand};

/// Sign, publish and roll out models to a fleet of devices, and look after the fleet.
#[derive(Debug, Parser)]
#[command(name = "whimbrel", version, about, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Print one JSON value instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
The whole path:
  whimbrel key generate --out root.key
  whimbrel key generate --out release.key
  export WHIMBREL_SERVER=https://fleet.example:8443 WHIMBREL_TOKEN_FILE=admin.token WHIMBREL_CA=ca.pem
  whimbrel repo init --repo repo --root-key root.key --targets-key release.key
  whimbrel repo push --repo repo
  whimbrel enroll create --root repo/1.root.json
  whimbrel bundle pack digits -o digits.wbundle
  whimbrel model publish digits.wbundle --repo repo --targets-key release.key
  whimbrel rollout start digits 1.0.0 --stages 10,50,100
  whimbrel rollout status --watch

Or all of it on this machine:
  whimbrel demo

Exit codes: 0 done, 1 failed, 2 bad usage or input, 3 not supported, 4 refused by policy or verification.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Signing keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// The folder of signed metadata
    #[command(subcommand)]
    Repo(repo::RepoCommand),
    /// Bundles: a model with everything that belongs to it, in one file
    #[command(subcommand)]
    Bundle(bundle::BundleCommand),
    /// Published models
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// One-time tokens for new devices
    #[command(subcommand)]
    Enroll(enroll::EnrollCommand),
    /// Devices
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Staged rollouts
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// What devices report of their requests
    #[command(subcommand)]
    Telemetry(telemetry::TelemetryCommand),
    /// A fleet server and two devices on this machine, and everything that can happen to them
    Demo(demo::DemoArgs),
}

/// Runs one command.
///
/// # Errors
/// What the command reports.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let output = Output { json: cli.json };
    match cli.command {
        Command::Key(command) => key::run(command, output),
        Command::Repo(command) => repo::run(command, output).await,
        Command::Bundle(command) => bundle::run(command, output).await,
        Command::Model(command) => model::run(command, output).await,
        Command::Enroll(command) => enroll::run(command, output).await,
        Command::Device(command) => device::run(command, output).await,
        Command::Rollout(command) => rollout::run(command, output).await,
        Command::Telemetry(command) => telemetry::run(command, output).await,
        Command::Demo(args) => demo::run(args, output).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_parse_as_their_help_shows() {
        let server = "--server https://h:1 --token-file t --ca c";
        for line in [
            "key generate --out k".to_owned(),
            "key show k --json".to_owned(),
            "repo init --repo r --root-key a --root-key b --threshold 2 --targets-key t --online-key o"
                .to_owned(),
            format!("repo init --repo r --root-key a --targets-key t {server}"),
            "repo add x.wbundle --repo r --key k --days 30".to_owned(),
            "repo add --file f --name docs/f --repo r --role docs".to_owned(),
            "repo remove digits/1.0.0.wbi --repo r --key k".to_owned(),
            "repo sign root --repo r --key a".to_owned(),
            "repo discard targets --repo r".to_owned(),
            "repo renew targets --repo r --key k".to_owned(),
            "repo rotate --repo r --add root=f --remove root=ab --threshold root=2 --online-key o --key k"
                .to_owned(),
            "repo delegate a/b --repo r --path v/* --path w/* --role-key p --threshold 1 --terminating"
                .to_owned(),
            "repo delegate bin --from a/b --repo r --hash-prefix 0 --role-key p --key k".to_owned(),
            "repo undelegate bin --from a/b --repo r".to_owned(),
            "repo floor digits 1.0.0 --repo r --key k".to_owned(),
            "repo downgrade digits 1.0.0 --repo r --key k".to_owned(),
            "repo snapshot --repo r --key k".to_owned(),
            "repo timestamp --repo r --key k --days 2".to_owned(),
            "repo status --repo r --json".to_owned(),
            format!("repo push --repo r {server}"),
            format!("repo pull --repo r {server}"),
            "bundle pack d -o x.wbundle".to_owned(),
            "--json bundle inspect x.wbundle".to_owned(),
            "bundle verify x.wbundle --root 1.root.json".to_owned(),
            "bundle verify x.wbundle --trust trust".to_owned(),
            "bundle sign x.wbundle --repo r --targets-key t".to_owned(),
            format!("model publish x.wbundle --repo r --targets-key t {server}"),
            format!("model floor digits 1.2.0 --repo r --targets-key t {server}"),
            format!("model list {server}"),
            format!("enroll create --device cam-1 --tag a --tag b --ttl 30m --root 1.root.json {server}"),
            format!("device list {server}"),
            format!("device show cam-1 {server}"),
            format!(
                "rollout start digits 1.0.0 --stages 10,50,100 --on-failure roll-back --soak 5m {server}"
            ),
            format!("rollout status --watch {server}"),
            format!("rollout pause r1 {server}"),
            format!("telemetry summary {server}"),
            "demo --once --json --keep-dir d --bin-dir b --examples e".to_owned(),
        ] {
            let words = std::iter::once("whimbrel").chain(line.split(' '));
            if let Err(e) = Cli::try_parse_from(words) {
                panic!("{line}: {e}");
            }
        }
    }

    #[test]
    fn bad_arguments_are_refused() {
        let server = "--server https://h:1 --token-file t --ca c";
        for line in [
            "bundle verify x.wbundle".to_owned(),
            "bundle verify x.wbundle --root r --trust t".to_owned(),
            format!("rollout start digits one {server}"),
            format!("rollout start Digits 1.0.0 {server}"),
            format!("rollout start digits 1.0.0 --stages 50,10 {server}"),
            format!("rollout start digits 1.0.0 --stages 10,50 {server}"),
            format!("rollout start digits 1.0.0 --success 101 {server}"),
            format!("enroll create --root r --ttl 5 {server}"),
            "repo init --repo r --targets-key t".to_owned(),
            "repo add --repo r".to_owned(),
            "repo add x.wbundle --file f --name n --repo r".to_owned(),
            "repo add --file f --repo r".to_owned(),
            "repo delegate a --repo r --role-key p".to_owned(),
            "repo delegate a --repo r --role-key p --path x --hash-prefix 0".to_owned(),
            "repo rotate --repo r --threshold root".to_owned(),
            "repo timestamp --repo r --key k --days 0".to_owned(),
        ] {
            let words = std::iter::once("whimbrel").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "accepted {line}");
        }
    }
}

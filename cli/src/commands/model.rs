//! `whimbrel model`: published models.

use crate::{
    client::Connection,
    error::Failure,
    output::{Output, bytes, table},
    publish::{self, Published},
    repository::{Given, Key, Repository, TARGETS},
};
use clap::Subcommand;
use semver::Version;
use std::path::PathBuf;
use whimbrel_wire::{ModelName, api::ModelView};

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Sign a bundle where it is not signed yet, and bring it to the server
    #[command(after_help = "\
Example:
  whimbrel model publish digits.wbundle --repo repo --targets-key release.key

Only chunks that the server lacks are uploaded, and a publication that was cut off goes on where it stopped. The
metadata is put into the file, so that a device without a network can verify it.")]
    Publish {
        /// The .wbundle file
        file: PathBuf,
        /// The folder of signed metadata
        #[arg(long, value_name = "DIR")]
        repo: PathBuf,
        /// The role that names it: targets, or a role that it delegates to
        #[arg(long, default_value = TARGETS)]
        role: String,
        /// Key file of a release key; may repeat. Not needed for a bundle that is signed already
        #[arg(long = "targets-key", value_name = "FILE")]
        targets_keys: Vec<PathBuf>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Sign that no device may install a version below this one, and bring that to the server
    #[command(after_help = "\
Example:
  whimbrel model floor digits 1.2.0 --repo repo --targets-key release.key

Devices remember the highest floor that they have seen; only `whimbrel repo downgrade` lowers it.")]
    Floor {
        /// The model
        name: ModelName,
        /// The lowest version that may be installed
        version: Version,
        /// The folder of signed metadata
        #[arg(long, value_name = "DIR")]
        repo: PathBuf,
        /// Key file of a release key; may repeat
        #[arg(long = "targets-key", value_name = "FILE", required = true)]
        targets_keys: Vec<PathBuf>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Every published version
    List {
        #[command(flatten)]
        connection: Connection,
    },
}

pub(crate) async fn run(command: ModelCommand, output: Output) -> Result<(), Failure> {
    match command {
        ModelCommand::Publish { file, repo, role, targets_keys, connection } => {
            let repository = Repository::open(&repo)?;
            let client = connection.client()?;
            let packed = publish::read_bundle(&file)?;
            let keys = read_keys(&targets_keys)?;
            let now = time::OffsetDateTime::now_utc();
            drop(repository.sign_bundle(&role, &packed, Given::new(&refs(&keys), now))?);
            let published = publish::publish(&client, &repository, &role, &packed, output).await?;
            publish::embed(&file, &packed, &repository)?;
            output.emit(&published, show)
        }
        ModelCommand::Floor { name, version, repo, targets_keys, connection } => {
            let repository = Repository::open(&repo)?;
            let client = connection.client()?;
            let keys = read_keys(&targets_keys)?;
            let now = time::OffsetDateTime::now_utc();
            let view = repository.set_floor(&name, &version, Given::new(&refs(&keys), now))?;
            if !view.complete {
                let why = format!("version {} of targets, which says so, waits for signatures", view.version);
                return Err(Failure::refused(format!("publishing the floor of {name}"), why)
                    .hint("add one with `whimbrel repo sign targets`, then run `whimbrel repo push`"));
            }
            publish::push_targets(&client, &repository).await?;
            publish::pull(&client, &repository).await?;
            let floor = serde_json::json!({ "model": name, "floor": version });
            output.emit(&floor, |_| format!("no device will install {name} below {version}"))
        }
        ModelCommand::List { connection } => {
            let models = connection.client()?.models().await?;
            output.emit(&serde_json::json!({ "models": models }), |_| list(&models))
        }
    }
}

/// Reads key files.
pub(crate) fn read_keys(files: &[PathBuf]) -> Result<Vec<Key>, Failure> {
    files.iter().map(|file| Key::read(file)).collect()
}

pub(crate) fn refs(keys: &[Key]) -> Vec<&Key> {
    keys.iter().collect()
}

fn show(published: &Published) -> String {
    format!(
        "published {} {}\nuploaded  {} of {} chunks ({})\ntargets   version {}",
        published.model,
        published.version,
        published.uploaded_chunks,
        published.chunks,
        bytes(published.uploaded_bytes),
        published.targets_version,
    )
}

fn list(models: &[ModelView]) -> String {
    let rows: Vec<Vec<String>> = models
        .iter()
        .map(|m| {
            vec![
                m.name.to_string(),
                m.version.to_string(),
                bytes(m.size_bytes),
                m.devices_active.to_string(),
                m.bundle.to_string().chars().take(12).collect(),
                m.description.clone(),
            ]
        })
        .collect();
    table(&["MODEL", "VERSION", "SIZE", "DEVICES", "BUNDLE", "DESCRIPTION"], &rows)
}

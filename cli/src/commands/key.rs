//! `whimbrel key`: signing keys.

use crate::{error::Failure, output::Output, repository::Key};
use clap::Subcommand;
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make an ed25519 key in a new file that only its owner can read
    #[command(after_help = "\
Example:
  whimbrel key generate --out root-alice.key

Keep root keys offline, each with another person. The public half, for `repo init`, is what
`whimbrel key show FILE --json` prints.")]
    Generate {
        /// The new file (PKCS#8, PEM)
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// The public half of a key: its id and its key object
    #[command(after_help = "\
Example:
  whimbrel key show root-alice.key --json > root-alice.pub")]
    Show {
        /// The key file
        file: PathBuf,
    },
}

/// The public half of a key.
#[derive(Debug, Serialize)]
struct PublicKey {
    id: String,
    key: Value,
}

pub(crate) fn run(command: KeyCommand, output: Output) -> Result<(), Failure> {
    let key = match command {
        KeyCommand::Generate { out } => Key::generate(&out)?,
        KeyCommand::Show { file } => Key::read(&file)?,
    };
    let public = PublicKey { id: key.id()?, key: key.public().to_value() };
    output.emit(&public, |p| format!("id      {}\npublic  {}", p.id, p.key))
}

//! `whimbrel enroll`: one-time tokens for new devices.

use crate::{
    client::{Client, Connection},
    duration,
    error::Failure,
    files,
    output::{Output, moment},
};
use clap::Subcommand;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::{path::PathBuf, time::Duration};
use whimbrel_wire::{
    DeviceId, Digest,
    api::{EnrollToken, NewToken},
};

#[derive(Debug, Subcommand)]
pub(crate) enum EnrollCommand {
    /// Make a one-time token and print it; the device's owner runs `whimbrel-agent enroll` with it
    #[command(after_help = "\
Example:
  whimbrel enroll create --device cam-1 --tag line-3 --ttl 30m --root repo/1.root.json")]
    Create {
        /// The only device id that may use it; any where not given
        #[arg(long, value_name = "ID")]
        device: Option<DeviceId>,
        /// A tag that the device gets; may repeat
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        /// How long it can be used
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration::parse)]
        ttl: Duration,
        /// Root metadata that the device will start its trust from
        #[arg(long, value_name = "FILE")]
        root: PathBuf,
        #[command(flatten)]
        connection: Connection,
    },
}

/// A new token and how long it is good for.
#[derive(Debug, Serialize)]
pub(crate) struct CreatedToken {
    /// The text for `whimbrel-agent enroll --token`.
    pub(crate) token: String,
    /// End of its life, milliseconds since 1970 UTC.
    pub(crate) expires_ms: i64,
}

pub(crate) async fn run(command: EnrollCommand, output: Output) -> Result<(), Failure> {
    let EnrollCommand::Create { device, tags, ttl, root, connection } = command;
    let ttl_s = duration::seconds_u32(ttl).map_err(|e| Failure::usage("reading the duration of --ttl", e))?;
    let root = files::read(&root, files::FILE_BYTES_MAX)?;
    let created = create(&connection.client()?, &NewToken { ttl_s, device, tags }, &root).await?;
    // The token alone on standard output, so that a script can take it as it is.
    output.emit(&created, |c| c.token.clone())?;
    if !output.json {
        eprintln!("valid once, until {}", moment(created.expires_ms));
    }
    Ok(())
}

/// Makes a token that binds the device to the fleet's CA and to `root`, the operator's own copy of `1.root.json`.
///
/// # Errors
/// What the server refuses.
pub(crate) async fn create(client: &Client, new: &NewToken, root: &[u8]) -> Result<CreatedToken, Failure> {
    let created = client.create_token(new).await?;
    let root = Digest::new(Sha256::digest(root).into());
    let token = EnrollToken { secret: created.secret, ca: created.ca, root };
    Ok(CreatedToken { token: token.to_string(), expires_ms: created.expires_ms })
}

//! `whimbrel repo rotate` and `renew`: the next version of what offline keys sign.

use super::{
    Folder, Signing,
    init::{listed_key, listed_keys},
    show,
};
use crate::{
    commands::model::refs,
    error::Failure,
    output::Output,
    repository::{ROOT, RoleView, Rotation},
};
use clap::Args;
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "\
Examples:
  A new root key for an old one:
    whimbrel repo rotate --repo repo --add root=carol.pub --remove root=4f1e
    whimbrel repo sign root --repo repo --key alice.key     (an old one)
    whimbrel repo sign root --repo repo --key carol.key     (the new one)
  Two of the release keys needed from now on:
    whimbrel repo rotate --repo repo --add targets=second.pub --threshold targets=2
  Another online key:
    whimbrel repo rotate --repo repo --online-key online-2.pub

The new root waits in staged/ until enough keys of the old root and of the new one have signed it; `whimbrel repo status`
shows who is missing. Rotating again changes the one that waits.";

#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    folder: Folder,
    /// Add a key, key file or public key, to a role; may repeat
    #[arg(long, value_name = "ROLE=FILE", value_parser = assignment)]
    add: Vec<(String, String)>,
    /// Remove the key whose id begins so from a role; may repeat
    #[arg(long, value_name = "ROLE=ID", value_parser = assignment)]
    remove: Vec<(String, String)>,
    /// How many keys of a role must sign; may repeat
    #[arg(long = "threshold", value_name = "ROLE=N", value_parser = threshold)]
    thresholds: Vec<(String, u64)>,
    /// The key that alone signs snapshot and timestamp from now on
    #[arg(long, value_name = "FILE")]
    online_key: Option<PathBuf>,
    #[command(flatten)]
    signing: Signing,
}

pub(super) fn run(args: &RotateArgs, output: Output) -> Result<(), Failure> {
    let files: Vec<PathBuf> = args.add.iter().map(|(_, file)| file.into()).collect();
    let added = listed_keys(&files)?;
    let rotation = Rotation {
        add: args.add.iter().zip(added).map(|((role, _), key)| (role.clone(), key.public)).collect(),
        remove: args.remove.clone(),
        thresholds: args.thresholds.clone(),
        online: args.online_key.as_deref().map(listed_key).transpose()?.map(|key| key.public),
    };
    let nothing = args.add.is_empty()
        && args.remove.is_empty()
        && args.thresholds.is_empty()
        && args.online_key.is_none();
    if nothing {
        return Err(Failure::usage("rotating the root", "nothing is to change")
            .hint("`whimbrel repo renew root` makes the next version with a new date only"));
    }
    output.emit(&next_root(&args.folder, &rotation, &args.signing)?, show::role)
}

pub(super) fn renew(role: &str, folder: &Folder, signing: &Signing, output: Output) -> Result<(), Failure> {
    let view = match role {
        ROOT => next_root(folder, &Rotation::default(), signing)?,
        _ => {
            let keys = signing.keys()?;
            folder.open()?.renew_targets(role, signing.given(&refs(&keys)))?
        }
    };
    output.emit(&view, show::role)
}

fn next_root(folder: &Folder, rotation: &Rotation, signing: &Signing) -> Result<RoleView, Failure> {
    let keys = signing.keys()?;
    folder.open()?.rotate(rotation, signing.given(&refs(&keys)))
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((role, value)) if !role.is_empty() && !value.is_empty() => {
            Ok((role.to_owned(), value.to_owned()))
        }
        _ => Err("expected ROLE=VALUE".to_owned()),
    }
}

fn threshold(text: &str) -> Result<(String, u64), String> {
    let (role, number) = assignment(text)?;
    Ok((role, number.parse().map_err(|e| format!("threshold {number:?}: {e}"))?))
}

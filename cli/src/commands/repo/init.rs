//! `whimbrel repo init`: the first root of trust.

use super::show;
use crate::{
    client::{Client, Connection},
    error::Failure,
    files,
    output::Output,
    repository::{Key, ROOT, Repository, RootPlan, public_key},
};
use clap::Args;
use std::path::{Path, PathBuf};
use whimbrel_updater::{repo::RoleSpec, tuf};

pub(super) const EXAMPLES: &str = "\
Examples:
  All keys at hand, the online key from the server:
    whimbrel repo init --repo repo --root-key root.key --targets-key release.key

  Two root keys, both needed, the second with another person (her `key show --json` output):
    whimbrel repo init --repo repo --root-key a.key --root-key b.pub --threshold 2 --targets-key release.key
    whimbrel repo sign root --repo repo --key b.key        (on her machine, with the folder)

  Without a fleet server, to be served by any web server:
    whimbrel repo init --repo repo --root-key root.key --targets-key release.key --online-key online.key

The server's online key is asked for with --server, or read from --online-key. A public key is a TUF key object in
JSON, what `whimbrel key show --json` prints, or PEM (ed25519, ECDSA P-256, RSA).";

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The folder, made where it is absent
    #[arg(long, value_name = "DIR")]
    repo: PathBuf,
    /// A root key: its key file, which then signs, or a public key; may repeat
    #[arg(long = "root-key", value_name = "FILE", required = true)]
    root_keys: Vec<PathBuf>,
    /// How many root keys must sign a root
    #[arg(long, value_name = "N", default_value_t = 1)]
    threshold: u64,
    /// A key that signs releases: its key file or a public key; may repeat
    #[arg(long = "targets-key", value_name = "FILE", required = true)]
    targets_keys: Vec<PathBuf>,
    /// How many of those must sign a release
    #[arg(long, value_name = "N", default_value_t = 1)]
    targets_threshold: u64,
    /// The key for snapshot and timestamp, key file or public key; the server's is asked for with --server where not given
    #[arg(long, value_name = "FILE")]
    online_key: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(args: InitArgs, output: Output) -> Result<(), Failure> {
    let online = match &args.online_key {
        Some(file) => listed_key(file)?.public,
        None if args.connection.is_given() => online_key(&args.connection.client()?).await?,
        None => {
            return Err(Failure::usage("making the root of trust", "the online key is not known").hint(
                "give --online-key FILE, or --server, --token-file and --ca to ask a server for its own",
            ));
        }
    };
    let root = listed_keys(&args.root_keys)?;
    let plan = RootPlan {
        root: RoleSpec { keys: publics(&root), threshold: args.threshold },
        targets: RoleSpec {
            keys: publics(&listed_keys(&args.targets_keys)?),
            threshold: args.targets_threshold,
        },
        online,
    };
    let signers: Vec<&Key> = root.iter().filter_map(|k| k.signer.as_ref()).collect();
    let repository = Repository::init(&args.repo, &plan, &signers, time::OffsetDateTime::now_utc())?;
    output.emit(&repository.role_view(ROOT)?, show::role)
}

/// The server's key for snapshot and timestamp.
///
/// # Errors
/// When the server cannot be asked, or its answer is no key.
pub(crate) async fn online_key(client: &Client) -> Result<tuf::Key, Failure> {
    let value = client.repository().await?.online_key;
    tuf::Key::from_value(&value).map_err(|e| Failure::failed("reading the server's online key", e))
}

/// A key by its public half, and the private one where this machine has it.
pub(super) struct ListedKey {
    pub(super) public: tuf::Key,
    signer: Option<Key>,
}

/// Reads a file with either half of a key.
pub(super) fn listed_key(file: &Path) -> Result<ListedKey, Failure> {
    let bytes = files::read(file, files::FILE_BYTES_MAX)?;
    // A private key is PEM too; what it says of itself decides which error is told.
    let is_private = bytes.windows(11).any(|part| part == b"PRIVATE KEY");
    if is_private {
        return Key::read(file).map(|key| ListedKey { public: key.public(), signer: Some(key) });
    }
    let public = public_key(&bytes)
        .map_err(|e| Failure::usage(format!("reading the public key {}", file.display()), e))?;
    Ok(ListedKey { public, signer: None })
}

pub(super) fn listed_keys(files: &[PathBuf]) -> Result<Vec<ListedKey>, Failure> {
    files.iter().map(|file| listed_key(file)).collect()
}

pub(super) fn publics(keys: &[ListedKey]) -> Vec<tuf::Key> {
    keys.iter().map(|key| key.public.clone()).collect()
}

//! `whimbrel repo`: the folder of signed metadata.

use crate::{
    client::{Client, Connection},
    error::Failure,
    files,
    output::Output,
    publish,
    repository::{Key, Repository, RootPlan, RootView, public_key},
};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use whimbrel_updater::tuf;

#[derive(Debug, Subcommand)]
pub(crate) enum RepoCommand {
    /// Make and sign the first root of trust
    #[command(after_help = "\
Examples:
  All keys at hand, the online key from the server:
    whimbrel repo init --repo repo --root-key root.key --targets-key release.key

  Two root keys, both needed, the second with another person (her `key show --json` output):
    whimbrel repo init --repo repo --root-key a.key --root-key b.pub --threshold 2 --targets-key release.key
    whimbrel repo sign-root --repo repo --root-key b.key        (on her machine, with the folder)

The server's online key is asked for with --server, or read from --online-key, the file with its key object.")]
    Init(InitArgs),
    /// Add a signature to the newest root
    SignRoot {
        /// The folder
        #[arg(long, value_name = "DIR")]
        repo: PathBuf,
        /// Key file of a root key; may repeat
        #[arg(long = "root-key", value_name = "FILE", required = true)]
        root_keys: Vec<PathBuf>,
    },
    /// Bring the folder's roots to the server; those that it has are skipped
    PushRoot {
        /// The folder
        #[arg(long, value_name = "DIR")]
        repo: PathBuf,
        #[command(flatten)]
        connection: Connection,
    },
    /// Bring the server's newer metadata into the folder, after checking it against the folder's root
    Pull {
        /// The folder
        #[arg(long, value_name = "DIR")]
        repo: PathBuf,
        #[command(flatten)]
        connection: Connection,
    },
}

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
    /// The server's online public key; asked for with --server where not given
    #[arg(long, value_name = "FILE")]
    online_key: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(command: RepoCommand, output: Output) -> Result<(), Failure> {
    match command {
        RepoCommand::Init(args) => init(args, output).await,
        RepoCommand::SignRoot { repo, root_keys } => {
            let repository = Repository::open(&repo)?;
            for file in &root_keys {
                repository.sign_root(&Key::read(file)?)?;
            }
            output.emit(&repository.root_view()?, show)
        }
        RepoCommand::PushRoot { repo, connection } => {
            let repository = Repository::open(&repo)?;
            let pushed = publish::push_roots(&connection.client()?, &repository).await?;
            output.emit(&serde_json::json!({ "pushed": pushed }), |_| match pushed {
                0 => "the server has every root of this folder".to_owned(),
                n => format!("pushed {n} root(s)"),
            })
        }
        RepoCommand::Pull { repo, connection } => {
            let repository = Repository::open(&repo)?;
            let files = publish::pull(&connection.client()?, &repository).await?;
            output.emit(&serde_json::json!({ "files": files }), |_| match files.len() {
                0 => "the folder has everything".to_owned(),
                _ => files.join("\n"),
            })
        }
    }
}

async fn init(args: InitArgs, output: Output) -> Result<(), Failure> {
    let online = match &args.online_key {
        Some(file) => public_key(&files::read(file, files::FILE_BYTES_MAX)?)
            .map_err(|e| Failure::usage(format!("reading {}", file.display()), e))?,
        None if args.connection.is_given() => online_key(&args.connection.client()?).await?,
        None => {
            return Err(Failure::usage("making the root of trust", "the server's online key is not known")
                .hint("give --online-key FILE, or --server, --token-file and --ca to ask for it"));
        }
    };
    let root = keys(&args.root_keys)?;
    let targets = keys(&args.targets_keys)?;
    let plan = RootPlan {
        root: root.iter().map(|k| k.public.clone()).collect(),
        threshold: args.threshold,
        targets: targets.into_iter().map(|k| k.public).collect(),
        online,
    };
    let signers: Vec<&Key> = root.iter().filter_map(|k| k.signer.as_ref()).collect();
    let repository = Repository::init(&args.repo, &plan, &signers, time::OffsetDateTime::now_utc())?;
    output.emit(&repository.root_view()?, show)
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
struct ListedKey {
    public: tuf::Key,
    signer: Option<Key>,
}

fn keys(files: &[PathBuf]) -> Result<Vec<ListedKey>, Failure> {
    let read = |file: &PathBuf| {
        let bytes = files::read(file, files::FILE_BYTES_MAX)?;
        if let Ok(public) = public_key(&bytes) {
            return Ok(ListedKey { public, signer: None });
        }
        Key::read(file).map(|key| ListedKey { public: key.public(), signer: Some(key) })
    };
    files.iter().map(read).collect()
}

fn show(root: &RootView) -> String {
    let state = match root.threshold.saturating_sub(root.signatures) {
        0 => "complete; bring it to the server with `whimbrel repo push-root`".to_owned(),
        n => format!("{n} more needed; add with `whimbrel repo sign-root`"),
    };
    format!(
        "root     {}\nexpires  {}\nsigned   by {} of {} keys, {} needed: {state}\nsha256   {}",
        root.file, root.expires, root.signatures, root.keys, root.threshold, root.sha256
    )
}

//! `whimbrel repo`: the folder of signed metadata.

mod change;
mod init;
mod rotate;
mod show;

pub(crate) use init::online_key;

use super::model::{read_keys, refs};
use crate::{
    client::Connection,
    error::Failure,
    output::Output,
    publish,
    repository::{Given, Key, Repository},
};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use time::{Duration, OffsetDateTime};

#[derive(Debug, Subcommand)]
pub(crate) enum RepoCommand {
    /// Make and sign the first root of trust
    #[command(after_help = init::EXAMPLES)]
    Init(init::InitArgs),
    /// Make a bundle, or any file, a target: keep its bytes in the folder and sign its name, length and hash
    #[command(after_help = "\
Examples:
  whimbrel repo add digits.wbundle --repo repo --key release.key
  whimbrel repo add --file notes.txt --name docs/notes.txt --repo repo --role docs --key docs.key

Without --key the change waits for `whimbrel repo sign`; more changes can join it meanwhile.")]
    Add(change::AddArgs),
    /// Sign that a target is none any more
    Remove(change::RemoveArgs),
    /// Add a signature to metadata that waits for it; any role, one key at a time, no network
    #[command(after_help = "\
Examples:
  whimbrel repo sign targets --repo repo --key release.key
  whimbrel repo sign root --repo repo --key root-2.key        (on her machine, with the folder)

Metadata moves from staged/ to its place as soon as enough keys have signed it.")]
    Sign {
        /// The role
        role: String,
        #[command(flatten)]
        folder: Folder,
        /// Key file; may repeat
        #[arg(long = "key", value_name = "FILE", required = true)]
        keys: Vec<PathBuf>,
    },
    /// Throw away metadata that waits for signatures
    Discard {
        /// The role
        role: String,
        #[command(flatten)]
        folder: Folder,
    },
    /// Make the next version of a role's metadata with a new date and nothing else changed
    #[command(after_help = "\
Example:
  whimbrel repo renew targets --repo repo --key release.key")]
    Renew {
        /// The role: root, targets or a delegated one
        role: String,
        #[command(flatten)]
        folder: Folder,
        #[command(flatten)]
        signing: Signing,
    },
    /// Make the next root, with other keys or thresholds
    #[command(after_help = rotate::EXAMPLES)]
    Rotate(rotate::RotateArgs),
    /// Let another role, with its own keys, name some of the targets
    #[command(after_help = "\
Examples:
  A team that may release everything below vision/, two of its three keys needed:
    whimbrel repo delegate vision --repo repo --path 'vision/*' \\
        --role-key ann.pub --role-key bob.pub --role-key eve.pub --threshold 2 --key release.key
  One of two bins, by the SHA-256 of the target's name:
    whimbrel repo delegate bin-0 --repo repo --hash-prefix 0 --hash-prefix 1 … --role-key bin.pub --key release.key

The role's first, empty metadata is made with it and waits for its keys: `whimbrel repo sign vision --key ann.key`.
A delegation of the same name is replaced in its place. With a new set of keys, `whimbrel repo renew` lets them sign.")]
    Delegate(change::DelegateArgs),
    /// End a delegation
    Undelegate(change::UndelegateArgs),
    /// Sign that no device may install a version of a model below this one
    #[command(after_help = "\
Example:
  whimbrel repo floor digits 1.2.0 --repo repo --key release.key

A floor is only lowered by `whimbrel repo downgrade`. `whimbrel model floor` does the same and brings it to the server.")]
    Floor(change::FloorArgs),
    /// Sign that devices may go back below a model's floor, down to this version
    #[command(after_help = "\
Example:
  whimbrel repo downgrade digits 1.0.0 --repo repo --key release.key

Such statements are numbered: a device follows each once, so that an old one never takes it back again.")]
    Downgrade(change::FloorArgs),
    /// Sign a snapshot of the newest metadata, where no fleet server does it
    #[command(after_help = "\
Example:
  whimbrel repo snapshot --repo repo --key online.key && whimbrel repo timestamp --repo repo --key online.key")]
    Snapshot {
        #[command(flatten)]
        folder: Folder,
        #[command(flatten)]
        signing: Signing,
    },
    /// Sign a timestamp of the newest snapshot, where no fleet server does it; run it again before it expires
    #[command(after_help = "\
Example, every night from cron:
  whimbrel repo timestamp --repo /srv/models --key online.key --days 2")]
    Timestamp {
        #[command(flatten)]
        folder: Folder,
        #[command(flatten)]
        signing: Signing,
    },
    /// Versions, expiry and signatures of every role, and what to do next
    Status {
        #[command(flatten)]
        folder: Folder,
    },
    /// Bring everything in the folder that has all its signatures to the server; what that has is skipped
    Push {
        #[command(flatten)]
        folder: Folder,
        #[command(flatten)]
        connection: Connection,
    },
    /// Bring the server's newer metadata into the folder, after checking it against the folder's root
    Pull {
        #[command(flatten)]
        folder: Folder,
        #[command(flatten)]
        connection: Connection,
    },
}

/// Which folder.
#[derive(Debug, Args)]
pub(crate) struct Folder {
    /// The folder of signed metadata
    #[arg(long, value_name = "DIR")]
    repo: PathBuf,
}

impl Folder {
    fn open(&self) -> Result<Repository, Failure> {
        Repository::open(&self.repo)
    }
}

/// Who signs now, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Signing {
    /// Key file that signs now; may repeat
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// Days that the new metadata is good for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    days: Option<u16>,
}

impl Signing {
    fn keys(&self) -> Result<Vec<Key>, Failure> {
        read_keys(&self.keys)
    }

    fn given<'a>(&self, keys: &'a [&'a Key]) -> Given<'a> {
        let life = self.days.map(|days| Duration::days(i64::from(days)));
        Given { life, ..Given::new(keys, OffsetDateTime::now_utc()) }
    }
}

pub(crate) async fn run(command: RepoCommand, output: Output) -> Result<(), Failure> {
    match command {
        RepoCommand::Init(args) => init::run(args, output).await,
        RepoCommand::Add(args) => change::add(&args, output),
        RepoCommand::Remove(args) => change::remove(&args, output),
        RepoCommand::Sign { role, folder, keys } => {
            let repository = folder.open()?;
            let mut signed = None;
            for key in &read_keys(&keys)? {
                // A key that is not needed any more is no mistake; nothing to sign at all is one.
                if signed.is_none() || repository.staged(&role)?.is_some() {
                    signed = Some(repository.sign(&role, key)?);
                }
            }
            signed.map_or(Ok(()), |view| output.emit(&view, show::role))
        }
        RepoCommand::Discard { role, folder } => {
            let version = folder.open()?.discard(&role)?;
            let discarded = serde_json::json!({ "role": role, "version": version });
            output.emit(&discarded, |_| format!("version {version} of {role} is not waiting any more"))
        }
        RepoCommand::Renew { role, folder, signing } => rotate::renew(&role, &folder, &signing, output),
        RepoCommand::Rotate(args) => rotate::run(&args, output),
        RepoCommand::Delegate(args) => change::delegate(&args, output),
        RepoCommand::Undelegate(args) => change::undelegate(&args, output),
        RepoCommand::Floor(args) => change::floor(&args, output),
        RepoCommand::Downgrade(args) => change::downgrade(&args, output),
        RepoCommand::Snapshot { folder, signing } => {
            let keys = signing.keys()?;
            let version = folder.open()?.sign_snapshot(signing.given(&refs(&keys)))?;
            let signed = serde_json::json!({ "role": "snapshot", "version": version });
            output.emit(&signed, |_| {
                format!("snapshot {version} is signed; clients see it with the next timestamp")
            })
        }
        RepoCommand::Timestamp { folder, signing } => {
            let keys = signing.keys()?;
            let version = folder.open()?.sign_timestamp(signing.given(&refs(&keys)))?;
            let signed = serde_json::json!({ "role": "timestamp", "version": version });
            output.emit(&signed, |_| format!("timestamp {version} is signed"))
        }
        RepoCommand::Status { folder } => {
            output.emit(&folder.open()?.status(OffsetDateTime::now_utc())?, show::status)
        }
        RepoCommand::Push { folder, connection } => {
            let repository = folder.open()?;
            let pushed = publish::push(&connection.client()?, &repository, output).await?;
            output.emit(&pushed, |p| match p.files.len() {
                0 => "the server has everything of this folder".to_owned(),
                _ => format!(
                    "pushed {}\nchunks {}\npulled {}",
                    p.files.join(", "),
                    p.chunks,
                    p.pulled.join(", ")
                ),
            })
        }
        RepoCommand::Pull { folder, connection } => {
            let repository = folder.open()?;
            let files = publish::pull(&connection.client()?, &repository).await?;
            output.emit(&serde_json::json!({ "files": files }), |_| match files.len() {
                0 => "the folder has everything".to_owned(),
                _ => files.join("\n"),
            })
        }
    }
}

//! `whimbrel bundle`: a model with everything that belongs to it, in one file.

use super::model::{read_keys, refs};
use crate::{
    error::Failure,
    files,
    output::{Output, bytes, table},
    publish::{embed, read_bundle, write_bundle},
    repository::{Given, Repository, TARGETS, tuf_failure},
};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};
use time::OffsetDateTime;
use whimbrel_updater::{
    bundle::{self, PackError, Packed, VerifyError},
    tuf::TufError,
};
use whimbrel_wire::{Digest, ModelName, manifest::Manifest};

mod offline;

#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Pack a folder with bundle.toml into a .wbundle file
    #[command(after_help = "Example:\n  whimbrel bundle pack examples/digits/v1 -o digits-1.wbundle")]
    Pack {
        /// The folder
        dir: PathBuf,
        /// The new file
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
    },
    /// What is in a bundle: manifest, files, chunks, metadata
    Inspect {
        /// The .wbundle file
        file: PathBuf,
    },
    /// Check a bundle as a device without a network would, with the metadata inside it
    #[command(after_help = "\
Examples:
  whimbrel bundle verify digits.wbundle --root repo/1.root.json
  whimbrel bundle verify digits.wbundle --trust /var/lib/whimbrel/trust

With --trust it is checked against what that device has seen before, which is not changed. Exit 4 when it is refused.")]
    Verify(VerifyArgs),
    /// Sign that devices may install a bundle, and put the metadata into its file
    #[command(after_help = "\
Example:
  whimbrel bundle sign digits.wbundle --repo repo --targets-key release.key

Works offline. `whimbrel model publish` does the same and brings it to the server.")]
    Sign {
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
    },
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The .wbundle file
    file: PathBuf,
    #[command(flatten)]
    against: Against,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Against {
    /// Root metadata to begin the trust from
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// A device's trust folder
    #[arg(long, value_name = "DIR")]
    trust: Option<PathBuf>,
}

/// What `bundle inspect` tells.
#[derive(Debug, Serialize)]
struct Contents<'a> {
    sha256: Digest,
    target: String,
    size_bytes: u64,
    stored_bytes: u64,
    chunks: usize,
    files: Vec<FileLine>,
    metadata: Vec<&'a str>,
    manifest: &'a Manifest,
}

#[derive(Debug, Serialize)]
struct FileLine {
    path: String,
    size_bytes: u64,
    chunks: usize,
    sha256: Digest,
}

/// What `bundle verify` found.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    model: ModelName,
    version: semver::Version,
    sha256: Digest,
    root_version: u64,
    targets_version: u64,
}

pub(crate) async fn run(command: BundleCommand, output: Output) -> Result<(), Failure> {
    match command {
        BundleCommand::Pack { dir, out } => {
            let packed = bundle::pack(&dir).map_err(|e| pack_failure(&dir, &e))?;
            write_bundle(&out, &packed)?;
            output.emit(&contents(&packed), summary)
        }
        BundleCommand::Inspect { file } => output.emit(&contents(&read_bundle(&file)?), describe),
        BundleCommand::Verify(args) => output.emit(&verify(&args, OffsetDateTime::now_utc()).await?, |v| {
            format!(
                "{} {} may be installed: root {}, targets {}\nsha256 {}",
                v.model, v.version, v.root_version, v.targets_version, v.sha256
            )
        }),
        BundleCommand::Sign { file, repo, role, targets_keys } => {
            let repository = Repository::open(&repo)?;
            let packed = read_bundle(&file)?;
            let keys = read_keys(&targets_keys)?;
            let given = refs(&keys);
            let given = Given::new(&given, OffsetDateTime::now_utc());
            let view = repository.sign_bundle(&role, &packed, given)?;
            embed(&file, &packed, &repository)?;
            let (path, version) = (packed.target_path(), view.version);
            let signed = serde_json::json!({
                "target": path, "role": role, "targets_version": version, "complete": view.complete,
            });
            output.emit(&signed, |_| match view.complete {
                true => format!("{path} is signed in version {version} of {role}"),
                false => format!("{path} is in version {version} of {role}, which waits for more signatures"),
            })
        }
    }
}

/// The failure that a folder which cannot be packed stands for.
pub(crate) fn pack_failure(dir: &Path, e: &PackError) -> Failure {
    Failure::usage(format!("packing {}", dir.display()), e)
}

async fn verify(args: &VerifyArgs, now: OffsetDateTime) -> Result<Verdict, Failure> {
    let attempted = format!("verifying {}", args.file.display());
    let file = File::open(&args.file).map_err(|e| Failure::usage(attempted.as_str(), e))?;
    // A device would refuse what cannot be read as a bundle just as it refuses what nobody signed.
    let packed = Packed::read(BufReader::new(file)).map_err(|e| Failure::refused(attempted.as_str(), e))?;
    let verified = match (&args.against.root, &args.against.trust) {
        (Some(root), _) => packed.verify(&files::read(root, files::FILE_BYTES_MAX)?, now),
        (None, Some(trust)) => offline::verify(&packed, trust, now).await,
        (None, None) => return Err(Failure::usage(attempted, "neither --root nor --trust was given")),
    };
    let verified = verified.map_err(|e| refusal(&attempted, &e))?;
    let manifest = &packed.index().manifest;
    Ok(Verdict {
        model: manifest.name.clone(),
        version: manifest.version.clone(),
        sha256: packed.digest(),
        root_version: verified.root_version,
        targets_version: verified.targets_version,
    })
}

fn refusal(attempted: &str, e: &VerifyError) -> Failure {
    match e {
        VerifyError::Tuf(TufError::Absent { file }) => {
            Failure::refused(attempted, format!("{file} is not in it, so nobody vouches for it"))
                .hint("`whimbrel model publish` puts all metadata into the file")
        }
        // Metadata from the bundle that cannot be read vouches for nothing either.
        VerifyError::Tuf(e @ (TufError::TooLarge { .. } | TufError::Malformed { .. } | TufError::Key(_))) => {
            Failure::refused(attempted, e)
        }
        VerifyError::Tuf(e) => tuf_failure(attempted, e),
        VerifyError::Chunk(_) | VerifyError::Content(_) | VerifyError::NotATarget(_) => {
            Failure::refused(attempted, e)
        }
    }
}

fn contents(packed: &Packed) -> Contents<'_> {
    let index = packed.index();
    Contents {
        sha256: packed.digest(),
        target: packed.target_path(),
        size_bytes: index.size_bytes(),
        stored_bytes: packed.chunks().values().map(|c| c.len() as u64).sum(),
        chunks: packed.chunks().len(),
        files: index
            .files
            .iter()
            .map(|f| FileLine {
                path: f.path.clone(),
                size_bytes: f.size_bytes,
                chunks: f.chunks.len(),
                sha256: f.sha256,
            })
            .collect(),
        metadata: packed.metadata.keys().map(String::as_str).collect(),
        manifest: &index.manifest,
    }
}

fn summary(c: &Contents<'_>) -> String {
    format!(
        "{} {}\n{} in {} files, {} stored in {} chunks\nsha256 {}",
        c.manifest.name,
        c.manifest.version,
        bytes(c.size_bytes),
        c.files.len(),
        bytes(c.stored_bytes),
        c.chunks,
        c.sha256
    )
}

fn describe(c: &Contents<'_>) -> String {
    let rows: Vec<Vec<String>> = c
        .files
        .iter()
        .map(|f| vec![f.path.clone(), bytes(f.size_bytes), f.chunks.to_string(), f.sha256.to_string()])
        .collect();
    let m = c.manifest;
    let tensors = |specs: &[whimbrel_wire::manifest::TensorSpec]| {
        specs
            .iter()
            .map(|t| format!("{} {:?} {:?}", t.name, t.datatype, t.shape))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let lineage: String = m.lineage.iter().map(|(key, text)| format!("  {key}: {text}\n")).collect();
    format!(
        "{}\n{}\nlicence   {}\ninputs    {}\noutputs   {}\ngolden    {} vectors, tolerance {}\n\
         probation {} requests or {} s, at most {} of them failed\nmetadata  {}\n\n{}\nlineage\n{lineage}",
        summary(c),
        m.description,
        m.licence,
        tensors(&m.inputs),
        tensors(&m.outputs),
        m.golden.count,
        m.golden.tolerance,
        m.probation.requests,
        m.probation.seconds,
        m.probation.error_rate_max,
        if c.metadata.is_empty() { "none".to_owned() } else { c.metadata.join(", ") },
        table(&["FILE", "SIZE", "CHUNKS", "SHA256"], &rows),
    )
}

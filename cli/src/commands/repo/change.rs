//! `whimbrel repo add`, `remove`, `floor`, `downgrade`, `delegate`, `undelegate`: changes to targets roles.

use super::{
    Folder, Signing,
    init::{listed_keys, publics},
    show,
};
use crate::{
    commands::model::refs, error::Failure, output::Output, publish::read_bundle, repository::RoleView,
};
use clap::Args;
use semver::Version;
use std::path::PathBuf;
use whimbrel_updater::{
    repo::{Delegation, RoleSpec},
    tuf::Scope,
};
use whimbrel_wire::ModelName;

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The .wbundle file
    #[arg(required_unless_present = "file", conflicts_with_all = ["file", "name"])]
    bundle: Option<PathBuf>,
    /// Any other file
    #[arg(long, value_name = "FILE", requires = "name")]
    file: Option<PathBuf>,
    /// The file's name as a target, e.g. docs/notes.txt
    #[arg(long, value_name = "TARGET", requires = "file")]
    name: Option<String>,
    /// The role that names it
    #[arg(long, default_value = "targets")]
    role: String,
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    signing: Signing,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The target's name, e.g. digits/1.0.0.wbi
    target: String,
    /// The role that names it
    #[arg(long, default_value = "targets")]
    role: String,
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    signing: Signing,
}

#[derive(Debug, Args)]
pub(crate) struct FloorArgs {
    /// The model
    model: ModelName,
    /// The lowest version that may be installed
    version: Version,
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    signing: Signing,
}

#[derive(Debug, Args)]
pub(crate) struct DelegateArgs {
    /// The new role's name
    role: String,
    /// The role that delegates
    #[arg(long, value_name = "ROLE", default_value = "targets")]
    from: String,
    /// A key of the new role, key file or public key; may repeat
    #[arg(long = "role-key", value_name = "FILE", required = true)]
    role_keys: Vec<PathBuf>,
    /// How many of them must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    threshold: u64,
    /// Targets that it may name: a pattern, where * and ? stand for anything but /; may repeat
    #[arg(
        long = "path",
        value_name = "PATTERN",
        required_unless_present = "prefixes",
        conflicts_with = "prefixes"
    )]
    paths: Vec<String>,
    /// Targets that it may name: how the SHA-256 of their name begins; may repeat
    #[arg(long = "hash-prefix", id = "prefixes", value_name = "HEX")]
    prefixes: Vec<String>,
    /// End the search for such targets with this role
    #[arg(long)]
    terminating: bool,
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    signing: Signing,
}

#[derive(Debug, Args)]
pub(crate) struct UndelegateArgs {
    /// The role
    role: String,
    /// The role that delegates to it
    #[arg(long, value_name = "ROLE", default_value = "targets")]
    from: String,
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    signing: Signing,
}

pub(super) fn add(args: &AddArgs, output: Output) -> Result<(), Failure> {
    let repository = args.folder.open()?;
    let keys = args.signing.keys()?;
    let keys = refs(&keys);
    let given = args.signing.given(&keys);
    let view = match (&args.bundle, &args.file, &args.name) {
        (Some(bundle), _, _) => {
            let packed = read_bundle(bundle)?;
            repository.keep_bundle(&packed)?;
            repository.sign_bundle(&args.role, &packed, given)?
        }
        (None, Some(file), Some(name)) => {
            let kept = repository.keep_file(file, name)?;
            repository.sign_file(&args.role, kept, given)?
        }
        _ => {
            return Err(Failure::usage(
                "adding a target",
                "neither a bundle nor --file and --name were given",
            ));
        }
    };
    output.emit(&view, show::role)
}

pub(super) fn remove(args: &RemoveArgs, output: Output) -> Result<(), Failure> {
    let keys = args.signing.keys()?;
    let view =
        args.folder.open()?.remove_target(&args.role, &args.target, args.signing.given(&refs(&keys)))?;
    output.emit(&view, show::role)
}

pub(super) fn floor(args: &FloorArgs, output: Output) -> Result<(), Failure> {
    let keys = args.signing.keys()?;
    let given = refs(&keys);
    let view = args.folder.open()?.set_floor(&args.model, &args.version, args.signing.given(&given))?;
    output.emit(&view, show::role)
}

pub(super) fn downgrade(args: &FloorArgs, output: Output) -> Result<(), Failure> {
    #[derive(serde::Serialize)]
    struct Stated {
        number: u64,
        role: RoleView,
    }
    let keys = args.signing.keys()?;
    let given = refs(&keys);
    let (number, role) =
        args.folder.open()?.lower_floor(&args.model, &args.version, args.signing.given(&given))?;
    output.emit(&Stated { number, role }, |stated| {
        let (model, version) = (&args.model, &args.version);
        format!("statement {number}: {model} may go down to {version}\n{}", show::role(&stated.role))
    })
}

pub(super) fn delegate(args: &DelegateArgs, output: Output) -> Result<(), Failure> {
    let signers = RoleSpec { keys: publics(&listed_keys(&args.role_keys)?), threshold: args.threshold };
    let scope = if args.prefixes.is_empty() {
        Scope::Paths(args.paths.clone())
    } else {
        Scope::HashPrefixes(args.prefixes.clone())
    };
    let delegation = Delegation { name: args.role.clone(), signers, terminating: args.terminating, scope };
    let keys = args.signing.keys()?;
    let views = args.folder.open()?.delegate(&args.from, delegation, args.signing.given(&refs(&keys)))?;
    let text = |views: &Vec<RoleView>| views.iter().map(show::role).collect::<Vec<_>>().join("\n\n");
    output.emit(&views, text)
}

pub(super) fn undelegate(args: &UndelegateArgs, output: Output) -> Result<(), Failure> {
    let keys = args.signing.keys()?;
    let view = args.folder.open()?.undelegate(&args.from, &args.role, args.signing.given(&refs(&keys)))?;
    output.emit(&view, show::role)
}

//! `whimbrel demo`: a fleet server and two devices as real processes on this machine, and everything that can happen to
//! a model in its life, told step by step.
//!
//! | module | holds |
//! |---|---|
//! | [`story`] | the steps, in order |
//! | [`world`] | what runs: server, agents, relays, apps |
//! | [`observe`] | what the story looks for |
//! | [`processes`], [`proxy`] | programs that never outlive the demo; the network that can be cut |
//! | [`samples`], [`traffic`] | held-out images, and the apps that send them |
//! | [`steps`], [`report`] | what is told, and the JSON object at the end |

mod observe;
mod processes;
mod proxy;
mod report;
mod samples;
mod steps;
mod story;
mod traffic;
mod world;

use crate::{error::Failure, output::Output};
use clap::Args;
use report::{Figures, Report};
use std::path::{Path, PathBuf};
use steps::Steps;
use world::{Places, World};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  whimbrel demo                 tell the story, then stay up with traffic flowing until Ctrl-C
  whimbrel demo --once --json   end by itself with one JSON object; exit 0 when everything was shown

It needs the binaries whimbrel-fleet and whimbrel-agent, and the folder examples/digits. It listens on free loopback
ports only and leaves nothing behind.")]
pub(crate) struct DemoArgs {
    /// End after the last step instead of staying up
    #[arg(long)]
    once: bool,
    /// Keep the state of the server and the devices in this folder, which must be empty or new
    #[arg(long, value_name = "DIR")]
    keep_dir: Option<PathBuf>,
    /// Folder with whimbrel-fleet and whimbrel-agent [default: the one of this binary]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Folder with the example `digits` [default: examples, here or above]
    #[arg(long, value_name = "DIR")]
    examples: Option<PathBuf>,
}

/// Tells the story, prints the report and, unless `--once`, stays up.
///
/// # Errors
/// When a step failed, or not everything was shown.
pub(crate) async fn run(args: DemoArgs, output: Output) -> Result<(), Failure> {
    let binaries = args.bin_dir.map_or_else(own_folder, Ok)?;
    let examples = args.examples.map_or_else(find_examples, Ok)?;
    // Declared before all that runs, so that it is removed after all has ended.
    let scratch = Scratch::new(args.keep_dir)?;
    let places = Places::new(scratch.path(), binaries, examples)?;

    let mut steps = Steps::new(output);
    let mut figures = Figures::default();
    let told = tokio::select! {
        told = story::tell(places, &mut steps, &mut figures) => told,
        failure = interrupted() => Err(failure),
    };
    match told {
        Ok(world) => {
            finish(&steps, figures, None, output)?;
            if args.once { Ok(()) } else { stay(world, &steps).await }
        }
        Err(failure) => finish(&steps, figures, Some(failure), output),
    }
}

/// Prints the report; a failure where something is missing from it.
fn finish(steps: &Steps, figures: Figures, failure: Option<Failure>, output: Output) -> Result<(), Failure> {
    let missing = match &failure {
        Some(failure) => vec![failure.to_string()],
        None => figures.missing(),
    };
    let report = Report { ok: missing.is_empty(), missing, steps: steps.done().to_vec(), figures };
    output.emit(&report, Report::text)?;
    match failure {
        Some(failure) => Err(failure),
        None if report.ok => Ok(()),
        None => {
            Err(Failure::failed("showing everything that the demo is to show", report.missing.join("; ")))
        }
    }
}

/// Keeps everything running until Ctrl-C.
async fn stay(mut world: World, steps: &Steps) -> Result<(), Failure> {
    steps.say(&world.how_to_look());
    tokio::select! {
        failure = world.watch() => Err(failure),
        _ = interrupted() => {
            steps.say("ending the server and the agents");
            Ok(())
        }
    }
}

/// Waits for Ctrl-C, or to be asked to end.
async fn interrupted() -> Failure {
    let failure = |why: &str| Failure::failed("running the demo", why);
    let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    let Ok(mut terminate) = terminate else { return failure("signals cannot be received") };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => failure("interrupted"),
        _ = terminate.recv() => failure("asked to end"),
    }
}

/// The folder that the demo's state is in.
enum Scratch {
    Temporary(tempfile::TempDir),
    Kept(PathBuf),
}

impl Scratch {
    fn new(keep: Option<PathBuf>) -> Result<Self, Failure> {
        let Some(dir) = keep else {
            let dir = tempfile::Builder::new().prefix("whimbrel-demo-").tempdir();
            return dir.map(Self::Temporary).map_err(|e| Failure::failed("making a temporary folder", e));
        };
        let attempted = || format!("using the folder {}", dir.display());
        std::fs::create_dir_all(&dir).map_err(|e| Failure::usage(attempted(), e))?;
        let mut entries = std::fs::read_dir(&dir).map_err(|e| Failure::usage(attempted(), e))?;
        if entries.next().is_some() {
            return Err(
                Failure::usage(attempted(), "it is not empty").hint("name a new folder with --keep-dir")
            );
        }
        dir.canonicalize().map(Self::Kept).map_err(|e| Failure::usage(attempted(), e))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Kept(dir) => dir,
        }
    }
}

fn own_folder() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(|e| Failure::failed("finding this program's folder", e))?;
    own.parent()
        .map(Path::to_owned)
        .ok_or_else(|| Failure::failed("finding this program's folder", "it has none"))
}

/// `examples` in the working folder or one above it.
fn find_examples() -> Result<PathBuf, Failure> {
    let attempted = "looking for examples/digits in this folder and those above it";
    let here = std::env::current_dir().map_err(|e| Failure::failed(attempted, e))?;
    here.ancestors()
        .map(|dir| dir.join("examples"))
        .find(|examples| examples.join("digits/heldout.npz").is_file())
        .ok_or_else(|| Failure::usage(attempted, "not there").hint("name the folder with --examples"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_to_keep_must_be_empty() {
        let dir = tempfile::tempdir().expect("temp dir");
        let new = dir.path().join("new");
        assert!(Scratch::new(Some(new.clone())).is_ok());
        std::fs::write(new.join("x"), "").expect("writes");
        assert!(Scratch::new(Some(new)).is_err());
        let temporary = Scratch::new(None).expect("makes one");
        let path = temporary.path().to_owned();
        assert!(path.is_dir());
        drop(temporary);
        assert!(!path.exists());
    }
}

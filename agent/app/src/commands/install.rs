//! `install`: takes a bundle from a file, where there is no network. It goes the way of every update: the metadata in the file against
//! what the device trusts, the signed floor, the self-test. Its probation begins when the agent serves again.

use super::serve::Lock;
use crate::{
    cli::InstallArgs,
    failure::{Failure, chain},
    host::AgentHost,
};
use semver::Version;
use std::sync::Arc;
use tokio::sync::watch;
use whimbrel_serve::Registry;
use whimbrel_updater::{
    bundle::Archive,
    engine::{Engine, EngineConfig},
};
use whimbrel_wire::{
    ModelName,
    desired::{DesiredModel, DesiredState},
    manifest::Manifest,
    report::{ModelReport, Progress, Reason, ReasonKind},
};

/// Runs the command.
///
/// # Errors
/// Another agent has the state folder, the file is no bundle, or the bundle is refused.
pub(crate) async fn run(args: &InstallArgs) -> Result<(), Failure> {
    let attempted = format!("installing {}", args.file.display());
    let config = args.config.load()?.config;
    let state_dir = &config.device.state_dir;
    let _lock = Lock::take(state_dir, true)?;
    if !state_dir.join("trust").exists() {
        return Err(Failure::refused(attempted, "this device trusts nobody yet")
            .hint("enroll it first: `whimbrel-agent enroll`"));
    }
    // What cannot be read as a bundle vouches for nothing either.
    let archive = Archive::open(&args.file).map_err(|e| Failure::refused(attempted.as_str(), e))?;
    let manifest = archive.index().manifest.clone();
    let backend = whimbrel_infer::backend(&config.serve.backend)
        .map_err(|e| Failure::not_supported("choosing the backend", chain(&e)))?;
    let host = AgentHost::new(Arc::new(Registry::default()), None, backend);
    let agent = Version::parse(env!("CARGO_PKG_VERSION"))
        .map_err(|e| Failure::failed("reading the agent's own version", e))?;
    let engine = Engine::open(EngineConfig::new(state_dir, agent), host, archive)
        .await
        .map_err(|e| Failure::failed(attempted.as_str(), chain(&e)))?;
    if let Some((_, error)) = engine.broken().iter().find(|(model, _)| *model == manifest.name) {
        return Err(Failure::failed(attempted, chain(error)));
    }
    match follow(engine, &manifest).await {
        Some(Progress::Active {}) => println!("{} {} serves already", manifest.name, manifest.version),
        Some(Progress::Probation { .. }) => println!(
            "installed: {} {}; its probation begins when the agent serves",
            manifest.name, manifest.version
        ),
        Some(Progress::Rejected { reason } | Progress::RolledBack { reason }) => {
            return Err(refusal(&attempted, &reason));
        }
        _ => return Err(Failure::failed(attempted, "the updater ended before it was decided")),
    }
    Ok(())
}

/// Asks for the version until it is on probation or refused, then stops in order. `None` when the updater ended first.
async fn follow(engine: Engine<AgentHost, Archive>, manifest: &Manifest) -> Option<Progress> {
    let wish = wish(&engine.reports(), manifest);
    let attempt = wish.attempt;
    let (wishes, wished) = watch::channel(Some(DesiredState { serial: 1, models: vec![wish], poll_s: 60 }));
    let (sender, mut reports) = watch::channel(engine.reports());
    let running = tokio::spawn(engine.run(wished, move |models| {
        sender.send_replace(models);
    }));
    let decided = async {
        loop {
            reports.changed().await.ok()?;
            let decided = decided(&reports.borrow_and_update(), manifest, attempt);
            if decided.is_some() {
                return decided;
            }
        }
    };
    let decided = decided.await;
    // An orderly stop: no crash is counted against the candidate.
    drop(wishes);
    if let Err(error) = running.await {
        tracing::error!(%error, "the updater ended badly");
    }
    decided
}

/// What is asked for: the version in the file, once more than it was tried last.
fn wish(reports: &[ModelReport], manifest: &Manifest) -> DesiredModel {
    let last = reports.iter().find(|r| r.name == manifest.name).and_then(|r| r.update.as_ref());
    let attempt = match last.filter(|last| last.version == manifest.version) {
        Some(last) if last.progress.is_final() => last.attempt.saturating_add(1),
        Some(last) => last.attempt,
        None => 1,
    };
    DesiredModel {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        target: whimbrel_wire::index::target_path(manifest),
        attempt,
        rollout: String::new(),
    }
}

/// How the version stands, once that is decided as far as this command goes. What a file lacks does not come by waiting.
fn decided(reports: &[ModelReport], manifest: &Manifest, attempt: u32) -> Option<Progress> {
    let name: &ModelName = &manifest.name;
    let update = reports.iter().find(|r| r.name == *name)?.update.as_ref()?;
    if update.version != manifest.version || update.attempt != attempt {
        return None;
    }
    match (&update.progress, &update.waiting) {
        (Progress::Resolving {} | Progress::Fetching { .. } | Progress::SelfTest {}, None) => None,
        (Progress::Resolving {} | Progress::Fetching { .. }, Some(reason)) => {
            Some(Progress::Rejected { reason: reason.clone() })
        }
        (progress, _) => Some(progress.clone()),
    }
}

/// What was verified and refused is told apart from what failed on this device.
fn refusal(attempted: &str, reason: &Reason) -> Failure {
    match reason.kind {
        ReasonKind::Disk | ReasonKind::Network => Failure::failed(attempted, reason),
        ReasonKind::Operators | ReasonKind::Backend => Failure::not_supported(attempted, reason),
        _ => Failure::refused(attempted, reason),
    }
}

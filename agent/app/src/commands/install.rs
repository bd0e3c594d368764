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
    let backend = crate::backends::named(&config.serve.backend)
        .map_err(|e| Failure::not_supported("choosing the backend", chain(&e)))?;
    let host = AgentHost::new(Arc::new(Registry::default()), None, backend, config.models.clone());
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

/// What was verified and refused is told apart from what failed on this device. There is no network here: what could not be had is not in
/// the file, and nothing without metadata is to be trusted.
fn refusal(attempted: &str, reason: &Reason) -> Failure {
    match reason.kind {
        ReasonKind::Disk => Failure::failed(attempted, reason),
        ReasonKind::Operators | ReasonKind::Backend => Failure::not_supported(attempted, reason),
        _ => Failure::refused(attempted, reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ConfigArgs;
    use std::{fs::File, path::Path};
    use time::{Duration, OffsetDateTime};
    use whimbrel_updater::{
        bundle::{Packed, pack},
        disk::Files,
        journal::{Journal, Stage},
        repo::{
            NewTarget, RoleSpec, RootSpec, SigningKey, TargetsEdit, new_root, new_targets, next_targets,
            sign, snapshot, timestamp,
        },
        tuf::Trust,
    };

    fn digits() -> Packed {
        pack(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits/v1")).expect("packs")
    }

    /// Signs the bundle and puts the metadata into it; the root that vouches for it.
    fn sign_into(packed: &mut Packed) -> Vec<u8> {
        let key = SigningKey::from_seed(&[7; 32]);
        let expires = OffsetDateTime::now_utc() + Duration::days(1);
        let role = || RoleSpec { keys: vec![key.public()], threshold: 1 };
        let spec = RootSpec { root: role(), targets: role(), snapshot: role(), timestamp: role() };
        let signed = |bytes: Vec<u8>| sign(&bytes, &key).expect("signs");
        let root = signed(new_root(&spec, expires).expect("makes"));
        let index_bytes = packed.index_bytes().len() as u64;
        let target = NewTarget::bundle(&packed.index().manifest, index_bytes, packed.digest());
        let edit = TargetsEdit { add: vec![target], ..TargetsEdit::default() };
        let first = signed(new_targets(expires).expect("makes"));
        let targets = signed(next_targets(&first, &edit, expires).expect("makes"));
        let snapshot = snapshot(None, &targets, &key, expires).expect("signs");
        let timestamp = timestamp(None, &snapshot, &key, OffsetDateTime::now_utc(), expires).expect("signs");
        for (name, bytes) in [
            ("1.root.json", root.clone()),
            ("2.targets.json", targets),
            ("1.snapshot.json", snapshot),
            ("timestamp.json", timestamp),
        ] {
            packed.metadata.insert(name.into(), bytes);
        }
        root
    }

    fn args(dir: &Path, packed: &Packed) -> InstallArgs {
        let file = dir.join("digits.wbundle");
        packed.write(File::create(&file).expect("creates")).expect("writes");
        // A file of the machine's own configuration is not to play a part.
        let config = dir.join("agent.toml");
        std::fs::write(&config, "").expect("writes");
        InstallArgs { file, config: ConfigArgs { config: Some(config), state_dir: Some(dir.join("state")) } }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_signed_bundle_is_tested_and_waits_for_its_probation() {
        let dir = tempfile::tempdir().expect("folder");
        let mut packed = digits();
        let root = sign_into(&mut packed);
        let args = args(dir.path(), &packed);
        let untrusting = run(&args).await.expect_err("nobody is trusted");
        assert_eq!(untrusting.exit_code(), 4, "{untrusting}");
        Trust::init(&dir.path().join("state/trust"), &root).expect("a good root");
        run(&args).await.expect("installs");
        let journal = Journal::open(Arc::new(Files), &dir.path().join("state/journal")).expect("opens");
        let record = journal.read(&packed.index().manifest.name).expect("reads").expect("is there");
        let stage = record.update.expect("an update").stage;
        let digest = packed.digest();
        assert!(
            matches!(stage, Stage::Probation { candidate, crashes: 0, stopped: true } if candidate == digest),
            "{stage:?}"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_bundle_without_metadata_or_of_another_signer_is_refused() {
        let dir = tempfile::tempdir().expect("folder");
        let mut packed = digits();
        let root = sign_into(&mut packed);
        Trust::init(&dir.path().join("state/trust"), &root).expect("a good root");
        packed.metadata.clear();
        let refused = run(&args(dir.path(), &packed)).await.expect_err("nobody vouches for it");
        assert_eq!(refused.exit_code(), 4, "{refused}");
        let args = args(dir.path(), &packed);
        std::fs::write(&args.file, b"not a bundle").expect("writes");
        assert_eq!(run(&args).await.expect_err("no bundle").exit_code(), 4);
    }
}

//! A host that serves what it is told to, and checks every byte of it.

use crate::{
    disk::SimDisk,
    release::{Quality, Release},
};
use semver::Version;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use whimbrel_updater::{
    disk::Disk,
    engine::{Host, Traffic},
    slots::InstalledBundle,
};
use whimbrel_wire::{
    Digest, ModelName,
    report::{Reason, ReasonKind},
};

/// What was released, by the hash of its index. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Releases(Arc<Mutex<BTreeMap<Digest, Arc<Release>>>>);

impl Releases {
    /// Takes one more.
    pub fn add(&self, release: Release) {
        self.lock().insert(release.digest(), Arc::new(release));
    }

    fn get(&self, digest: Digest) -> Option<Arc<Release>> {
        self.lock().get(&digest).cloned()
    }

    fn quality(&self, version: &Version) -> Option<Quality> {
        self.lock().values().find(|release| release.version() == version).map(|release| release.quality)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, Arc<Release>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What answers requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// The version.
    pub version: Version,
    /// What answers when it fails.
    pub fallback: Option<Version>,
}

/// The host of one process. Clones are the same one.
#[derive(Debug, Clone)]
pub struct SimHost {
    disk: SimDisk,
    releases: Releases,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    serving: Option<Serving>,
    violations: Vec<String>,
    /// Requests that come for whatever serves.
    requests: u64,
}

impl SimHost {
    /// A host that serves nothing yet and gets `requests` requests as soon as it serves something.
    #[must_use]
    pub fn new(disk: SimDisk, releases: Releases, requests: u64) -> Self {
        let state = State { requests, ..State::default() };
        Self { disk, releases, state: Arc::new(Mutex::new(state)) }
    }

    /// What serves now.
    #[must_use]
    pub fn serving(&self) -> Option<Serving> {
        self.lock().serving.clone()
    }

    /// What the host was given that it must never be given.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// Lets this many requests come since the version serves.
    pub fn set_requests(&self, requests: u64) {
        self.lock().requests = requests;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The release that a bundle is, when every byte of it is there.
    fn check(&self, bundle: &InstalledBundle, why: &str) -> Result<Arc<Release>, Reason> {
        let checked = self.compare(bundle);
        if let Err(what) = &checked
            && !self.disk.is_off()
        {
            let violation =
                format!("unverified: {} {} to {why}: {what}", bundle.manifest.name, bundle.manifest.version);
            self.lock().violations.push(violation);
        }
        checked.map_err(|what| Reason::new(ReasonKind::Load, what))
    }

    fn compare(&self, bundle: &InstalledBundle) -> Result<Arc<Release>, String> {
        let release = self.releases.get(bundle.digest).ok_or("it was never released")?;
        if release.packed.index().manifest != bundle.manifest {
            return Err("its manifest is another".into());
        }
        for (path, expected) in &release.files {
            let found = self.disk.read(&bundle.dir.join(path), 1 << 20).map_err(|e| e.to_string())?;
            if found.as_ref() != Some(expected) {
                return Err(format!("{path} is not as it was released"));
            }
        }
        Ok(release)
    }
}

impl Host for SimHost {
    async fn self_test(&self, bundle: &InstalledBundle) -> Result<(), Reason> {
        match self.check(bundle, "test")?.quality {
            Quality::FailsSelfTest => Err(Reason::new(ReasonKind::GoldenMismatch, "vector 0 differs")),
            _ => Ok(()),
        }
    }

    async fn serve(
        &self,
        active: &InstalledBundle,
        fallback: Option<&InstalledBundle>,
    ) -> Result<(), Reason> {
        if self.check(active, "serve")?.quality == Quality::FailsLoad {
            return Err(Reason::new(ReasonKind::Load, "no such operator"));
        }
        let fallback = fallback.map(|bundle| self.check(bundle, "fall back to")).transpose()?;
        let version = active.manifest.version.clone();
        let fallback = fallback.map(|release| release.version().clone());
        self.lock().serving = Some(Serving { version, fallback });
        Ok(())
    }

    async fn withdraw(&self, _: &ModelName) {
        self.lock().serving = None;
    }

    fn traffic(&self, _: &ModelName) -> Traffic {
        let state = self.lock();
        let Some(serving) = &state.serving else { return Traffic::default() };
        let fails = self.releases.quality(&serving.version) == Some(Quality::FailsLive);
        Traffic { requests: state.requests, errors: if fails { state.requests } else { 0 } }
    }
}

//! A device with its server: starts the engine on the simulated disk, and remembers what the device said.

use crate::{
    clock,
    disk::{Careless, Carelessness, SimDisk},
    host::{Releases, SimHost},
    process::{Process, Reports, of_the_model},
    release::{Quality, Release, model},
    repository::Repository,
    server::SimServer,
};
use semver::Version;
use std::{path::Path, sync::Arc, time::Duration};
use tokio::sync::watch;
use whimbrel_updater::{
    disk::Disk,
    engine::{Engine, EngineConfig},
    transport::Backoff,
    tuf::{Trust, TufError},
};
use whimbrel_wire::{
    desired::{DesiredModel, DesiredState},
    report::{Progress, Reason, Update},
};

/// The device's state folder.
pub const STATE_DIR: &str = "/state";
/// Enough for any release to be confirmed or taken back at once.
const REQUESTS: u64 = 10;

/// What is asked of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The version.
    pub version: Version,
    /// Counts what was asked for this version.
    pub attempt: u32,
}

impl Wish {
    fn is(&self, update: &Update) -> bool {
        self.version == update.version && self.attempt == update.attempt
    }
}

/// What the device said, which it must not take back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// It has a root to trust.
    pub enrolled: bool,
    /// The version that it confirmed last.
    pub active: Option<Version>,
    /// The version that it refused or took back last.
    pub refused: Option<Version>,
    /// The version that was on probation last.
    pub candidate: Option<Version>,
}

/// A device, its server, and what is between them.
#[derive(Debug)]
pub struct Device {
    /// Its disk.
    pub disk: SimDisk,
    /// What its software forgets to do on the disk.
    pub careless: Option<Carelessness>,
    /// Its server.
    pub server: SimServer,
    /// Who signs.
    pub repository: Repository,
    /// All that was ever released.
    pub releases: Releases,
    /// What is asked of it.
    pub wish: Option<Wish>,
    /// What it said.
    pub said: Said,
    /// Requests that each version gets as soon as it serves.
    pub requests: u64,
    /// How its engine waits after failures.
    pub backoff: Backoff,
    serial: u64,
}

/// Why a process did not come as far as was waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// The power was cut.
    PowerOff,
    /// It did something wrong, or nothing.
    Wrong(String),
}

/// Runs a simulation in paused time. One thread runs the engine and one its disk work, and each waits for the other, so that
/// the same seed gives the same operations in the same order.
///
/// # Panics
/// When the system gives no thread.
pub fn simulate<F: Future>(simulation: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .max_blocking_threads(1)
        .build()
        .expect("a runtime can be started");
    clock::set(clock::START);
    runtime.block_on(simulation)
}

impl Default for Device {
    /// A device that has yet to enrol, and a server with nothing to offer.
    fn default() -> Self {
        let server = SimServer::default();
        Self {
            disk: SimDisk::default(),
            careless: None,
            repository: Repository::new(&server),
            server,
            releases: Releases::default(),
            wish: None,
            said: Said::default(),
            requests: REQUESTS,
            backoff: Backoff { first: Duration::ZERO, max: Duration::ZERO },
            serial: 0,
        }
    }
}

impl Device {
    /// The same device and server, to go their own way from now on.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            disk: self.disk.fork(),
            server: self.server.fork(),
            repository: self.repository.clone(),
            releases: self.releases.clone(),
            wish: self.wish.clone(),
            said: self.said.clone(),
            ..*self
        }
    }

    /// Signs versions and puts them on the server, all in one version of the metadata.
    pub fn release(&mut self, versions: &[(&str, Quality)]) {
        let make = |(version, quality): &(&str, Quality)| Release::new(&parse(version), *quality);
        let made: Vec<Release> = versions.iter().map(make).collect();
        self.repository.release(&made, &self.server);
        made.into_iter().for_each(|release| self.releases.add(release));
    }

    /// Asks for a version.
    pub fn wish(&mut self, version: &str, attempt: u32) {
        self.wish = Some(Wish { version: parse(version), attempt });
    }

    /// Enrols if that has to be done, and starts the engine: it returns when the host serves what it can without network.
    ///
    /// # Errors
    /// When the power was cut meanwhile, or the engine does not start.
    pub async fn start(&mut self) -> Result<Process, Stopped> {
        let wrong = |disk: &SimDisk, what: String| {
            if disk.is_off() { Stopped::PowerOff } else { Stopped::Wrong(what) }
        };
        let (disk, root) = (self.software_disk(), Path::new(STATE_DIR).join("trust/root.json"));
        let enrolled = disk.size_bytes(&root).map_err(|e| wrong(&self.disk, e.to_string()))?.is_some();
        if !self.said.enrolled && !enrolled {
            Trust::init_on(Arc::clone(&disk), &trust_dir(), self.repository.first_root())
                .map_err(|e| wrong(&self.disk, format!("enrolment: {e}")))?;
        }
        self.said.enrolled = true;
        let host = SimHost::new(self.disk.clone(), self.releases.clone(), self.requests);
        let mut config = EngineConfig::new(STATE_DIR, Version::new(0, 1, 0));
        (config.now, config.backoff, config.disk) = (clock::now, self.backoff, disk);
        let engine = Engine::open(config, host.clone(), self.server.clone()).await;
        let engine = engine.map_err(|e| wrong(&self.disk, e.to_string()))?;
        if self.disk.is_off() {
            return Err(Stopped::PowerOff);
        }
        if let Some((model, error)) = engine.broken().first() {
            return Err(Stopped::Wrong(format!("broken: {model}: {error}")));
        }
        let (desired, wishes) = watch::channel(None);
        let (sender, reports) = watch::channel(engine.reports());
        let power = self.disk.clone();
        let run = engine.run(wishes, move |reports| {
            // What is said after the power went reaches nobody.
            if !power.is_off() {
                sender.send_replace(reports);
            }
        });
        Ok(Process::new(host, self.disk.clone(), (desired, reports), tokio::spawn(run)))
    }

    /// Tells the process what is asked for, and waits until it says what became of that, or that it is on probation where that is
    /// enough.
    ///
    /// # Errors
    /// When the power was cut meanwhile, or nothing came of it.
    pub async fn fulfil(&mut self, process: &mut Process, on_probation: bool) -> Result<Progress, Stopped> {
        let ends = |update: Update| {
            let enough = update.progress.is_final() || on_probation && is_on_probation(&update.progress);
            enough.then_some(update.progress)
        };
        self.until(process, "comes to an end", ends).await
    }

    /// Tells the process what is asked for, and waits until it says why it does not come further for now.
    ///
    /// # Errors
    /// When the power was cut meanwhile, or it does not say so.
    pub async fn waiting(&mut self, process: &mut Process) -> Result<Reason, Stopped> {
        self.until(process, "waits", |update| update.waiting).await
    }

    async fn until<T>(
        &mut self,
        process: &mut Process,
        what: &str,
        pick: impl Fn(Update) -> Option<T>,
    ) -> Result<T, Stopped> {
        self.tell(process);
        let Some(wish) = self.wish.clone() else { return Err(Stopped::Wrong("nothing is asked for".into())) };
        let picked = process.until(|update| wish.is(&update).then(|| pick(update)).flatten());
        let result = picked
            .await
            .unwrap_or_else(|| Err(Stopped::Wrong(format!("{wish:?} never {what}: {:?}", process.report()))));
        self.listen(process);
        result
    }

    /// Tells the process what is asked for.
    pub fn tell(&mut self, process: &Process) {
        let Some(Wish { version, attempt }) = self.wish.clone() else { return };
        self.serial += 1;
        let target = format!("{}/{version}.wbi", model());
        let model = DesiredModel { name: model(), version, target, attempt, rollout: "r".into() };
        let state = DesiredState { serial: self.serial, models: vec![model], poll_s: 60 };
        process.ask(state);
    }

    /// Remembers what the process said.
    pub fn listen(&mut self, process: &Process) {
        self.hear(&process.listener());
    }

    /// Remembers what a process said that may be gone.
    pub fn hear(&mut self, reports: &Reports) {
        let Some(report) = of_the_model(reports) else { return };
        self.said.active = report.active.map(|active| active.version);
        if let Some(Update { version, progress, .. }) = report.update {
            let refused = matches!(progress, Progress::Rejected { .. } | Progress::RolledBack { .. });
            let on_probation = is_on_probation(&progress);
            self.said.refused = refused.then(|| version.clone());
            self.said.candidate = on_probation.then_some(version);
        }
    }

    /// Ends the process in order, and leaves its disk to the next one.
    ///
    /// # Errors
    /// When the power was cut meanwhile, or it does not end.
    pub async fn stop(&mut self, process: Process) -> Result<(), Stopped> {
        let (reports, disk) = (process.listener(), self.disk.clone());
        let stopped = process.stop().await;
        self.hear(&reports);
        if disk.is_off() {
            return Err(Stopped::PowerOff);
        }
        self.disk = disk.handed_over();
        stopped
    }

    /// The trust folder as the next process would open it.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn trust(&self) -> Result<Trust, TufError> {
        Trust::open_on(self.software_disk(), &trust_dir())
    }

    fn software_disk(&self) -> Arc<dyn Disk> {
        match self.careless {
            Some(carelessness) => Arc::new(Careless { disk: self.disk.clone(), carelessness }),
            None => Arc::new(self.disk.clone()),
        }
    }
}

const fn is_on_probation(progress: &Progress) -> bool {
    matches!(progress, Progress::Probation { .. })
}

fn trust_dir() -> std::path::PathBuf {
    Path::new(STATE_DIR).join("trust")
}

/// A version from its text.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn parse(version: &str) -> Version {
    version.parse().expect("a version")
}

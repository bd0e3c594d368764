//! The engine against a server and a host in memory and a real disk, in paused time.

mod assembly;
mod failures;
mod hostile;
mod offline;
mod policy;
mod restarts;
mod switching;
mod updates;

use super::*;
use crate::{
    slots::InstalledBundle,
    testing::{Repo, Server, now, pack},
};
use std::collections::BTreeSet;
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};
use whimbrel_wire::{
    desired::DesiredModel,
    report::{Progress, Reason, ReasonKind, Update},
};

/// Confirms after ten requests or a minute, with at least five; takes one failed request in ten and one crash.
const GATES: &str =
    "[probation]\nrequests = 10\nseconds = 60\nrequests_min = 5\nerror_rate_max = 0.1\ncrashes_max = 1";

#[derive(Default)]
struct HostState {
    /// What serves, and what is behind it.
    serving: Option<(String, Option<String>)>,
    /// Versions whose self-test ran, in order.
    tested: Vec<String>,
    fails_test: BTreeSet<String>,
    fails_load: BTreeSet<String>,
    /// Self-tests never end.
    hangs: bool,
    traffic: Traffic,
}

#[derive(Clone, Default)]
struct FakeHost(Arc<Mutex<HostState>>);

impl FakeHost {
    fn lock(&self) -> std::sync::MutexGuard<'_, HostState> {
        self.0.lock().expect("no panic")
    }

    fn serving(&self) -> Option<(String, Option<String>)> {
        self.lock().serving.clone()
    }
}

impl Host for FakeHost {
    async fn self_test(&self, bundle: &InstalledBundle) -> Result<(), Reason> {
        let version = bundle.manifest.version.to_string();
        let hangs = {
            let mut state = self.lock();
            state.tested.push(version.clone());
            state.hangs
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        if self.lock().fails_test.contains(&version) {
            return Err(Reason::new(ReasonKind::GoldenMismatch, "vector 0 differs"));
        }
        Ok(())
    }

    async fn serve(
        &self,
        active: &InstalledBundle,
        fallback: Option<&InstalledBundle>,
    ) -> Result<(), Reason> {
        let version = |bundle: &InstalledBundle| bundle.manifest.version.to_string();
        let mut state = self.lock();
        if state.fails_load.contains(&version(active)) {
            return Err(Reason::new(ReasonKind::Load, "no such operator"));
        }
        assert!(active.dir.join("model.onnx").exists(), "the bundle is on disk while it serves");
        state.serving = Some((version(active), fallback.map(version)));
        state.traffic = Traffic::default();
        Ok(())
    }

    async fn withdraw(&self, _: &ModelName) {
        self.lock().serving = None;
    }

    fn traffic(&self, _: &ModelName) -> Traffic {
        self.lock().traffic
    }
}

/// A device, its server, and its process, which may come and go.
struct World {
    dir: TempDir,
    repo: Repo,
    host: FakeHost,
    desired: watch::Sender<Option<DesiredState>>,
    running: Option<(JoinHandle<()>, watch::Receiver<Vec<ModelReport>>)>,
    serial: u64,
    disk: Arc<dyn Disk>,
    policy: DownloadPolicy,
    surroundings: Arc<dyn Surroundings>,
}

fn model() -> ModelName {
    "m".parse().expect("a name")
}

impl World {
    /// An enrolled device, and versions 1.0.0 to 1.3.0 released.
    async fn new() -> Self {
        let mut repo = Repo::new();
        for minor in 0..4 {
            let content = crate::testing::noise(minor + 1, 400_000);
            repo.release(&pack("m", &format!("1.{minor}.0"), &content, GATES));
        }
        let dir = tempfile::tempdir().expect("temp dir");
        Trust::init(&dir.path().join("trust"), &repo.root).expect("a good root");
        let mut world = Self {
            dir,
            repo,
            host: FakeHost::default(),
            desired: watch::channel(None).0,
            running: None,
            serial: 0,
            disk: Arc::new(Files),
            policy: DownloadPolicy::default(),
            surroundings: Arc::new(Anywhere { now }),
        };
        world.start().await;
        world
    }

    /// With version 1.1.0 active.
    async fn with_active() -> Self {
        let mut world = Self::new().await;
        world.ask("1.1.0", 1);
        world.confirm("1.1.0").await;
        world
    }

    fn server(&self) -> &Server {
        &self.repo.server
    }

    /// Starts the process; the host is a new one, with the old one's faults.
    async fn start(&mut self) {
        self.start_over(self.server().clone()).await;
    }

    /// As [`World::start`], with its files from elsewhere.
    async fn start_over(&mut self, transport: impl Transport) {
        let host = FakeHost::default();
        {
            let (mut new, old) = (host.lock(), self.host.lock());
            (new.fails_test, new.fails_load) = (old.fails_test.clone(), old.fails_load.clone());
        }
        self.host = host;
        let engine = Engine::open(self.config(), self.host.clone(), transport).await.expect("opens");
        let (sender, reports) = watch::channel(engine.reports());
        let desired = self.desired.subscribe();
        let run = engine.run(desired, move |reports| {
            sender.send_replace(reports);
        });
        self.running = Some((tokio::spawn(run), reports));
    }

    /// Has the process begin again with its files from elsewhere, and asks for the version.
    async fn begin(&mut self, transport: impl Transport, version: &str) {
        self.kill().await;
        self.start_over(transport).await;
        self.ask(version, 1);
    }

    fn config(&self) -> EngineConfig {
        let mut config = EngineConfig::new(self.dir.path(), Version::new(0, 1, 0));
        config.now = now;
        config.disk = Arc::clone(&self.disk);
        config.policy = self.policy.clone();
        config.surroundings = Arc::clone(&self.surroundings);
        config
    }

    /// Ends the process in the middle of whatever it does.
    async fn kill(&mut self) {
        let (task, _) = self.running.take().expect("runs");
        task.abort();
        assert!(task.await.expect_err("was killed").is_cancelled());
    }

    async fn restart(&mut self) {
        self.kill().await;
        self.start().await;
    }

    /// Ends the process in order.
    async fn stop(&mut self) {
        let (task, _) = self.running.take().expect("runs");
        let newest = self.desired.borrow().clone();
        self.desired = watch::channel(newest).0;
        timeout(Duration::from_secs(600), task).await.expect("ends").expect("no panic");
    }

    fn ask(&mut self, version: &str, attempt: u32) {
        self.ask_for(version, &format!("m/{version}.wbi"), attempt);
    }

    fn ask_for(&mut self, version: &str, target: &str, attempt: u32) {
        self.serial += 1;
        let version = version.parse().expect("a version");
        let model =
            DesiredModel { name: model(), version, target: target.into(), attempt, rollout: "r1".into() };
        self.desired.send_replace(Some(DesiredState {
            serial: self.serial,
            models: vec![model],
            poll_s: 60,
        }));
    }

    /// Asks for version 1.0.0 of the model `n` as well, and waits until it is on probation.
    async fn take_another_model(&mut self) {
        let mut state = self.desired.borrow().clone().expect("asked");
        state.serial += 1;
        state.models.push(DesiredModel {
            name: "n".parse().expect("a name"),
            version: Version::new(1, 0, 0),
            target: "n/1.0.0.wbi".into(),
            attempt: 1,
            rollout: String::new(),
        });
        self.desired.send_replace(Some(state));
        let (_, reports) = self.running.as_mut().expect("runs");
        let on_probation = |reports: &Vec<ModelReport>| {
            let of_n = reports.iter().find(|r| r.name.as_str() == "n").and_then(|r| r.update.as_ref());
            of_n.is_some_and(|u| u.progress.as_str() == "probation")
        };
        let wait = timeout(Duration::from_secs(600), reports.wait_for(on_probation));
        wait.await.expect("in time").expect("runs");
    }

    /// Waits until a report says this about the model.
    async fn until(&mut self, what: &str, test: impl Fn(&Update) -> bool) -> ModelReport {
        let (_, reports) = self.running.as_mut().expect("runs");
        let mut last = None;
        let found = timeout(Duration::from_secs(3600), async {
            loop {
                let report = reports.borrow_and_update().iter().find(|r| r.name == model()).cloned();
                match report {
                    Some(report) if report.update.as_ref().is_some_and(&test) => return report,
                    report => last = report,
                }
                reports.changed().await.expect("still runs");
            }
        });
        let found = found.await;
        found.unwrap_or_else(|_| panic!("waited in vain for {what}, last: {last:?}"))
    }

    async fn until_progress(&mut self, version: &str, word: &str) -> ModelReport {
        let what = format!("{version} {word}");
        self.until(&what, |u| u.version.to_string() == version && u.progress.as_str() == word).await
    }

    /// Waits for a final failure of this version.
    async fn until_failed(&mut self, version: &str, kind: ReasonKind) -> ModelReport {
        let report = self
            .until(&format!("{version} {kind}"), |u| {
                u.version.to_string() == version && u.progress.is_final() && u.progress != Progress::Active {}
            })
            .await;
        let found = match report.update.clone().expect("there").progress {
            Progress::Rejected { reason } | Progress::RolledBack { reason } => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(found.kind, kind, "{found}");
        report
    }

    /// Lets the version pass probation.
    async fn confirm(&mut self, version: &str) {
        self.until_progress(version, "probation").await;
        self.traffic(10, 0);
        let report = self.until_progress(version, "active").await;
        assert_eq!(report.active.expect("active").version.to_string(), version);
    }

    fn traffic(&self, requests: u64, errors: u64) {
        self.host.lock().traffic = Traffic { requests, errors };
    }

    /// Installed bundles; those being put together have a name that begins with a dot.
    fn slots(&self) -> usize {
        self.names().iter().filter(|name| !name.starts_with('.')).count()
    }

    /// What is in the model's folder.
    fn names(&self) -> Vec<String> {
        let names = Files.list(&self.dir.path().join("models/m")).expect("lists");
        names.into_iter().map(|name| name.into_string().expect("text")).collect()
    }
}

fn serving(version: &str, fallback: Option<&str>) -> Option<(String, Option<String>)> {
    Some((version.to_owned(), fallback.map(ToOwned::to_owned)))
}

//! Long random lives of a device: whatever happens, in whatever order, what must hold holds after each event; and once all
//! faults are over the device gets the newest version.

mod model;

use crate::{
    clock,
    device::{Device, Stopped, simulate},
    disk::Image,
    invariants,
    process::Process,
    random::Random,
    release::Quality,
    server::{Fault, Metadata, Of},
};
use model::Model;
use semver::Version;
use std::{sync::Arc, time::Duration};
use time::{Duration as Days, OffsetDateTime, macros::datetime};

/// What happened in a life.
#[derive(Debug, Clone, Default)]
pub struct Life {
    /// Events, in order, for people.
    pub events: Vec<String>,
    /// The first thing that did not hold.
    pub violation: Option<String>,
    /// Versions that were confirmed, with repeats.
    pub confirmed: u64,
    /// Power cuts.
    pub cuts: u64,
}

/// Lives through this many random events, then lets all faults end.
#[must_use]
pub fn live(seed: u64, events: u64) -> Life {
    simulate(async {
        let mut walk = Walk::new(seed);
        let result = walk.live(events).await;
        let mut life = walk.life;
        life.violation = result.err().map(|stopped| format!("{stopped:?}"));
        life
    })
}

struct Walk {
    device: Device,
    random: Random,
    life: Life,
    model: Model,
    /// What the clock would show if nobody had set it.
    true_time: OffsetDateTime,
    /// Metadata as it was at some moments.
    remembered: Vec<Arc<Metadata>>,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut walk = Self {
            device: Device::default(),
            random: Random::new(seed),
            life: Life::default(),
            model: Model::default(),
            true_time: clock::START,
            remembered: Vec::new(),
        };
        walk.release(Quality::Good);
        walk
    }

    async fn live(&mut self, events: u64) -> Result<(), Stopped> {
        let mut process = self.start().await?;
        for _ in 0..events {
            process = self.event(process).await?;
            process = self.restart_if_off(process).await?;
            self.check(&process)?;
        }
        self.end_well(process).await
    }

    /// One random event.
    async fn event(&mut self, process: Process) -> Result<Process, Stopped> {
        match self.random.below(100) {
            0..18 => self.wish(&process),
            18..20 => self.release_any(),
            20..60 => self.wait().await,
            60..66 => return self.crash(process).await,
            66..71 => return self.cut_power(process).await,
            71..77 => self.arm_cut(),
            77..80 => return self.stop(process).await,
            80..85 => self.misbehave(),
            85..90 => self.calm(),
            90..92 => self.jump(),
            92..94 => self.fill_disk(),
            94..96 => self.rotate(),
            96..98 => self.pass_days(),
            _ => self.change_traffic(&process),
        }
        Ok(process)
    }

    fn note(&mut self, event: impl Into<String>) {
        self.life.events.push(event.into());
    }

    /// Asks for a version that is new, or for any.
    fn wish(&mut self, process: &Process) {
        if self.random.percent(60) {
            self.release_any();
        }
        let last = self.model.released.len() - 1;
        let nth = if self.random.percent(60) { last } else { self.random.index(last + 1) };
        let Some(version) = self.model.released.keys().nth(nth).cloned() else { return };
        self.wish_for(&version, process);
    }

    fn wish_for(&mut self, version: &Version, process: &Process) {
        let attempt = self.model.attempts.entry(version.clone()).or_default();
        *attempt += 1;
        self.device.wish(&version.to_string(), *attempt);
        let attempt = *attempt;
        self.note(format!("asked for {version}, attempt {attempt}"));
        self.model.may_serve.insert(version.clone());
        self.device.tell(process);
    }

    fn release_any(&mut self) {
        self.remembered.push(self.device.server.metadata_now());
        let quality = match self.random.below(10) {
            0 => Quality::FailsSelfTest,
            1 => Quality::FailsLoad,
            2 => Quality::FailsLive,
            _ => Quality::Good,
        };
        let version = self.release(quality);
        if self.random.percent(10) {
            self.note(format!("the floor is {version}"));
            self.device.repository.set_floor(&version, &self.device.server);
        }
    }

    fn release(&mut self, quality: Quality) -> Version {
        let version = Version::new(1, self.model.released.len() as u64, 0);
        self.note(format!("released {version}, {quality:?}"));
        self.device.repository.now = self.true_time;
        self.device.release(&[(&version.to_string(), quality)]);
        self.model.released.insert(version.clone(), quality);
        version
    }

    async fn wait(&mut self) {
        let longest_ms = if self.random.percent(50) { 100 } else { 100_000 };
        let wait = Duration::from_millis(self.random.below(longest_ms));
        self.note(format!("{wait:?} pass"));
        let disk = self.device.disk.clone();
        tokio::select! {
            () = disk.until_off() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    async fn crash(&mut self, process: Process) -> Result<Process, Stopped> {
        self.note("killed");
        self.hear(&process);
        process.kill().await;
        self.device.disk = self.device.disk.handed_over();
        self.start().await
    }

    async fn stop(&mut self, process: Process) -> Result<Process, Stopped> {
        self.note("stopped");
        let stopped = self.device.stop(process).await;
        self.take_in();
        match stopped {
            Ok(()) => {}
            // A cut that was armed came first.
            Err(Stopped::PowerOff) => self.survive(),
            Err(wrong) => return Err(wrong),
        }
        self.start().await
    }

    async fn cut_power(&mut self, process: Process) -> Result<Process, Stopped> {
        self.device.disk.cut();
        self.restart_if_off(process).await
    }

    fn arm_cut(&mut self) {
        let operation = self.device.disk.operations() + self.random.below(30);
        self.note(format!("the power will fail before operation {operation}"));
        self.device.disk.cut_before(Some(operation));
    }

    async fn restart_if_off(&mut self, process: Process) -> Result<Process, Stopped> {
        if !self.device.disk.is_off() {
            return Ok(process);
        }
        self.hear(&process);
        process.kill().await;
        self.survive();
        self.start().await
    }

    fn survive(&mut self) {
        let image = Image::Mixture(self.random.next());
        let before = self.device.disk.cut_at();
        self.note(format!("the power fails before {before:?}, {image:?}"));
        self.life.cuts += 1;
        self.device.disk = self.device.disk.survivor(image);
    }

    /// Starts the process, once more after each cut that comes meanwhile, and tells it what was asked for last.
    async fn start(&mut self) -> Result<Process, Stopped> {
        let process = loop {
            match self.device.start().await {
                Err(Stopped::PowerOff) => self.survive(),
                other => break other?,
            }
        };
        self.check_start(&process)?;
        self.device.tell(&process);
        Ok(process)
    }

    fn misbehave(&mut self) {
        let old = self.remembered.get(self.random.index(self.remembered.len())).cloned().unwrap_or_default();
        let fault = match self.random.below(9) {
            0 => Fault::Offline,
            1 => Fault::Lost,
            2 => Fault::WrongBytes,
            3 => Fault::Truncated,
            4 => Fault::Endless,
            5 => Fault::CaptivePortal,
            6 => Fault::Old(old),
            7 => Fault::OldTargets(old),
            _ => Fault::OldSnapshot(old),
        };
        let of = [Of::All, Of::Metadata, Of::Targets, Of::Chunks][self.random.index(4)];
        let share = 10 + 30 * self.random.below(4);
        let name = format!("{fault:?}").chars().take_while(|c| c.is_alphabetic()).collect::<String>();
        self.note(format!("{name} in {share} % of {of:?}"));
        self.device.server.misbehave(fault, of, share, self.random.next());
    }

    /// All faults end for a while.
    fn calm(&mut self) {
        self.note("the server behaves, the disk has room, the clock is right");
        self.device.server.behave();
        self.device.disk.heal();
        clock::set(self.true_time);
    }

    fn jump(&mut self) {
        let to = [datetime!(1970-01-01 00:00 UTC), datetime!(2100-01-01 00:00 UTC), self.true_time]
            [self.random.index(3)];
        self.note(format!("the clock shows {to}"));
        clock::set(to);
    }

    fn pass_days(&mut self) {
        let days = Days::days(i64::try_from(self.random.below(20)).unwrap_or(0));
        self.note(format!("{days} pass, and the server signs again"));
        self.true_time += days;
        clock::advance(days);
        self.device.repository.now = self.true_time;
        self.device.repository.publish(&self.device.server);
    }

    fn fill_disk(&mut self) {
        let free_bytes = self.random.below(5 << 20) * self.random.below(2);
        self.note(format!("{free_bytes} bytes are free"));
        self.device.disk.set_free_bytes(free_bytes);
        self.model.unsure = true;
    }

    fn rotate(&mut self) {
        self.device.repository.now = self.true_time;
        if self.random.percent(50) {
            self.note("the online key changes");
            self.device.repository.rotate_online(&self.device.server);
        } else {
            self.note("release key and a root key change");
            self.device.repository.rotate_targets(&self.device.server);
        }
    }

    fn change_traffic(&mut self, process: &Process) {
        self.device.requests = self.random.below(2) * 10;
        let requests = self.device.requests;
        self.note(format!("{requests} requests"));
        process.host.set_requests(requests);
    }

    /// All faults end; the newest version is asked for and must be confirmed, with nothing left over.
    async fn end_well(&mut self, process: Process) -> Result<(), Stopped> {
        self.calm();
        self.device.disk.cut_before(None);
        self.device.requests = 10;
        self.note("for good");
        let mut process = self.crash(process).await?;
        let newest = self.release(Quality::Good);
        self.wish_for(&newest, &process);
        self.device.fulfil(&mut process, false).await?;
        self.life.confirmed += 1;
        if self.device.said.active.as_ref() != Some(&newest) {
            return Err(Stopped::Wrong(format!("{newest} was not confirmed: {:?}", process.report())));
        }
        let broken = invariants::at_rest(&self.device, &process);
        process.kill().await;
        if broken.is_empty() { Ok(()) } else { Err(Stopped::Wrong(broken.join("; "))) }
    }

    fn hear(&mut self, process: &Process) {
        self.device.listen(process);
        self.take_in();
    }

    /// Compares what the device said with what it may say.
    fn take_in(&mut self) {
        let (before, now) = (self.model.active.clone(), self.device.said.active.clone());
        let floor = std::mem::replace(&mut self.model.floor, self.device.server.acted().floor);
        if now == before {
            return;
        }
        self.model.below_floor = now.clone().filter(|now| floor.is_some_and(|floor| *now < floor));
        self.life.confirmed += 1;
        if let Some(now) = &now {
            self.note(format!("{now} is confirmed"));
            let wish = self.device.wish.as_ref().map(|wish| wish.version.clone());
            if !self.model.unsure {
                self.model.may_serve = wish.into_iter().collect();
            }
            self.model.may_serve.insert(now.clone());
        }
        self.model.active = now;
    }

    /// What must hold after each event.
    fn check(&mut self, process: &Process) -> Result<(), Stopped> {
        self.hear(process);
        let mut broken = process.host.violations();
        broken.extend(invariants::invariant_trust_never_goes_back(&self.device));
        broken.extend(self.model.invariant_allowed_serves(process));
        broken.extend(self.model.invariant_only_good_versions_are_confirmed());
        if broken.is_empty() { Ok(()) } else { Err(Stopped::Wrong(broken.join("; "))) }
    }

    /// What must hold when the process has just begun.
    fn check_start(&mut self, process: &Process) -> Result<(), Stopped> {
        let said = self.model.active.clone();
        let found = process.report().and_then(|report| report.active).map(|active| active.version);
        let newer = found.as_ref().is_some_and(|found| self.model.may_serve.contains(found));
        if found != said && !newer && !self.model.unsure {
            return Err(Stopped::Wrong(format!("{said:?} was confirmed, the next process says {found:?}")));
        }
        self.check(process)
    }
}

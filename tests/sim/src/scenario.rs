//! The updates whose every moment is tried.

use crate::{
    device::{Device, Stopped, simulate},
    invariants,
    process::Process,
    release::Quality::{FailsLive, FailsSelfTest, Good},
};
use whimbrel_wire::report::{Progress, ReasonKind};

/// What becomes of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The version is confirmed.
    Active,
    /// It is refused, or taken back, for this reason.
    Refused(ReasonKind),
    /// It serves on probation, and no request comes.
    Probation,
}

impl From<Progress> for Ending {
    fn from(progress: Progress) -> Self {
        match progress {
            Progress::Rejected { reason } | Progress::RolledBack { reason } => Self::Refused(reason.kind),
            Progress::Active {} => Self::Active,
            _ => Self::Probation,
        }
    }
}

/// One wish, and what must become of it whatever happens meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The version asked for.
    pub version: &'static str,
    /// What becomes of it.
    pub ending: Ending,
    /// Whether the process is then stopped in order, and started again.
    pub restart: bool,
}

/// A device as it is before, and what is asked of it.
#[derive(Debug)]
pub struct Scenario {
    /// Its name in reports.
    pub name: &'static str,
    /// The device and its server.
    pub device: Device,
    /// What is asked, one after another.
    pub steps: Vec<Step>,
}

/// A scenario as far as it came.
#[derive(Debug)]
pub struct Play<'a> {
    /// The device.
    pub device: Device,
    /// What is still to be asked.
    pub steps: &'a [Step],
    /// How often the same was asked, this time included.
    pub attempt: u32,
}

impl Step {
    /// Lets the device do what it was asked last, under the traffic that this step has.
    ///
    /// # Errors
    /// As [`Device::fulfil`].
    pub async fn fulfil(&self, device: &mut Device, process: &mut Process) -> Result<Ending, Stopped> {
        let on_probation = self.ending == Ending::Probation;
        process.host.set_requests(if on_probation { 0 } else { device.requests });
        Ok(device.fulfil(process, on_probation).await?.into())
    }
}

impl Scenario {
    /// Every scenario.
    pub const ALL: [fn() -> Self; 10] = [
        Self::first_install,
        Self::update,
        Self::rollback,
        Self::rejection,
        Self::garbage_collection,
        Self::key_rotation,
        Self::floor_raise,
        Self::first_version_taken_back,
        Self::superseded_in_probation,
        Self::orderly_stop,
    ];

    /// A device enrols and gets its first version.
    #[must_use]
    pub fn first_install() -> Self {
        let mut device = Device::default();
        device.release(&[("1.0.0", Good)]);
        Self { name: "first_install", device, steps: vec![to_active("1.0.0")] }
    }

    /// A newer version is fetched, installed, switched to and confirmed.
    #[must_use]
    pub fn update() -> Self {
        let mut device = with_active(&["1.0.0"]);
        device.release(&[("1.1.0", Good)]);
        Self { name: "update", device, steps: vec![to_active("1.1.0")] }
    }

    /// A version fails live requests and is taken back.
    #[must_use]
    pub fn rollback() -> Self {
        let mut device = with_active(&["1.0.0"]);
        device.release(&[("1.1.0", FailsLive)]);
        Self {
            name: "rollback_after_probation",
            device,
            steps: vec![to_refused("1.1.0", ReasonKind::ErrorRate)],
        }
    }

    /// A version fails its self-test.
    #[must_use]
    pub fn rejection() -> Self {
        let mut device = with_active(&["1.0.0"]);
        device.release(&[("1.1.0", FailsSelfTest)]);
        let steps = vec![to_refused("1.1.0", ReasonKind::GoldenMismatch)];
        Self { name: "rejection_at_self_test", device, steps }
    }

    /// The third version makes the first one's folder go; then one is refused, and its folder goes as well.
    #[must_use]
    pub fn garbage_collection() -> Self {
        let mut device = with_active(&["1.0.0", "1.1.0"]);
        device.release(&[("1.2.0", Good), ("1.3.0", FailsSelfTest)]);
        let steps = vec![to_active("1.2.0"), to_refused("1.3.0", ReasonKind::GoldenMismatch)];
        Self { name: "garbage_collection", device, steps }
    }

    /// An attacker counted the online metadata far ahead; the owner changes the online key, then the release key and a root
    /// key, and the device must follow both roots and accept lower numbers under the new key.
    #[must_use]
    pub fn key_rotation() -> Self {
        let mut device = with_active(&["1.0.0"]);
        device.release(&[("1.1.0", FailsSelfTest), ("1.2.0", Good)]);
        device.repository.fast_forward(&device.server);
        // The device takes what the attacker signed.
        settle(&mut device, to_refused("1.1.0", ReasonKind::GoldenMismatch));
        device.repository.rotate_online(&device.server);
        device.repository.rotate_targets(&device.server);
        Self { name: "key_rotation", device, steps: vec![to_active("1.2.0")] }
    }

    /// A floor is raised together with a release; what is below it is refused from then on.
    #[must_use]
    pub fn floor_raise() -> Self {
        let mut device = with_active(&["1.0.0"]);
        device.release(&[("1.0.5", Good), ("1.1.0", Good)]);
        device.repository.set_floor(&crate::device::parse("1.1.0"), &device.server);
        let steps = vec![to_active("1.1.0"), to_refused("1.0.5", ReasonKind::BelowFloor)];
        Self { name: "floor_raise", device, steps }
    }

    /// The very first version fails live requests: then nothing serves.
    #[must_use]
    pub fn first_version_taken_back() -> Self {
        let mut device = Device::default();
        device.release(&[("1.0.0", FailsLive)]);
        Self {
            name: "first_version_taken_back",
            device,
            steps: vec![to_refused("1.0.0", ReasonKind::ErrorRate)],
        }
    }

    /// Another version is asked for while one is on probation.
    #[must_use]
    pub fn superseded_in_probation() -> Self {
        let mut device = with_active(&["1.0.0"]);
        device.release(&[("1.1.0", Good), ("1.2.0", Good)]);
        let steps = vec![to_probation("1.1.0"), to_active("1.2.0")];
        Self { name: "superseded_in_probation", device, steps }
    }

    /// The process is stopped in order while a version is on probation, which goes on afterwards.
    #[must_use]
    pub fn orderly_stop() -> Self {
        let mut device = with_active(&["1.0.0"]);
        device.release(&[("1.1.0", Good)]);
        let steps = vec![Step { restart: true, ..to_probation("1.1.0") }, to_active("1.1.0")];
        Self { name: "orderly_stop", device, steps }
    }
}

impl<'a> Play<'a> {
    /// Begins with a device that goes its own way.
    #[must_use]
    pub fn new(scenario: &'a Scenario) -> Self {
        Self { device: scenario.device.fork(), steps: &scenario.steps, attempt: 1 }
    }

    /// The same, to go its own way from here.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { device: self.device.fork(), ..*self }
    }

    /// Starts the device and goes on to the end, checking what must hold at the start and at the end.
    ///
    /// # Errors
    /// When the power was cut meanwhile, or something does not hold.
    pub async fn go_on(&mut self) -> Result<(), Stopped> {
        let mut process = Some(self.start().await?);
        let result = self.take_steps(&mut process).await;
        let Some(process) = process else { return result };
        let result = result.and_then(|()| hold(invariants::at_rest(&self.device, &process)));
        process.kill().await;
        result
    }

    async fn start(&mut self) -> Result<Process, Stopped> {
        let process = self.device.start().await?;
        hold(invariants::after_start(&self.device, &process))?;
        Ok(process)
    }

    /// Takes one step after another. There is no process when one was stopped and the next did not start.
    async fn take_steps(&mut self, running: &mut Option<Process>) -> Result<(), Stopped> {
        while let (Some((step, rest)), Some(process)) = (self.steps.split_first(), running.as_mut()) {
            self.device.wish(step.version, self.attempt);
            let ending = step.fulfil(&mut self.device, process).await?;
            if ending != step.ending {
                return Err(Stopped::Wrong(format!("{step:?} ended as {ending:?}")));
            }
            if step.restart
                && let Some(process) = running.take()
            {
                self.device.stop(process).await?;
                self.steps = rest;
                *running = Some(self.start().await?);
            }
            self.steps = rest;
        }
        Ok(())
    }
}

fn hold(broken: Vec<String>) -> Result<(), Stopped> {
    if broken.is_empty() { Ok(()) } else { Err(Stopped::Wrong(broken.join("; "))) }
}

fn to_active(version: &'static str) -> Step {
    Step { version, ending: Ending::Active, restart: false }
}

fn to_refused(version: &'static str, kind: ReasonKind) -> Step {
    Step { version, ending: Ending::Refused(kind), restart: false }
}

fn to_probation(version: &'static str) -> Step {
    Step { version, ending: Ending::Probation, restart: false }
}

/// A device that confirmed these versions, one after another.
#[must_use]
pub fn with_active(versions: &[&'static str]) -> Device {
    let mut device = Device::default();
    for version in versions {
        device.release(&[(version, Good)]);
        settle(&mut device, to_active(version));
    }
    device
}

/// Lets a step happen undisturbed.
///
/// # Panics
/// When it does not.
fn settle(device: &mut Device, step: Step) {
    let steps = [step];
    let mut play = Play { device: device.fork(), steps: &steps, attempt: 1 };
    simulate(play.go_on()).expect("nothing disturbs it");
    *device = play.device;
    device.disk = device.disk.handed_over();
}

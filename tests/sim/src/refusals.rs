//! Lets the disk refuse at every moment of a scenario.

use crate::{
    device::{Device, simulate},
    disk::{Image, Refusal},
    invariants,
    process::Process,
    scenario::{Ending, Play, Scenario},
};
use semver::Version;

/// What came of a scenario.
#[derive(Debug, Clone, Default)]
pub struct Refused {
    /// Operations that were refused, each in a run of its own.
    pub points: u64,
    /// What did not hold.
    pub violations: Vec<String>,
}

/// Refuses each operation of a scenario in turn, and `count - 1` after it, then lets the disk recover and asks again, with
/// the process killed in between, and with the power cut.
///
/// What is decided while the disk refuses cannot be durable, so that a restart may find the device as it was before;
/// but it serves a confirmed version all the while, and nothing is damaged.
///
/// # Panics
/// When the scenario does not come to its end undisturbed: then it proves nothing.
#[must_use]
pub fn try_every_refusal(scenario: &Scenario, how: Refusal, count: u64) -> Refused {
    let mut refused = Refused::default();
    let first = scenario.device.disk.operations();
    simulate(async {
        let mut play = Play::new(scenario);
        assert_eq!(play.go_on().await, Ok(()), "{} undisturbed", scenario.name);
        for operation in first..play.device.disk.operations() {
            refused.points += 1;
            let mut play = Play::new(scenario);
            play.device.disk.refuse(operation, count, how);
            let mut broken = disturbed(scenario, &mut play.device).await;
            broken.extend(restarted(scenario, &mut play.fork()).await);
            for image in [None, Some(Image::Mixture(operation))] {
                let mut next = play.fork();
                next.device.disk = match image {
                    Some(image) => play.device.disk.survivor(image),
                    None => next.device.disk.handed_over(),
                };
                let again = recovered(scenario, &mut next).await;
                broken.extend(again.into_iter().map(|what| format!("after {image:?}: {what}")));
            }
            let name = scenario.name;
            refused
                .violations
                .extend(broken.into_iter().map(|b| format!("{name} {how:?} at {operation}: {b}")));
        }
    });
    refused
}

/// Goes through the scenario while the disk refuses: what must hold even then.
async fn disturbed(scenario: &Scenario, device: &mut Device) -> Vec<String> {
    let must_serve = scenario.device.said.active.is_some();
    let mut process = match device.start().await {
        Ok(process) => process,
        Err(stopped) if must_serve => return vec![format!("{stopped:?}")],
        // An enrolment that fails is no promise.
        Err(_) => return vec![],
    };
    let mut broken = Vec::new();
    for step in &scenario.steps {
        device.wish(step.version, 1);
        if let Err(stopped) = step.fulfil(device, &mut process).await {
            broken.push(format!("{stopped:?}"));
        }
        broken.extend(invariant_serves(scenario, &process));
    }
    broken.extend(process.host.violations());
    process.kill().await;
    broken
}

/// Starts again on the disk as it is: whatever it refuses, a confirmed version serves.
async fn restarted(scenario: &Scenario, play: &mut Play<'_>) -> Vec<String> {
    play.device.disk = play.device.disk.handed_over();
    match play.device.start().await {
        Ok(process) => {
            let broken = invariant_serves(scenario, &process);
            let stopped = process.stop().await.err().map(|stopped| format!("{stopped:?}"));
            broken.into_iter().chain(stopped).map(|what| format!("restarted meanwhile: {what}")).collect()
        }
        Err(stopped) if scenario.device.said.active.is_some() => {
            vec![format!("no start meanwhile: {stopped:?}")]
        }
        Err(_) => vec![],
    }
}

/// Starts again on a disk that works, and asks again.
async fn recovered(scenario: &Scenario, play: &mut Play<'_>) -> Vec<String> {
    play.device.disk.heal();
    // Enrolment is repeated until it is done; everything else that was said may not have been written down.
    let mut process = match play.device.start().await {
        Ok(process) => process,
        Err(stopped) => return vec![format!("{stopped:?}")],
    };
    let mut broken: Vec<String> = invariant_serves(scenario, &process).into_iter().collect();
    broken.extend(invariants::invariant_trust_never_goes_back(&play.device));
    for step in &scenario.steps {
        play.device.wish(step.version, 2);
        match step.fulfil(&mut play.device, &mut process).await {
            // Confirmed before, while the disk refused, it is on probation no more.
            Ok(ending) if ending == step.ending || step.ending == Ending::Probation => {}
            other => broken.push(format!("{step:?} ended as {other:?}")),
        }
    }
    broken.extend(invariants::at_rest(&play.device, &process));
    process.kill().await;
    broken
}

/// A version serves that was confirmed before the scenario or is asked for in it.
fn invariant_serves(scenario: &Scenario, process: &Process) -> Option<String> {
    let confirmed = scenario.device.said.active.as_ref()?;
    let asked: Vec<Version> = scenario.steps.iter().map(|step| crate::device::parse(step.version)).collect();
    let serving = process.host.serving();
    let holds = serving.as_ref().is_some_and(|s| s.version == *confirmed || asked.contains(&s.version));
    (!holds).then(|| format!("serves: {serving:?}, confirmed {confirmed}"))
}

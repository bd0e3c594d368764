//! The story, step by step. Each step shows one thing and says what was seen.

use super::{
    observe::{Ending, WAIT},
    report::{ACCURACY_MIN, Figures},
    samples::Samples,
    steps::Steps,
    traffic::{Share, Traffic},
    world::{Agent, DEVICES, Enrolled, Fleet, Keys, Places, World},
};
use crate::{
    commands::{bundle::pack_failure, repo::online_key},
    error::Failure,
    output::Output,
    publish,
    repository::{Given, Key, ROOT, Repository, RootPlan, TARGETS},
};
use semver::Version;
use std::time::Duration;
use whimbrel_updater::{bundle, repo::RoleSpec};
use whimbrel_wire::{
    ModelName,
    api::{NewRollout, OnFailure, RolloutState, RolloutView},
    report::ReasonKind,
};

/// Longest time for one step.
const STEP: Duration = Duration::from_secs(240);
/// Time for a batch that was counted twice to show.
const SETTLE: Duration = Duration::from_secs(5);
/// The versions that are meant to serve.
const GOOD: [&str; 2] = ["1.0.0", "2.0.0"];

/// Tells the whole story and leaves everything running.
///
/// # Errors
/// The first step that failed.
pub(crate) async fn tell(places: Places, steps: &mut Steps, figures: &mut Figures) -> Result<World, Failure> {
    let fleet = steps
        .run("start_server", "start the fleet server", STEP, async {
            let fleet = Fleet::start(&places).await?;
            Ok((fleet, "it listens; its CA, certificate and database are made".to_owned()))
        })
        .await?;
    let (keys, repository) = steps
        .run(
            "sign_root",
            "make keys; sign the root of trust with two of them",
            STEP,
            sign_root(&places, &fleet),
        )
        .await?;
    let devices = steps
        .run("enrol", "enrol two devices with one-time tokens", STEP, enrol(&places, &fleet, &repository))
        .await?;
    let step = "start their agents, and an app beside each";
    let mut world = steps.run("start_agents", step, STEP, start_agents(places, fleet, devices)).await?;
    let mut operator = Operator { keys, repository, output: Output { json: true } };

    let result = chapters(&mut world, &mut operator, steps, figures).await;
    let total = world.traffic.total();
    figures.predictions = total.predictions;
    figures.accuracy = total.share(&GOOD).ratio();
    figures.answered_by_fallback = total.by_fallback;
    if result.is_err() {
        steps.say(&world.tails());
    }
    result.map(|()| world)
}

/// Who signs and publishes.
struct Operator {
    keys: Keys,
    repository: Repository,
    output: Output,
}

async fn sign_root(places: &Places, fleet: &Fleet) -> Result<((Keys, Repository), String), Failure> {
    let keys = Keys {
        root: [Key::generate(&places.key("root-a"))?, Key::generate(&places.key("root-b"))?],
        release: Key::generate(&places.key("release"))?,
    };
    let plan = RootPlan {
        root: RoleSpec { keys: vec![keys.root[0].public(), keys.root[1].public()], threshold: 2 },
        targets: RoleSpec { keys: vec![keys.release.public()], threshold: 1 },
        online: online_key(&fleet.client).await?,
    };
    let now = time::OffsetDateTime::now_utc();
    let repository = Repository::init(&places.repository(), &plan, &[&keys.root[0]], now)?;
    // The second signature comes later, as it would from another person on another machine.
    drop(repository.sign(ROOT, &keys.root[1])?);
    publish::push_roots(&fleet.client, &repository).await?;
    Ok(((keys, repository), "2 of 2 root keys signed; the server accepted it".to_owned()))
}

async fn enrol(
    places: &Places,
    fleet: &Fleet,
    repository: &Repository,
) -> Result<(Vec<Enrolled>, String), Failure> {
    let mut devices = Vec::new();
    for number in 1..=DEVICES {
        devices.push(Enrolled::new(places, fleet, repository, number).await?);
    }
    let known = fleet.client.devices().await?;
    if let Some(stranger) = devices.iter().find(|d| known.iter().all(|k| k.id != d.id)) {
        return Err(Failure::failed(
            "enrolling the devices",
            format!("the server does not know {}", stranger.id),
        ));
    }
    let names = devices.iter().map(|d| d.id.as_str()).collect::<Vec<_>>().join(" and ");
    Ok((devices, format!("{names} have certificates for keys that never left them")))
}

/// Starts the agents, and the apps, which send as soon as there is a model.
async fn start_agents(
    places: Places,
    fleet: Fleet,
    devices: Vec<Enrolled>,
) -> Result<(World, String), Failure> {
    let folder = places.bundle(1);
    let packed = bundle::pack(&folder).map_err(|e| pack_failure(&folder, &e))?;
    let traffic = Traffic::start(DEVICES, Samples::read(&places.held_out(), &packed.index().manifest)?)?;
    let mut agents = devices.into_iter().map(Agent::start).collect::<Result<Vec<_>, _>>()?;
    for (device, agent) in agents.iter_mut().enumerate() {
        traffic.point(device, Some(agent.address().await?));
    }
    let mut world = World { traffic, agents, fleet, places };
    world
        .until("both devices to be online", WAIT, async |world| {
            let devices = world.fleet.client.devices().await?;
            Ok((devices.iter().filter(|d| d.online).count() == DEVICES).then_some(()))
        })
        .await?;
    Ok((world, "both are connected through the relays; the apps wait for a model".to_owned()))
}

async fn chapters(
    world: &mut World,
    operator: &mut Operator,
    steps: &mut Steps,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let step = "publish version 1 and roll it out in stages";
    steps.run("roll_out_v1", step, STEP, roll_out_good(world, operator, 1)).await?;
    let step = "publish version 2 and roll it out while version 1 answers";
    steps.run("roll_out_v2", step, STEP, roll_out_good(world, operator, 2)).await?;
    steps
        .run("check_answers", "check the answers against the right classes", STEP, check_answers(world))
        .await?;
    let step = "publish version 3, whose labels are in the wrong order";
    figures.refused = steps.run("refuse_v3", step, STEP, refuse_bad(world, operator)).await?;
    let step = "publish version 4, which fails on bright images only";
    figures.rollbacks = steps.run("roll_back_v4", step, STEP, roll_back_failing(world, operator)).await?;
    steps.run("cut_network", "cut the network between devices and server", STEP, cut_network(world)).await?;
    let step = "kill an agent in the middle of traffic and start it again, without a network";
    figures.cold_start_ms = steps.run("kill_agent", step, STEP, kill_agent(world)).await?;
    let step = "restore the network; every request answered must arrive, once";
    steps.run("reconcile_telemetry", step, STEP, reconcile(world, figures)).await
}

async fn roll_out_good(
    world: &mut World,
    operator: &Operator,
    version: u64,
) -> Result<((), String), Failure> {
    let published = publish(world, operator, version).await?;
    let rollout = start(world, version, vec![50, 100], OnFailure::Pause).await?;
    let wanted = Version::new(version, 0, 0);
    let what = format!("both devices to confirm version {wanted}");
    world
        .until(&what, WAIT, async |world| {
            let view = world.fleet.client.rollout(&rollout.id).await?;
            match view.state {
                RolloutState::Running => Ok(None),
                RolloutState::Done => Ok(Some(())),
                _ => Err(Failure::failed(format!("rolling out {wanted}"), world.stopped(&view).await?)),
            }
        })
        .await?;
    let active = world.active(&wanted).await?;
    if active != DEVICES {
        return Err(Failure::failed(
            format!("rolling out {wanted}"),
            format!("active on {active} devices only"),
        ));
    }
    Ok(((), format!("{published}; first one device, then both; confirmed by live traffic")))
}

async fn check_answers(world: &mut World) -> Result<((), String), Failure> {
    world.still_serves("2.0.0").await?;
    let total = world.traffic.total();
    let Share { right, of } = total.share(&GOOD);
    let ratio = total.share(&GOOD).ratio();
    if ratio <= ACCURACY_MIN {
        let why = format!("{right} of {of} answers are right, expected more than {ACCURACY_MIN}");
        return Err(Failure::failed("checking the answers", why));
    }
    if total.errors > 0 {
        return Err(Failure::failed("checking the answers", format!("{} requests failed", total.errors)));
    }
    Ok(((), format!("{right} of {of} held-out images named rightly ({:.1} %)", ratio * 100.0)))
}

async fn refuse_bad(world: &mut World, operator: &Operator) -> Result<(u64, String), Failure> {
    let version = Version::new(3, 0, 0);
    publish(world, operator, 3).await?;
    let rollout = start(world, 3, vec![100], OnFailure::Pause).await?;
    let refused = world
        .until("both devices to refuse version 3.0.0", WAIT, async |world| {
            let ends = world.endings(&version).await?;
            let refused = ends.iter().filter(|e| **e == Ending::Refused(ReasonKind::GoldenMismatch)).count();
            match ends.iter().find(|e| !matches!(e, Ending::Refused(ReasonKind::GoldenMismatch))) {
                Some(other) => {
                    Err(Failure::failed("offering version 3.0.0", format!("a device ended as {other:?}")))
                }
                None => Ok((refused == DEVICES).then_some(refused)),
            }
        })
        .await?;
    world.still_serves("2.0.0").await?;
    let rollout = world.fleet.client.rollout(&rollout.id).await?;
    if rollout.state == RolloutState::Done || world.traffic.total().by_version.contains_key("3.0.0") {
        return Err(Failure::failed("offering version 3.0.0", "it was accepted"));
    }
    let seen = "both devices refused it: the self-test gave other answers; version 2 serves on";
    Ok((refused as u64, seen.to_owned()))
}

async fn roll_back_failing(world: &mut World, operator: &Operator) -> Result<(u64, String), Failure> {
    let errors_before = world.traffic.total().errors;
    publish(world, operator, 4).await?;
    let rollout = start(world, 4, vec![50, 100], OnFailure::RollBack).await?;
    // The rollout keeps what became of each device: the device itself soon reports the version that it was given back.
    let rollbacks = world
        .until("version 4.0.0 to be taken back", WAIT, async |world| {
            let RolloutView { state, counts, .. } = world.fleet.client.rollout(&rollout.id).await?;
            if counts.active + counts.rejected > 0 {
                let why = format!("{} devices kept it, {} refused it", counts.active, counts.rejected);
                return Err(Failure::failed("offering version 4.0.0", why));
            }
            let back = counts.rolled_back;
            Ok((state == RolloutState::RolledBack && back > 0 && back == counts.asked).then_some(back))
        })
        .await?;
    world.still_serves("2.0.0").await?;
    let total = world.traffic.total();
    if total.errors > errors_before {
        let why = format!("{} requests failed during probation", total.errors - errors_before);
        return Err(Failure::failed("answering during probation", why));
    }
    let seen = format!(
        "{rollbacks} device took it back after live errors; {} answers came from version 2 meanwhile, none failed; \
         the rollout went no further",
        total.by_fallback
    );
    Ok((rollbacks, seen))
}

async fn cut_network(world: &mut World) -> Result<((), String), Failure> {
    world.fleet.network.cut();
    let before = world.traffic.total().predictions;
    for device in 0..DEVICES {
        world.more_answers(device, "answers without a network").await?;
    }
    let answered = world.traffic.total();
    let received = world.received().await?;
    let waiting = answered.answered.saturating_sub(received);
    if waiting == 0 {
        return Err(Failure::failed("cutting the network", "telemetry still arrives"));
    }
    let seen =
        format!("{} answers since; the counts of {waiting} requests wait", answered.predictions - before);
    Ok(((), seen))
}

async fn kill_agent(world: &mut World) -> Result<(f64, String), Failure> {
    world.more_answers(0, "traffic before the kill").await?;
    // At the moment when one more request has just begun.
    let begun = world.traffic.tally(0).begun;
    world.traffic.wait(0, "a request to begin", WAIT, |t| t.begun > begun).await?;
    let agent = &mut world.agents[0];
    agent.kill().await?;
    world.traffic.point(0, None);
    agent.restart()?;
    let address = agent.address().await?;
    world.traffic.point(0, Some(address));
    let tally =
        world.traffic.wait(0, "the first answer of the new process", WAIT, |t| t.first.is_some()).await?;
    let first = tally.first.ok_or_else(|| Failure::failed("measuring the cold start", "no answer"))?;
    if first.version != "2.0.0" {
        let why = format!("version {} answered, expected 2.0.0", first.version);
        return Err(Failure::failed("starting the agent again", why));
    }
    let cold_start = first.at.saturating_duration_since(world.agents[0].started());
    let ms = (cold_start.as_secs_f64() * 10_000.0).round() / 10.0;
    world.more_answers(0, "traffic after the kill").await?;
    Ok((ms, format!("version 2 answered {ms:.0} ms after the new process began")))
}

async fn reconcile(world: &mut World, figures: &mut Figures) -> Result<((), String), Failure> {
    world.fleet.network.restore();
    let paused = world.traffic.pause().await;
    let total = world.traffic.total();
    let arrived = world
        .until("telemetry to arrive", WAIT, async |world| {
            let received = world.received().await?;
            figures.reconcile(total.answered, total.ambiguous, received);
            Ok((received >= total.answered).then_some(()))
        })
        .await;
    if arrived.is_ok() {
        tokio::time::sleep(SETTLE).await;
        figures.reconcile(total.answered, total.ambiguous, world.received().await?);
    }
    drop(paused);
    arrived?;
    if figures.telemetry_duplicated > 0 {
        let why = format!("{} requests were counted twice", figures.telemetry_duplicated);
        return Err(Failure::failed("comparing telemetry", why));
    }
    let seen = format!(
        "{} requests answered, {} arrived, none lost, none twice ({} broke off with the killed process)",
        figures.telemetry_sent, figures.telemetry_received, figures.telemetry_ambiguous
    );
    Ok(((), seen))
}

async fn publish(world: &World, operator: &Operator, version: u64) -> Result<String, Failure> {
    let folder = world.places.bundle(version);
    let packed = bundle::pack(&folder).map_err(|e| pack_failure(&folder, &e))?;
    let now = time::OffsetDateTime::now_utc();
    let keys = [&operator.keys.release];
    let (client, repository) = (&world.fleet.client, &operator.repository);
    drop(repository.sign_bundle(TARGETS, &packed, Given::new(&keys, now))?);
    let done = publish::publish(client, repository, TARGETS, &packed, operator.output).await?;
    Ok(format!("published with {} of {} chunks to upload", done.uploaded_chunks, done.chunks))
}

async fn start(
    world: &World,
    version: u64,
    stages: Vec<u8>,
    on_failure: OnFailure,
) -> Result<RolloutView, Failure> {
    let new = NewRollout {
        model: model()?,
        version: Version::new(version, 0, 0),
        stages,
        tags: vec!["demo".to_owned()],
        success_percent_min: 95,
        on_failure,
        soak_s: 0,
    };
    world.fleet.client.start_rollout(&new).await
}

fn model() -> Result<ModelName, Failure> {
    "digits".parse().map_err(|e| Failure::failed("naming the model", e))
}

//! What a device refuses, and what it waits out.

use super::*;
use crate::{repo::TargetsEdit, testing::key};

#[tokio::test(start_paused = true)]
async fn a_version_below_the_floor_is_refused_even_when_it_is_on_disk() {
    let mut world = World::with_active().await;
    world.ask("1.2.0", 1);
    world.confirm("1.2.0").await;
    world.repo.set_floor("m", "1.2.0");
    world.ask("1.1.0", 2);
    world.until_failed("1.1.0", ReasonKind::BelowFloor).await;
    assert_eq!(world.host.serving(), serving("1.2.0", None));
    world.ask("1.3.0", 1);
    world.confirm("1.3.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_floor_once_seen_stays_though_the_server_withholds_it() {
    let mut world = World::with_active().await;
    world.repo.set_floor("m", "1.2.0");
    world.ask("1.2.0", 1);
    world.confirm("1.2.0").await;
    world.repo.set_floor("m", "1.0.0");
    world.ask("1.0.0", 1);
    world.until_failed("1.0.0", ReasonKind::BelowFloor).await;
    world.restart().await;
    world.ask("1.0.0", 2);
    world.until("the second refusal", |u| u.attempt == 2 && u.progress.is_final()).await;
    world.until_failed("1.0.0", ReasonKind::BelowFloor).await;
}

#[tokio::test(start_paused = true)]
async fn corrupt_chunks_are_refused() {
    let mut world = World::with_active().await;
    for chunk in world.server().lock().chunks.values_mut() {
        *chunk = vec![0; chunk.len()];
    }
    world.ask("1.2.0", 1);
    world.until_failed("1.2.0", ReasonKind::Corrupt).await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    assert_eq!(world.slots(), 1);
}

#[tokio::test(start_paused = true)]
async fn missing_and_endless_chunks_are_refused() {
    let mut world = World::with_active().await;
    for chunk in world.server().lock().chunks.values_mut() {
        chunk.resize(1 << 20, 0);
    }
    world.ask("1.2.0", 1);
    world.until_failed("1.2.0", ReasonKind::TooLarge).await;
    world.server().lock().chunks.clear();
    world.ask("1.2.0", 2);
    world.until("the second refusal", |u| u.attempt == 2 && u.progress.is_final()).await;
    world.until_failed("1.2.0", ReasonKind::Network).await;
}

#[tokio::test(start_paused = true)]
async fn an_index_that_is_not_the_signed_one_is_refused() {
    let mut world = World::with_active().await;
    for index in world.server().lock().targets.values_mut() {
        let last = index.len() - 1;
        index[last] ^= 1;
    }
    world.ask("1.2.0", 1);
    world.until_failed("1.2.0", ReasonKind::Corrupt).await;
}

#[tokio::test(start_paused = true)]
async fn targets_that_nobody_signed_or_that_hold_another_version_are_refused() {
    let mut world = World::with_active().await;
    world.ask("9.0.0", 1);
    world.until_failed("9.0.0", ReasonKind::Inconsistent).await;
    world.ask_for("9.0.1", "m/1.0.0.wbi", 1);
    world.until_failed("9.0.1", ReasonKind::Inconsistent).await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
}

#[tokio::test(start_paused = true)]
async fn metadata_signed_by_a_stolen_online_key_alone_cannot_release() {
    let mut world = World::with_active().await;
    world.repo.targets = crate::testing::forge(
        &world.repo.targets,
        |signed| signed["version"] = serde_json::json!(99),
        &[key(5)],
    );
    world.repo.publish(now());
    world.ask("1.2.0", 1);
    world.until_failed("1.2.0", ReasonKind::Signature).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_too_old_for_the_bundle_refuses_it_before_chunks_move() {
    let mut world = World::with_active().await;
    let next = pack("m", "1.4.0", b"model", "[needs]\nagent_min = \"0.2.0\"");
    world.repo.release(&next);
    let before = world.server().lock().chunk_requests();
    world.ask("1.4.0", 1);
    world.until_failed("1.4.0", ReasonKind::AgentTooOld).await;
    assert_eq!(world.server().lock().chunk_requests(), before);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_cannot_be_loaded_is_refused() {
    let mut world = World::with_active().await;
    world.host.lock().fails_load.insert("1.2.0".into());
    world.ask("1.2.0", 1);
    let report = world.until_failed("1.2.0", ReasonKind::Load).await;
    assert_eq!(report.update.expect("there").progress.as_str(), "rejected");
    assert_eq!(world.host.serving(), serving("1.1.0", None));
}

#[tokio::test(start_paused = true)]
async fn a_network_that_is_gone_for_days_is_waited_out() {
    let mut world = World::with_active().await;
    world.server().lock().offline = true;
    world.ask("1.2.0", 1);
    tokio::time::sleep(Duration::from_secs(3 * 86_400)).await;
    world.until_progress("1.2.0", "resolving").await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    let asked = world.server().lock().log.len();
    assert!(asked < 100_000, "{asked} requests");
    world.server().lock().offline = false;
    world.confirm("1.2.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_network_that_goes_while_chunks_are_fetched_is_waited_out() {
    let mut world = World::with_active().await;
    world.server().lock().chunks_left = Some(0);
    world.ask("1.2.0", 1);
    world.until_progress("1.2.0", "fetching").await;
    world.restart().await;
    world.until_progress("1.2.0", "fetching").await;
    world.kill().await;
    world.server().lock().chunks_left = None;
    world.server().lock().offline = true;
    world.start().await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    world.until_progress("1.2.0", "resolving").await;
    world.server().lock().offline = false;
    world.confirm("1.2.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_damaged_trust_folder_stops_updates_but_not_the_model() {
    let mut world = World::with_active().await;
    world.kill().await;
    std::fs::write(world.dir.path().join("trust/timestamp.json"), b"junk").expect("damages");
    world.start().await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    world.ask("1.2.0", 1);
    world.until_failed("1.2.0", ReasonKind::Disk).await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_release_can_not_be_installed() {
    let mut world = World::with_active().await;
    world.repo.edit(&TargetsEdit { remove: vec!["m/1.2.0.wbi".into()], ..TargetsEdit::default() });
    world.ask("1.2.0", 1);
    world.until_failed("1.2.0", ReasonKind::Inconsistent).await;
}

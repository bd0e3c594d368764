//! The process ends in the middle of each phase and begins again.

use super::*;

#[tokio::test(start_paused = true)]
async fn while_metadata_cannot_be_had() {
    let mut world = World::with_active().await;
    world.server().lock().offline = true;
    world.ask("1.2.0", 1);
    world.until_progress("1.2.0", "resolving").await;
    world.restart().await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    world.until_progress("1.2.0", "resolving").await;
    world.server().lock().offline = false;
    world.confirm("1.2.0").await;
}

#[tokio::test(start_paused = true)]
async fn while_chunks_are_fetched_and_none_is_fetched_twice() {
    let mut world = World::with_active().await;
    world.server().lock().log.clear();
    world.server().lock().chunks_left = Some(3);
    world.ask("1.2.0", 1);
    let fetched_three =
        |u: &Update| matches!(u.progress, Progress::Fetching { done_bytes, .. } if done_bytes > 0);
    world.until("the first chunks", fetched_three).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.restart().await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    world.server().lock().chunks_left = None;
    world.confirm("1.2.0").await;
    let log = world.server().lock().log.clone();
    let chunks: Vec<_> = log.iter().filter(|what| what.starts_with("chunk")).collect();
    let different: BTreeSet<_> = chunks.iter().collect();
    assert!(chunks.len() > 3);
    assert_eq!(chunks.len(), different.len());
    assert_eq!(log.iter().filter(|what| what.starts_with("target")).count(), 1, "nor is the index");
}

#[tokio::test(start_paused = true)]
async fn while_the_self_test_runs_and_not_for_ever() {
    let mut world = World::with_active().await;
    world.ask("1.2.0", 1);
    for _ in 0..crate::machine::TEST_STARTS_MAX {
        world.host.lock().hangs = true;
        world.until_progress("1.2.0", "self_test").await;
        while world.host.lock().tested.last().is_none_or(|v| v != "1.2.0") {
            tokio::task::yield_now().await;
        }
        world.kill().await;
        let before = world.server().lock().chunk_requests();
        world.start().await;
        world.host.lock().hangs = true;
        assert_eq!(world.host.serving(), serving("1.1.0", None));
        world.until("its next start or end", |u| u.version.to_string() == "1.2.0").await;
        assert_eq!(world.slots(), 2, "it stays installed");
        assert_eq!(world.server().lock().chunk_requests(), before, "it is installed already");
    }
    world.until_failed("1.2.0", ReasonKind::Crashed).await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    world.host.lock().hangs = false;
    world.ask("1.2.0", 2);
    world.confirm("1.2.0").await;
}

#[tokio::test(start_paused = true)]
async fn while_the_candidate_serves_until_it_crashed_too_often() {
    let mut world = World::with_active().await;
    world.ask("1.2.0", 1);
    world.until_progress("1.2.0", "probation").await;
    world.restart().await;
    assert_eq!(world.host.serving(), serving("1.2.0", Some("1.1.0")), "before anything is asked for");
    world.until_progress("1.2.0", "probation").await;
    world.restart().await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    let report = world.until_failed("1.2.0", ReasonKind::Crashed).await;
    assert_eq!(report.update.expect("there").progress.as_str(), "rolled_back");
    world.restart().await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    world.until_failed("1.2.0", ReasonKind::Crashed).await;
}

#[tokio::test(start_paused = true)]
async fn while_the_candidate_serves_and_it_passes_afterwards() {
    let mut world = World::with_active().await;
    world.ask("1.2.0", 1);
    world.until_progress("1.2.0", "probation").await;
    world.traffic(9, 0);
    world.restart().await;
    world.confirm("1.2.0").await;
    world.restart().await;
    assert_eq!(world.host.serving(), serving("1.2.0", None));
}

#[tokio::test(start_paused = true)]
async fn a_first_version_that_crashes_too_often_leaves_nothing_serving() {
    let mut world = World::new().await;
    world.ask("1.1.0", 1);
    for _ in 0..2 {
        world.until_progress("1.1.0", "probation").await;
        world.restart().await;
    }
    assert_eq!(world.host.serving(), None);
    world.until_failed("1.1.0", ReasonKind::Crashed).await;
}

#[tokio::test(start_paused = true)]
async fn in_order_and_the_candidate_is_not_blamed() {
    let mut world = World::with_active().await;
    world.ask("1.2.0", 1);
    for _ in 0..5 {
        world.until_progress("1.2.0", "probation").await;
        world.stop().await;
        world.start().await;
        assert_eq!(world.host.serving(), serving("1.2.0", Some("1.1.0")));
    }
    world.confirm("1.2.0").await;
}

#[tokio::test(start_paused = true)]
async fn when_the_active_version_cannot_be_loaded_any_more_the_one_before_serves() {
    let mut world = World::with_active().await;
    world.ask("1.2.0", 1);
    world.confirm("1.2.0").await;
    world.host.lock().fails_load.insert("1.2.0".into());
    world.restart().await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    let report = world.until_failed("1.2.0", ReasonKind::Load).await;
    assert_eq!(report.active.expect("active").version.to_string(), "1.1.0");
}

#[tokio::test(start_paused = true)]
async fn with_a_candidate_whose_files_are_gone() {
    let mut world = World::with_active().await;
    world.ask("1.2.0", 1);
    world.until_progress("1.2.0", "probation").await;
    world.kill().await;
    let slots = std::fs::read_dir(world.dir.path().join("models/m")).expect("lists");
    for slot in slots.map(|e| e.expect("an entry").path()) {
        let bundle = InstalledBundle::open(&slot).expect("a bundle");
        if bundle.manifest.version == Version::new(1, 2, 0) {
            std::fs::remove_dir_all(slot).expect("removes");
        }
    }
    world.start().await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    world.until_failed("1.2.0", ReasonKind::Disk).await;
}

#[tokio::test(start_paused = true)]
async fn with_a_damaged_journal_only_that_model_is_left_alone() {
    let mut world = World::with_active().await;
    world.kill().await;
    std::fs::write(world.dir.path().join("journal/n.journal"), b"junk").expect("damages");
    let config = EngineConfig::new(world.dir.path(), Version::new(0, 1, 0));
    let engine = Engine::open(config, world.host.clone(), world.server().clone()).await.expect("opens");
    assert_eq!(engine.broken().len(), 1);
    assert_eq!(engine.broken()[0].0.as_str(), "n");
    world.start().await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    world.ask("1.2.0", 1);
    world.confirm("1.2.0").await;
}

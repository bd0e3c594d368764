//! Updates that go well, and those that are taken back.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_first_version_is_installed_and_confirmed_without_a_fallback() {
    let mut world = World::new().await;
    world.ask("1.1.0", 1);
    world.until_progress("1.1.0", "probation").await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    world.confirm("1.1.0").await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    assert_eq!(world.host.lock().tested, ["1.1.0"]);
    assert_eq!(world.names().len(), 1, "nothing is kept beside the bundle: {:?}", world.names());
}

#[tokio::test(start_paused = true)]
async fn an_update_has_the_old_version_behind_it_until_it_is_confirmed() {
    let mut world = World::with_active().await;
    world.ask("1.2.0", 1);
    let report = world.until_progress("1.2.0", "probation").await;
    assert_eq!(report.active.expect("active").version.to_string(), "1.1.0");
    assert_eq!(world.host.serving(), serving("1.2.0", Some("1.1.0")));
    world.confirm("1.2.0").await;
    assert_eq!(world.host.serving(), serving("1.2.0", None));
    world.ask("1.3.0", 1);
    world.confirm("1.3.0").await;
    assert_eq!(world.slots(), 2, "only the active version and the one before stay on disk");
}

#[tokio::test(start_paused = true)]
async fn time_ends_probation_too() {
    let mut world = World::with_active().await;
    world.ask("1.2.0", 1);
    world.until_progress("1.2.0", "probation").await;
    world.traffic(5, 0);
    world.until_progress("1.2.0", "active").await;
    world.ask("1.3.0", 1);
    world.until_progress("1.3.0", "probation").await;
    world.traffic(4, 0);
    world.until_failed("1.3.0", ReasonKind::NotEnoughTraffic).await;
    assert_eq!(world.host.serving(), serving("1.2.0", None));
}

#[tokio::test(start_paused = true)]
async fn failing_requests_take_the_candidate_back_and_it_can_be_offered_again() {
    let mut world = World::with_active().await;
    world.ask("1.2.0", 1);
    world.until_progress("1.2.0", "probation").await;
    world.traffic(6, 2);
    let report = world.until_failed("1.2.0", ReasonKind::ErrorRate).await;
    assert_eq!(report.update.expect("there").progress.as_str(), "rolled_back");
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    assert_eq!(world.slots(), 1);
    world.ask("1.2.0", 2);
    world.confirm("1.2.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_first_version_that_fails_in_probation_leaves_nothing_serving() {
    let mut world = World::new().await;
    world.ask("1.1.0", 1);
    world.until_progress("1.1.0", "probation").await;
    world.traffic(5, 5);
    let report = world.until_failed("1.1.0", ReasonKind::ErrorRate).await;
    assert_eq!(report.active, None);
    assert_eq!(world.host.serving(), None);
}

#[tokio::test(start_paused = true)]
async fn a_failed_self_test_keeps_the_old_version_and_is_not_repeated() {
    let mut world = World::with_active().await;
    world.host.lock().fails_test.insert("1.2.0".into());
    world.ask("1.2.0", 1);
    let report = world.until_failed("1.2.0", ReasonKind::GoldenMismatch).await;
    assert_eq!(report.update.expect("there").progress.as_str(), "rejected");
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    world.restart().await;
    world.until_failed("1.2.0", ReasonKind::GoldenMismatch).await;
    world.server().lock().log.clear();
    world.ask("1.2.0", 1);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.host.lock().tested, Vec::<String>::new(), "also not after a restart");
    assert!(world.server().lock().log.is_empty());
    world.host.lock().fails_test.clear();
    world.ask("1.2.0", 2);
    world.confirm("1.2.0").await;
}

#[tokio::test(start_paused = true)]
async fn going_back_to_the_version_before_needs_no_download() {
    let mut world = World::with_active().await;
    world.ask("1.2.0", 1);
    world.confirm("1.2.0").await;
    world.server().lock().log.clear();
    world.ask("1.1.0", 2);
    world.confirm("1.1.0").await;
    let log = world.server().lock().log.clone();
    assert!(log.iter().any(|what| what == "timestamp.json"), "the metadata is asked");
    assert_eq!(world.server().lock().chunk_requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn chunks_that_the_active_version_has_are_not_fetched() {
    let mut world = World::with_active().await;
    let mut content = crate::testing::noise(2, 400_000);
    content[200_000] ^= 1;
    let next = pack("m", "1.4.0", &content, GATES);
    assert!(next.chunks().len() > 4);
    world.repo.release(&next);
    let before = world.server().lock().chunk_requests();
    world.ask("1.4.0", 1);
    world.confirm("1.4.0").await;
    assert!(world.server().lock().chunk_requests() - before <= 2);
}

#[tokio::test(start_paused = true)]
async fn a_newer_wish_takes_over_while_chunks_are_fetched() {
    let mut world = World::with_active().await;
    world.server().lock().chunks_left = Some(1);
    world.ask("1.2.0", 1);
    world.until_progress("1.2.0", "fetching").await;
    world.server().lock().chunks_left = None;
    world.ask("1.3.0", 1);
    world.confirm("1.3.0").await;
    assert_eq!(world.host.lock().tested, ["1.1.0", "1.3.0"]);
}

#[tokio::test(start_paused = true)]
async fn asking_for_the_active_version_again_ends_probation() {
    let mut world = World::with_active().await;
    world.ask("1.2.0", 1);
    world.until_progress("1.2.0", "probation").await;
    world.ask("1.1.0", 1);
    world.until_progress("1.1.0", "active").await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    world.ask("1.2.0", 1);
    world.confirm("1.2.0").await;
}

#[tokio::test(start_paused = true)]
async fn several_models_update_side_by_side() {
    let mut world = World::with_active().await;
    let other = pack("n", "1.0.0", b"another model", "[probation]\nseconds = 1");
    world.repo.release(&other);
    let mut state = world.desired.borrow().clone().expect("asked");
    state.serial += 1;
    let name: ModelName = "n".parse().expect("a name");
    let version = Version::new(1, 0, 0);
    state.models.push(DesiredModel {
        name: name.clone(),
        version: version.clone(),
        target: "n/1.0.0.wbi".into(),
        attempt: 1,
        rollout: String::new(),
    });
    world.desired.send_replace(Some(state));
    let (_, reports) = world.running.as_mut().expect("runs");
    let active = |reports: &Vec<ModelReport>| {
        reports.iter().any(|r| r.name == name && r.active.as_ref().is_some_and(|a| a.version == version))
    };
    let wait = timeout(Duration::from_secs(600), reports.wait_for(active));
    let names: Vec<_> = wait.await.expect("in time").expect("runs").iter().map(|r| r.name.clone()).collect();
    assert_eq!(names, [model(), name.clone()]);
}

#[tokio::test(start_paused = true)]
async fn an_older_desired_state_is_ignored() {
    let mut world = World::with_active().await;
    world.serial = 9;
    world.ask("1.1.0", 2);
    world.until("the newest wish", |u| u.attempt == 2).await;
    world.serial = 7;
    world.ask("1.2.0", 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    world.serial = 10;
    world.ask("1.2.0", 1);
    world.confirm("1.2.0").await;
}

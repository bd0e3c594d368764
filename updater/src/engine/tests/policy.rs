//! Not now: what the device's own rules hold back waits, is reported, and goes on.

use super::*;
use crate::policy::{DownloadPolicy, LocalTime, Metered, Surroundings};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// An hour and a link that a test sets.
#[derive(Debug, Default)]
struct Setting {
    hour: AtomicU8,
    metered: AtomicBool,
}

impl Surroundings for Setting {
    fn local_time(&self) -> LocalTime {
        LocalTime::new(0, self.hour.load(Ordering::Relaxed), 0)
    }

    fn is_metered(&self) -> bool {
        self.metered.load(Ordering::Relaxed)
    }
}

/// A device with 1.1.0 active under this policy.
async fn under(policy: DownloadPolicy) -> (World, Arc<Setting>) {
    let mut world = World::with_active().await;
    world.kill().await;
    let setting = Arc::new(Setting::default());
    world.policy = policy;
    world.surroundings = Arc::clone(&setting) as Arc<dyn Surroundings>;
    world.start().await;
    (world, setting)
}

fn waits(update: &Update) -> bool {
    update.waiting.as_ref().is_some_and(|reason| reason.kind == ReasonKind::Policy)
}

#[tokio::test(start_paused = true)]
async fn a_bundle_waits_for_its_window_and_the_report_says_so() {
    let windows = vec!["22:00-06:00".parse().expect("a window")];
    let (mut world, setting) = under(DownloadPolicy { windows, ..DownloadPolicy::default() }).await;
    setting.hour.store(12, Ordering::Relaxed);
    let before = world.server().lock().chunk_requests();
    world.ask("1.2.0", 1);
    let report = world.until("waiting", waits).await;
    assert_eq!(report.update.expect("there").progress.as_str(), "fetching");
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    assert_eq!(world.server().lock().chunk_requests(), before);
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    setting.hour.store(23, Ordering::Relaxed);
    world.confirm("1.2.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_window_that_ends_holds_the_rest_back_and_keeps_what_came() {
    let windows = vec!["22:00-06:00".parse().expect("a window")];
    let (mut world, setting) = under(DownloadPolicy { windows, ..DownloadPolicy::default() }).await;
    setting.hour.store(22, Ordering::Relaxed);
    world.server().lock().log.clear();
    world.server().lock().chunks_left = Some(2);
    world.ask("1.2.0", 1);
    world.until_progress("1.2.0", "fetching").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    setting.hour.store(7, Ordering::Relaxed);
    world.restart().await;
    world.server().lock().chunks_left = None;
    world.until("waiting", waits).await;
    setting.hour.store(1, Ordering::Relaxed);
    world.confirm("1.2.0").await;
    let log = world.server().lock().log.clone();
    let chunks: Vec<_> = log.iter().filter(|what| what.starts_with("chunk")).collect();
    assert_eq!(chunks.len(), chunks.iter().collect::<BTreeSet<_>>().len(), "none is fetched twice");
}

#[tokio::test(start_paused = true)]
async fn a_metered_link_takes_small_bundles_only() {
    let metered = Metered::Small { bytes_max: 100_000 };
    let (mut world, setting) = under(DownloadPolicy { metered, ..DownloadPolicy::default() }).await;
    setting.metered.store(true, Ordering::Relaxed);
    let small = pack("m", "1.1.1", &crate::testing::noise(77, 50_000), GATES);
    world.repo.release(&small);
    world.ask("1.2.0", 1);
    world.until("waiting", waits).await;
    world.ask("1.1.1", 1);
    world.confirm("1.1.1").await;
    world.ask("1.2.0", 2);
    world.until("waiting", waits).await;
    setting.metered.store(false, Ordering::Relaxed);
    world.confirm("1.2.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_cap_on_bytes_per_second_is_kept() {
    let bytes_per_s_max = std::num::NonZeroU64::new(1000);
    let (mut world, _) = under(DownloadPolicy { bytes_per_s_max, ..DownloadPolicy::default() }).await;
    let begun = tokio::time::Instant::now();
    world.ask("1.2.0", 1);
    world.confirm("1.2.0").await;
    // Some 400,000 bytes; time is the runtime's own and passes only as it is waited for.
    assert!(begun.elapsed() >= Duration::from_secs(390), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn another_wish_ends_the_wait_at_once() {
    let (mut world, setting) =
        under(DownloadPolicy { metered: Metered::Never, ..DownloadPolicy::default() }).await;
    setting.metered.store(true, Ordering::Relaxed);
    world.ask("1.2.0", 1);
    world.until("waiting", waits).await;
    world.ask("1.1.0", 2);
    world.until("the old wish", |u| u.version == Version::new(1, 1, 0) && u.waiting.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_network_that_is_away_is_told_as_what_is_waited_for() {
    let mut world = World::with_active().await;
    world.server().lock().offline = true;
    world.ask("1.2.0", 1);
    let away = |u: &Update| u.waiting.as_ref().is_some_and(|reason| reason.kind == ReasonKind::Network);
    world.until("waiting", away).await;
    world.server().lock().offline = false;
    world.confirm("1.2.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_bundle_that_waits_does_not_hold_up_that_of_another_model() {
    let metered = Metered::Small { bytes_max: 100_000 };
    let (mut world, setting) = under(DownloadPolicy { metered, ..DownloadPolicy::default() }).await;
    setting.metered.store(true, Ordering::Relaxed);
    let big = pack("m", "1.4.0", &crate::testing::noise(60, 4_000_000), GATES);
    assert!(big.chunks().len() > CHUNK_WINDOW);
    world.repo.release(&big);
    world.repo.release(&pack("n", "1.0.0", &crate::testing::noise(61, 50_000), GATES));
    world.ask("1.4.0", 1);
    world.until("waiting", waits).await;
    world.take_another_model().await;
}

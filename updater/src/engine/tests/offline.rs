//! A bundle from a file goes the way of every other.

use super::*;
use crate::bundle::{Archive, Packed};

impl World {
    /// A file with a bundle and the metadata that the server has now.
    fn archive(&self, packed: &Packed) -> Archive {
        let mut packed = packed.clone();
        packed.metadata = self.server().lock().metadata.clone();
        let path = self.dir.path().join("offline.wbundle");
        packed.write(std::fs::File::create(&path).expect("creates")).expect("writes");
        Archive::open(&path).expect("opens")
    }

    /// Runs the process on a file until this progress of the version, then stops it in order.
    async fn install(&mut self, archive: Archive, version: &str, word: &str) {
        self.begin(archive, version).await;
        self.until_progress(version, word).await;
        self.stop().await;
    }
}

fn bundle(version: &str) -> Packed {
    pack("m", version, &crate::testing::noise(50, 300_000), GATES)
}

#[tokio::test(start_paused = true)]
async fn it_is_tested_put_on_probation_and_confirmed_later() {
    let mut world = World::with_active().await;
    let packed = bundle("1.5.0");
    world.repo.release(&packed);
    let archive = world.archive(&packed);
    let before = world.server().lock().log.len();
    world.install(archive, "1.5.0", "probation").await;
    assert_eq!(world.host.lock().tested, ["1.5.0"]);
    assert_eq!(world.server().lock().log.len(), before, "no network is needed");
    world.start().await;
    assert_eq!(world.host.serving(), serving("1.5.0", Some("1.1.0")));
    world.confirm("1.5.0").await;
}

#[tokio::test(start_paused = true)]
async fn one_that_nobody_signed_is_refused() {
    let mut world = World::with_active().await;
    let archive = world.archive(&bundle("1.5.0"));
    world.install(archive, "1.5.0", "rejected").await;
    world.start().await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
    world.until_failed("1.5.0", ReasonKind::Inconsistent).await;
}

#[tokio::test(start_paused = true)]
async fn one_older_than_what_the_device_has_seen_is_refused() {
    let mut world = World::with_active().await;
    let packed = bundle("1.5.0");
    world.repo.release(&packed);
    let archive = world.archive(&packed);
    // The device then learns of newer metadata with a floor.
    world.repo.set_floor("m", "1.6.0");
    world.ask("1.2.0", 1);
    world.until_failed("1.2.0", ReasonKind::BelowFloor).await;
    world.begin(archive, "1.5.0").await;
    let replayed = |u: &Update| u.waiting.as_ref().is_some_and(|r| r.kind == ReasonKind::Replayed);
    world.until("1.5.0 to be found too old", replayed).await;
    assert_eq!(world.host.serving(), serving("1.1.0", None));
}

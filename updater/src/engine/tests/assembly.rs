//! What is on the device is not fetched: of whatever model, whole or in the making.

use super::*;
use crate::testing::noise;
use std::path::PathBuf;

impl World {
    fn requests(&self) -> usize {
        self.server().lock().chunk_requests()
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join("models/m").join(name)
    }

    /// Stops the update of a version after that many chunks, and the process with it.
    async fn cut(&mut self, version: &str, chunks: usize) {
        self.server().lock().chunks_left = Some(chunks);
        self.ask(version, 1);
        self.until_progress(version, "fetching").await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.kill().await;
        self.server().lock().chunks_left = None;
    }

    fn partials(&self) -> Vec<String> {
        self.names().into_iter().filter(|name| name.ends_with(".partial")).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn content_of_another_model_is_copied() {
    let mut world = World::with_active().await;
    world.repo.release(&pack("n", "1.0.0", &noise(2, 400_000), GATES));
    let before = world.requests();
    world.take_another_model().await;
    assert_eq!(world.requests(), before, "the active version of m has all of it");
}

#[tokio::test(start_paused = true)]
async fn content_of_the_version_before_is_copied() {
    let mut world = World::with_active().await;
    world.ask("1.2.0", 1);
    world.confirm("1.2.0").await;
    world.repo.release(&pack("m", "1.4.0", &noise(2, 400_000), GATES));
    let before = world.requests();
    world.ask("1.4.0", 1);
    world.confirm("1.4.0").await;
    assert_eq!(world.requests(), before, "1.1.0 has all of it");
}

#[tokio::test(start_paused = true)]
async fn content_that_a_bundle_holds_twice_is_fetched_once() {
    let mut world = World::new().await;
    let twice = pack("m", "1.4.0", &[noise(9, 300_000), noise(9, 300_000)].concat(), GATES);
    let different = twice.chunks().len();
    assert!(twice.index().chunks().count() > different);
    world.repo.release(&twice);
    world.ask("1.4.0", 1);
    world.confirm("1.4.0").await;
    assert_eq!(world.requests(), different);
}

#[tokio::test(start_paused = true)]
async fn a_torn_region_is_fetched_again_and_nothing_else() {
    let mut world = World::new().await;
    world.cut("1.1.0", 3).await;
    let folder = world.folder(&world.partials()[0]);
    let bytes = std::fs::read(folder.join("model.onnx")).expect("reads");
    let written = bytes.iter().position(|byte| *byte != 0).expect("some chunk is there");
    let mut torn = bytes.clone();
    torn[written..written + 512].fill(0);
    std::fs::write(folder.join("model.onnx"), torn).expect("tears");
    world.start().await;
    world.confirm("1.1.0").await;
    let log = world.server().lock().log.clone();
    let chunks: Vec<_> = log.iter().filter(|what| what.starts_with("chunk")).collect();
    let different: BTreeSet<_> = chunks.iter().collect();
    assert_eq!(chunks.len(), different.len() + 1, "only the torn one was asked for twice");
}

#[tokio::test(start_paused = true)]
async fn what_was_fetched_for_a_version_that_another_took_over_from_is_not_lost() {
    let mut world = World::with_active().await;
    world.server().lock().log.clear();
    world.cut("1.3.0", 3).await;
    world.ask("1.2.0", 1);
    world.start().await;
    world.confirm("1.2.0").await;
    assert_eq!(world.partials().len(), 1, "1.3.0 is newer, and may be asked for again");
    world.ask("1.3.0", 2);
    world.confirm("1.3.0").await;
    let log = world.server().lock().log.clone();
    let chunks: Vec<_> = log.iter().filter(|what| what.starts_with("chunk")).collect();
    assert_eq!(chunks.len(), chunks.iter().collect::<BTreeSet<_>>().len());
    assert!(world.partials().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_version_before_is_mended_with_what_is_whole_in_it() {
    let mut world = World::with_active().await;
    world.ask("1.2.0", 1);
    world.confirm("1.2.0").await;
    let damaged = world.names().into_iter().map(|name| world.folder(&name)).find(|folder| {
        let bundle = InstalledBundle::open(folder).expect("whole");
        bundle.manifest.version == Version::new(1, 1, 0)
    });
    let path = damaged.expect("there").join("model.onnx");
    let mut bytes = std::fs::read(&path).expect("reads");
    bytes[1000] ^= 1;
    std::fs::write(&path, bytes).expect("damages");
    let before = world.requests();
    world.ask("1.1.0", 2);
    world.confirm("1.1.0").await;
    assert_eq!(world.requests() - before, 1, "one chunk of it was damaged");
    InstalledBundle::open(path.parent().expect("a folder")).expect("whole again");
}

#[tokio::test(start_paused = true)]
async fn a_bundle_put_in_place_just_before_the_process_ended_is_not_fetched_again() {
    let mut world = World::with_active().await;
    world.host.lock().hangs = true;
    world.ask("1.2.0", 1);
    world.until_progress("1.2.0", "self_test").await;
    world.kill().await;
    // As if the journal had not been written after the bundle was put in place.
    let journal = Journal::open(Arc::new(Files), &world.dir.path().join("journal"));
    let journal = journal.expect("opens");
    let record = journal.read(&model()).expect("reads").expect("is there");
    journal.write(&model(), &Record { update: None, ..record }).expect("writes");
    let before = world.requests();
    world.start().await;
    world.confirm("1.2.0").await;
    assert_eq!(world.requests(), before);
}

#[tokio::test(start_paused = true)]
async fn what_no_journal_names_is_cleared_at_the_start() {
    let mut world = World::with_active().await;
    world.kill().await;
    let junk = [world.folder(".old.tmp"), world.folder("junk"), world.dir.path().join("models/n/junk")];
    for junk in &junk {
        std::fs::create_dir_all(junk).expect("creates");
    }
    std::fs::create_dir(world.dir.path().join("chunks")).expect("creates");
    world.start().await;
    assert_eq!(world.names().len(), 1);
    assert!(junk.iter().all(|junk| !junk.exists()));
    assert!(!world.dir.path().join("chunks").exists(), "older versions kept chunks there");
    assert_eq!(world.host.serving(), serving("1.1.0", None));
}

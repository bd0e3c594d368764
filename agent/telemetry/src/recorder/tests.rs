use super::*;
use crate::spool::{Appended, SledSpool, SpoolConfig, SpoolStat};
use std::fs;
use whimbrel_wire::{
    decode,
    telemetry::{Batch, Feature, Prediction, Reduce},
};

const NOW: i64 = 1_700_000_000_000;

fn model() -> ModelName {
    "digits".parse().expect("valid")
}
fn reference(features: usize, edges: usize) -> Reference {
    let feature = |i: usize| Feature {
        name: format!("f{i}"),
        tensor: "image".into(),
        reduce: Reduce::Mean {},
        edges: (0..edges).map(|e| e as f64 / edges as f64).collect(),
        counts: vec![1; edges + 1],
    };
    Reference {
        features: (0..features).map(feature).collect(),
        prediction: Some(Prediction {
            tensor: "scores".into(),
            counts: vec![1; 10],
            confidence_edges: vec![0.5, 0.9],
            confidence_counts: vec![1; 3],
        }),
    }
}
fn open_spool(dir: &Path) -> Arc<SledSpool> {
    Arc::new(SledSpool::open(SpoolConfig::new(dir.join("batches"), || NOW)).expect("spool opens"))
}
fn open_recorder(dir: &Path, spool: &Arc<SledSpool>) -> Recorder {
    let recorder =
        Recorder::open(RecorderConfig::new(dir.join("journal")), Arc::clone(spool) as Arc<dyn Spool>);
    let recorder = recorder.expect("recorder opens");
    for minor in 0..4 {
        recorder.register(&model(), &Version::new(1, minor, 0), &reference(2, 4));
    }
    recorder
}
fn record(recorder: &Recorder, n: u64) {
    let version = Version::new(1, n % 2, 0);
    recorder.record(&Observation {
        model: &model(),
        version: &version,
        at_ms: NOW + n as i64,
        latency_ms: 1.5 + n as f64,
        error: n.is_multiple_of(7).then_some("non_finite"),
        features: &[n as f64 / 10.0, 0.3],
        class: Some("7"),
        score: Some(0.8),
    });
}
/// As the disk is after the process was killed at this moment.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("folder");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}
fn pending(spool: &dyn Spool) -> Vec<Batch> {
    let all = spool.pending(usize::MAX).expect("read");
    all.into_iter().map(|(_, bytes)| decode::<Batch>(&bytes).expect("a batch")).collect()
}
fn requests(batches: &[Batch]) -> u64 {
    batches.iter().flat_map(|b| &b.windows).map(|w| w.requests).sum()
}
/// What the server has after everything on this disk was sent: each identity once.
fn total_after_restart(dir: &Path) -> (u64, usize) {
    let image = tempfile::tempdir().expect("folder");
    copy(dir, image.path());
    let spool = open_spool(image.path());
    let recorder = open_recorder(image.path(), &spool);
    recorder.seal().expect("sealed");
    let batches = pending(&*spool);
    let mut ids: Vec<(u64, u64)> = batches.iter().map(|b| (b.boot, b.sequence)).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), batches.len(), "an identity was used twice");
    (requests(&batches), batches.len())
}

#[test]
fn an_observation_is_on_disk_when_record_returns() {
    let dir = tempfile::tempdir().expect("folder");
    let spool = open_spool(dir.path());
    let recorder = open_recorder(dir.path(), &spool);
    for n in 0..25 {
        record(&recorder, n);
        assert_eq!(total_after_restart(dir.path()).0, n + 1);
    }
}

#[test]
fn a_restart_goes_on_with_the_open_window() {
    let dir = tempfile::tempdir().expect("folder");
    let spool = open_spool(dir.path());
    let whole = {
        let other = tempfile::tempdir().expect("folder");
        let spool = open_spool(other.path());
        let recorder = open_recorder(other.path(), &spool);
        (0..20).for_each(|n| record(&recorder, n));
        recorder.seal().expect("sealed");
        pending(&*spool)
    };
    (0..10).for_each(|n| record(&open_recorder(dir.path(), &spool), n));
    let recorder = open_recorder(dir.path(), &spool);
    assert_eq!(recorder.stat().replayed, 10);
    (10..20).for_each(|n| record(&recorder, n));
    assert_eq!(recorder.seal().expect("sealed"), 1);
    let batches = pending(&*spool);
    assert_eq!(batches[0].windows, whole[0].windows);
    assert_eq!((batches[0].windows.len(), batches[0].sequence), (2, 1));
}

#[test]
fn windows_end_by_time_in_either_direction_or_by_size() {
    let dir = tempfile::tempdir().expect("folder");
    let spool = open_spool(dir.path());
    let recorder = open_recorder(dir.path(), &spool);
    assert_eq!(recorder.tick(NOW + 10_000_000).expect("ticked"), 0, "nothing was counted");
    record(&recorder, 0);
    assert_eq!(recorder.tick(NOW + 299_999).expect("ticked"), 0);
    assert_eq!(recorder.tick(NOW + 300_000).expect("ticked"), 1);
    record(&recorder, 1);
    assert_eq!(recorder.tick(NOW - 400_000).expect("ticked"), 1, "the clock was set back");
    drop(recorder);
    let config =
        RecorderConfig { journal_bytes_max: 2000, ..RecorderConfig::new(dir.path().join("journal")) };
    let recorder = Recorder::open(config, Arc::clone(&spool) as Arc<dyn Spool>).expect("opens");
    (0..100).for_each(|n| record(&recorder, n));
    assert_eq!(recorder.tick(NOW + 100).expect("ticked"), 1, "the journal is full");
    assert_eq!(requests(&pending(&*spool)), 102);
}

/// A spool that can be told to refuse, and that takes an image of the disk before and after each append.
struct Watched {
    inner: Arc<SledSpool>,
    dir: PathBuf,
    images: Mutex<Vec<tempfile::TempDir>>,
    refuse: std::sync::atomic::AtomicBool,
}
impl Watched {
    fn image(&self) {
        let image = tempfile::tempdir().expect("folder");
        copy(&self.dir, image.path());
        self.images.lock().expect("lock").push(image);
    }
}
impl Spool for Watched {
    fn boot(&self) -> u64 {
        self.inner.boot()
    }
    fn high(&self) -> u64 {
        self.inner.high()
    }
    fn append(&self, id: BatchId, bytes: &[u8]) -> Result<Appended, SpoolError> {
        self.image();
        if self.refuse.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(SpoolError::TooLarge { size_bytes: 0, size_bytes_max: 0 });
        }
        let result = self.inner.append(id, bytes);
        self.image();
        result
    }
    fn pending(&self, limit: usize) -> Result<Vec<(BatchId, Vec<u8>)>, SpoolError> {
        self.inner.pending(limit)
    }
    fn acknowledge(&self, ids: &[BatchId]) -> Result<usize, SpoolError> {
        self.inner.acknowledge(ids)
    }
    fn stat(&self) -> SpoolStat {
        self.inner.stat()
    }
}

#[test]
fn killed_at_any_step_of_sealing_nothing_is_lost_or_counted_twice() {
    let dir = tempfile::tempdir().expect("folder");
    let watched = Arc::new(Watched {
        inner: open_spool(dir.path()),
        dir: dir.path().to_owned(),
        images: Mutex::default(),
        refuse: false.into(),
    });
    let recorder = Recorder::open(
        RecorderConfig::new(dir.path().join("journal")),
        Arc::clone(&watched) as Arc<dyn Spool>,
    )
    .expect("opens");
    // Wide references: each window fills most of a batch, so that one journal becomes several batches.
    for minor in 0..4 {
        recorder.register(&model(), &Version::new(1, minor, 0), &reference(64, 255));
    }
    let wide = vec![0.5; 64];
    let mut count = 0;
    let mut expected = Vec::new();
    for _ in 0..3 {
        for n in 0..40u64 {
            recorder.record(&Observation {
                model: &model(),
                version: &Version::new(1, n % 4, 0),
                at_ms: NOW,
                latency_ms: n as f64,
                error: None,
                features: &wide,
                class: None,
                score: None,
            });
            count += 1;
        }
        watched.image();
        recorder.seal().expect("sealed");
        watched.image();
        expected.resize(watched.images.lock().expect("lock").len(), count);
    }
    assert!(pending(&*watched.inner).len() >= 3);
    let images = watched.images.lock().expect("lock");
    assert!(images.len() >= 12, "{}", images.len());
    for (at, image) in images.iter().enumerate() {
        assert_eq!(total_after_restart(image.path()).0, expected[at], "image {at}");
        // Also when what was there before the kill had been sent and acknowledged already.
        let spool = open_spool(image.path());
        let before = pending(&*spool);
        let ids: Vec<BatchId> =
            before.iter().map(|b| BatchId { boot: b.boot, sequence: b.sequence }).collect();
        spool.acknowledge(&ids).expect("acknowledged");
        drop(spool);
        assert_eq!(
            requests(&before) + total_after_restart(image.path()).0,
            expected[at],
            "acknowledged image {at}"
        );
    }
}

#[test]
fn while_the_spool_refuses_windows_wait_and_counting_goes_on() {
    let dir = tempfile::tempdir().expect("folder");
    let watched = Arc::new(Watched {
        inner: open_spool(dir.path()),
        dir: dir.path().to_owned(),
        images: Mutex::default(),
        refuse: true.into(),
    });
    let recorder = Recorder::open(
        RecorderConfig::new(dir.path().join("journal")),
        Arc::clone(&watched) as Arc<dyn Spool>,
    )
    .expect("opens");
    for n in 0..3 {
        record(&recorder, n);
        assert!(recorder.seal().is_err());
        assert_eq!(total_after_restart(dir.path()).0, n + 1);
    }
    watched.refuse.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(recorder.tick(NOW).expect("stored"), 3);
    let sequences: Vec<u64> = pending(&*watched.inner).iter().map(|b| b.sequence).collect();
    assert_eq!(sequences, [1, 2, 3]);
    assert_eq!(fs::read_dir(dir.path().join("journal")).expect("listed").count(), 1);
}

#[test]
fn a_journal_that_refuses_writes_stops_nothing() {
    let dir = tempfile::tempdir().expect("folder");
    let spool = open_spool(dir.path());
    let config = RecorderConfig { backlog_bytes_max: 600, ..RecorderConfig::new(dir.path().join("journal")) };
    let recorder = Recorder::open(config, Arc::clone(&spool) as Arc<dyn Spool>).expect("opens");
    record(&recorder, 0);
    // A handle that cannot be written stands for a full disk.
    let path = recorder.lock().journal.path().to_owned();
    recorder.lock().journal.set_file(fs::File::open(&path).expect("read only"));
    (1..40).for_each(|n| record(&recorder, n));
    let stat = recorder.stat();
    assert_eq!((stat.recorded, stat.journal_errors), (40, 1));
    assert!(stat.unjournaled > 0, "{stat:?}");
    let kept = 40 - stat.unjournaled;
    recorder.lock().journal.set_file(fs::OpenOptions::new().write(true).open(&path).expect("writable"));
    recorder.sync().expect("synced");
    assert_eq!(total_after_restart(dir.path()).0, kept, "the backlog was written once the disk took it");
    recorder.seal().expect("sealed");
    assert_eq!(requests(&pending(&*spool)), 40);
}

#[test]
fn features_that_do_not_fit_are_left_out_and_counted() {
    let dir = tempfile::tempdir().expect("folder");
    let spool = open_spool(dir.path());
    let recorder = open_recorder(dir.path(), &spool);
    let version = Version::new(1, 0, 0);
    let observation = Observation {
        model: &model(),
        version: &version,
        at_ms: NOW,
        latency_ms: 1.0,
        error: None,
        features: &[1.0, 2.0, 3.0],
        class: None,
        score: None,
    };
    recorder.record(&observation);
    recorder.seal().expect("sealed");
    assert_eq!(recorder.stat().mismatched, 1);
    let batch = &pending(&*spool)[0];
    assert_eq!((batch.windows[0].requests, batch.windows[0].features[0].n), (1, 0));
}

#[test]
fn journals_that_hold_nothing_are_removed_and_foreign_ones_keep_their_identity() {
    let dir = tempfile::tempdir().expect("folder");
    let old = {
        let spool = open_spool(dir.path());
        let recorder = open_recorder(dir.path(), &spool);
        (0..5).for_each(|n| record(&recorder, n));
        spool.boot()
    };
    fs::write(dir.path().join("journal/00000000000000ff-0000000000000001.journal"), b"WHBJ")
        .expect("written");
    // The spool was lost: a new incarnation begins, what the journal holds keeps its name.
    fs::remove_dir_all(dir.path().join("batches")).expect("removed");
    let spool = open_spool(dir.path());
    let recorder = open_recorder(dir.path(), &spool);
    assert_ne!(spool.boot(), old);
    let batches = pending(&*spool);
    assert_eq!((batches.len(), batches[0].boot, requests(&batches)), (1, old, 5));
    record(&recorder, 5);
    recorder.seal().expect("sealed");
    assert_eq!(
        pending(&*spool).iter().find(|b| b.boot != old).map(|b| (b.boot, b.sequence)),
        Some((spool.boot(), 1))
    );
    assert_eq!(fs::read_dir(dir.path().join("journal")).expect("listed").count(), 1);
}

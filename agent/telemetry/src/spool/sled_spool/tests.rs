use super::*;
use std::{fs, path::Path};

fn config(dir: &Path) -> SpoolConfig {
    SpoolConfig::new(dir.join("spool"), || 1_700_000_000_000)
}
fn open(dir: &Path) -> SledSpool {
    SledSpool::open(config(dir)).expect("opens")
}
fn id(boot: u64, sequence: u64) -> BatchId {
    BatchId { boot, sequence }
}
fn sequences(spool: &SledSpool) -> Vec<u64> {
    spool.pending(usize::MAX).expect("read").into_iter().map(|(id, _)| id.sequence).collect()
}
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x & 0xff) as u8
        })
        .collect()
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

#[test]
fn batches_come_back_in_order_until_they_are_acknowledged() {
    let dir = tempfile::tempdir().expect("folder");
    let boot = {
        let spool = open(dir.path());
        let boot = spool.boot();
        for n in 1..=5 {
            assert_eq!(spool.append(id(boot, n), &[n as u8]).expect("stored"), Appended::Stored);
        }
        assert_eq!(spool.acknowledge(&[id(boot, 2), id(boot, 9), id(boot + 1, 3)]).expect("forgot"), 1);
        boot
    };
    let spool = open(dir.path());
    assert_eq!((spool.boot(), spool.high()), (boot, 5));
    assert_eq!(sequences(&spool), [1, 3, 4, 5]);
    assert_eq!(spool.pending(2).expect("read"), [(id(boot, 1), vec![1]), (id(boot, 3), vec![3])]);
}

#[test]
fn numbers_are_never_used_twice_even_when_everything_was_acknowledged() {
    let dir = tempfile::tempdir().expect("folder");
    let boot = open(dir.path()).boot();
    {
        let spool = open(dir.path());
        spool.append(id(boot, 7), b"x").expect("stored");
        spool.acknowledge(&[id(boot, 7)]).expect("forgot");
    }
    let spool = open(dir.path());
    assert_eq!((spool.high(), spool.stat().pending), (7, 0));
    assert_eq!(spool.append(id(boot, 7), b"x").expect("asked"), Appended::Known);
    assert_eq!(spool.stat().pending, 0);
}

#[test]
fn an_append_that_returned_is_there_after_a_kill() {
    let dir = tempfile::tempdir().expect("folder");
    let spool = open(dir.path());
    let boot = spool.boot();
    for n in 1..=8 {
        spool.append(id(boot, n), &noise(n, 5000)).expect("stored");
        let image = tempfile::tempdir().expect("folder");
        copy(dir.path(), image.path());
        let after = open(image.path());
        assert_eq!((after.boot(), after.high()), (boot, n));
        assert_eq!(sequences(&after), (1..=n).collect::<Vec<_>>());
    }
}

#[test]
fn the_bound_holds_and_the_oldest_are_dropped_and_counted() {
    let dir = tempfile::tempdir().expect("folder");
    let bounded =
        SpoolConfig { size_bytes_max: 8 << 20, generation_bytes_max: 1 << 20, ..config(dir.path()) };
    let spool = SledSpool::open(bounded.clone()).expect("opens");
    let boot = spool.boot();
    for n in 1..=120 {
        spool.append(id(boot, n), &noise(n, 100_000)).expect("stored");
        assert!(spool.stat().size_bytes <= 8 << 20, "{:?}", spool.stat());
    }
    let stat = spool.stat();
    assert!(stat.dropped > 0 && stat.pending > 0 && stat.generations > 1, "{stat:?}");
    assert_eq!(stat.dropped + stat.pending, 120);
    let left = sequences(&spool);
    assert_eq!(left, (stat.dropped + 1..=120).collect::<Vec<_>>());
    drop(spool);
    let spool = SledSpool::open(bounded).expect("opens");
    assert_eq!(spool.stat().dropped, stat.dropped);
    let all: Vec<BatchId> = left.iter().map(|n| id(boot, *n)).collect();
    assert_eq!(spool.acknowledge(&all).expect("forgot"), all.len());
    assert_eq!((spool.stat().pending, spool.stat().generations, spool.high()), (0, 1, 120));
}

#[test]
fn a_damaged_generation_is_moved_aside_and_life_goes_on_under_a_new_name() {
    let pristine = tempfile::tempdir().expect("folder");
    let boot = {
        let spool = open(pristine.path());
        let boot = spool.boot();
        for n in 1..=20 {
            spool.append(id(boot, n), &noise(n, 20_000)).expect("stored");
        }
        boot
    };
    let db = |dir: &Path| dir.join("spool/generation-0000000001/db");
    let whole = fs::read(db(pristine.path())).expect("read");
    for (defect, bytes) in [
        ("zeros", vec![0; whole.len()]),
        ("noise", noise(1, whole.len())),
        ("half", whole[..whole.len() / 2].to_vec()),
        ("empty", Vec::new()),
    ] {
        let dir = tempfile::tempdir().expect("folder");
        copy(pristine.path(), dir.path());
        fs::write(db(dir.path()), bytes).expect("written");
        let spool = open(dir.path());
        // Whatever the store made of it: what comes out is whole, and no number of the lost part is used again.
        for (id, bytes) in spool.pending(usize::MAX).expect("read") {
            assert_eq!(bytes, noise(id.sequence, 20_000), "{defect}");
        }
        assert!(spool.boot() != boot || spool.high() == 20, "{defect}: {:?}", spool.stat());
        let new = id(spool.boot(), spool.high() + 1);
        assert_eq!(spool.append(new, b"new").expect("stored"), Appended::Stored, "{defect}");
        assert!(spool.pending(usize::MAX).expect("read").contains(&(new, b"new".to_vec())), "{defect}");
    }
}

#[test]
fn a_damaged_record_is_left_out_and_the_others_are_kept() {
    let dir = tempfile::tempdir().expect("folder");
    let spool = open(dir.path());
    let boot = spool.boot();
    for n in 1..=3 {
        spool.append(id(boot, n), b"batch").expect("stored");
    }
    drop(spool);
    {
        let db = sled::open(dir.path().join("spool/generation-0000000001")).expect("opens");
        let key = super::super::record::key(id(boot, 2));
        let mut value = db.get(key).expect("read").expect("there").to_vec();
        value[6] ^= 1;
        db.insert(key, value).expect("written");
        db.flush().expect("flushed");
    }
    let spool = open(dir.path());
    assert_eq!(sequences(&spool), [1, 3]);
    assert_eq!((spool.stat().damaged_records, spool.stat().pending), (1, 2));
}

#[test]
fn batches_of_an_earlier_incarnation_keep_their_identity() {
    let dir = tempfile::tempdir().expect("folder");
    let spool = open(dir.path());
    let old = id(spool.boot() ^ 1, 40);
    assert_eq!(spool.append(old, b"old").expect("stored"), Appended::Stored);
    assert_eq!(spool.append(old, b"old").expect("asked"), Appended::Known);
    assert_eq!(spool.high(), 0);
    assert_eq!(spool.pending(9).expect("read"), [(old, b"old".to_vec())]);
}

#[test]
fn a_batch_beyond_the_limit_is_refused() {
    let dir = tempfile::tempdir().expect("folder");
    let spool = open(dir.path());
    let error = spool.append(id(spool.boot(), 1), &vec![0; BATCH_BYTES_MAX + 1]).expect_err("refused");
    assert!(matches!(error, SpoolError::TooLarge { .. }));
}

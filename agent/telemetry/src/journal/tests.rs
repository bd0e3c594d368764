use super::*;
use proptest::prelude::*;

fn declared(version: u64) -> Declared {
    Declared {
        model: "digits".parse().expect("valid"),
        version: semver::Version::new(1, version, 0),
        features: vec![("mean".into(), vec![0.25, 0.5]), ("max".into(), vec![0.9])],
        confidence_edges: vec![0.5, 0.9],
    }
}

fn entry(seed: u64) -> Entry {
    let error = seed.is_multiple_of(5);
    Entry {
        at_ms: 1_000 + i64::try_from(seed).expect("small"),
        latency_ms: 0.1 * (seed % 97) as f64,
        error: error.then(|| "backend".to_owned()),
        features: vec![(seed % 10) as f64 / 10.0, if seed.is_multiple_of(7) { f64::NAN } else { 0.95 }],
        class: (!error).then(|| (seed % 3).to_string()),
        score: (!error).then_some((seed % 100) as f64 / 100.0),
    }
}

/// The bytes of a journal, the end of each frame, and the windows it must give.
fn sample(seeds: &[u64]) -> (Vec<u8>, Vec<usize>, Vec<OpenWindow>) {
    let mut bytes = header(BatchId { boot: 7, sequence: 3 });
    let mut windows = vec![OpenWindow::new(declared(0)), OpenWindow::new(declared(1))];
    let mut ends = vec![bytes.len()];
    for w in &windows {
        put_declared(&mut bytes, w.declared());
        ends.push(bytes.len());
    }
    for seed in seeds {
        let index = (seed % 2) as usize;
        put_entry(&mut bytes, index as u16, &entry(*seed));
        windows[index].add(&entry(*seed));
        ends.push(bytes.len());
    }
    (bytes, ends, windows)
}

fn requests(replayed: &Replayed) -> u64 {
    replayed.windows.iter().filter_map(OpenWindow::window).map(|w| w.requests).sum()
}

#[test]
fn replay_rebuilds_the_windows_exactly() {
    let (bytes, _, windows) = sample(&(0..200).collect::<Vec<_>>());
    let replayed = parse(&bytes).expect("a journal");
    assert_eq!(replayed.id, BatchId { boot: 7, sequence: 3 });
    assert_eq!((replayed.entries, replayed.torn_bytes), (200, 0));
    assert_eq!(format!("{:?}", replayed.windows), format!("{windows:?}"));
}

#[test]
fn a_write_that_fails_half_way_is_taken_back_by_the_next() {
    let dir = tempfile::tempdir().expect("folder");
    let id = BatchId { boot: 7, sequence: 3 };
    let mut journal = Journal::create(dir.path(), id).expect("created");
    let (bytes, ends, _) = sample(&[1]);
    journal.append(&bytes[ends[0]..ends[2]]).expect("written");
    // As a full disk leaves it: some bytes of the frame are there, the write reported an error.
    journal.file.write_all(&bytes[ends[2]..ends[2] + 5]).expect("written");
    journal.torn = true;
    journal.append(&bytes[ends[2]..]).expect("written");
    let replayed = replay(journal.path()).expect("read").expect("a journal");
    assert_eq!((replayed.entries, replayed.torn_bytes), (1, 0));
}

#[test]
fn a_name_that_is_taken_is_refused_and_strange_names_are_not_listed() {
    let dir = tempfile::tempdir().expect("folder");
    let id = BatchId { boot: u64::MAX, sequence: 3 };
    Journal::create(dir.path(), id).expect("created");
    assert!(Journal::create(dir.path(), id).is_err());
    for name in ["x.journal", "1-2-3.journal", "note.txt", "-.journal"] {
        std::fs::write(dir.path().join(name), b"").expect("written");
    }
    let ids: Vec<BatchId> = list(dir.path()).expect("listed").into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [id]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_cut_tail_loses_only_the_frames_it_cuts(seeds in prop::collection::vec(0u64..1000, 0..20), cut in any::<prop::sample::Index>()) {
        let (bytes, ends, _) = sample(&seeds);
        let cut = cut.index(bytes.len() + 1);
        let replayed = parse(&bytes[..cut]);
        if cut < HEADER_BYTES {
            prop_assert!(replayed.is_none());
        } else {
            let replayed = replayed.expect("the header is whole");
            let whole = ends.iter().filter(|end| **end <= cut).count();
            prop_assert_eq!(replayed.entries as usize, whole.saturating_sub(3));
            prop_assert_eq!(requests(&replayed), replayed.entries);
            prop_assert_eq!(replayed.good_bytes as usize, ends[whole - 1]);
        }
    }

    #[test]
    fn a_flipped_byte_keeps_every_frame_before_it(seeds in prop::collection::vec(0u64..1000, 1..20), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let (mut bytes, ends, _) = sample(&seeds);
        let at = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES);
        bytes[at] ^= flip;
        let replayed = parse(&bytes).expect("the header is whole");
        let whole = ends.iter().filter(|end| **end <= at).count();
        prop_assert_eq!(replayed.entries as usize, whole.saturating_sub(3));
    }

    #[test]
    fn any_bytes_are_read_without_panic(tail in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = header(BatchId { boot: 1, sequence: 1 });
        bytes.extend_from_slice(&tail);
        let _ = parse(&bytes);
        let _ = parse(&tail);
    }
}

//! The bytes of every message, version 1, as first released. A change that breaks one of these breaks devices in the field:
//! give the message a new version instead. `WHIMBREL_BLESS=1 cargo test -p whimbrel-wire` writes the files of new messages.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic that says why")]

use std::{fmt::Debug, fs, path::PathBuf};
use whimbrel_wire::{
    Digest, Message, decode,
    desired::{DesiredModel, DesiredState},
    encode,
    index::{Chunk, FileEntry, Index},
    manifest::{Datatype, Golden, Manifest, Needs, Probation, TensorSpec},
    pipeline::{Op, Pipeline, Step},
    report::{Installed, ModelReport, Platform, Progress, Reason, ReasonKind, Report, Status, Update},
    telemetry::{Ack, Batch, Feature, FeatureCounts, LatencySketch, Prediction, Reduce, Reference, Window},
    transfer::{Content, FILE_BYTES_MAX, Get, Item, PART_BYTES_MAX, Part, WINDOW_ITEMS, Want},
};

fn check<M: Message + PartialEq + Debug>(file: &str, message: &M) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let bytes = encode(message).expect("the example is valid");
    if std::env::var_os("WHIMBREL_BLESS").is_some() && !path.exists() {
        fs::write(&path, hex::encode(&bytes) + "\n").expect("the golden file can be written");
    }
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let golden = hex::decode(text.trim()).expect("the golden file is hexadecimal");
    assert_eq!(hex::encode(&bytes), text.trim(), "{file}: the encoding changed");
    assert_eq!(&decode::<M>(&golden).expect("the golden bytes decode"), message, "{file}");
}

fn refuses_damage<M: Message>(message: &M) {
    let bytes = encode(message).expect("the example is valid");
    for end in 0..bytes.len() {
        assert!(decode::<M>(&bytes[..end]).is_err(), "{} accepted {end} of {} bytes", M::NAME, bytes.len());
    }
    // Any flipped bit either is refused or gives another valid value: it must never panic.
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            drop(decode::<M>(&damaged));
        }
    }
}

fn manifest() -> Manifest {
    let spec =
        |name: &str, datatype, shape: &[i64]| TensorSpec { name: name.into(), datatype, shape: shape.into() };
    let step = |from: &str, to: &str, op| Step { from: from.into(), to: to.into(), op };
    Manifest {
        name: "digits".parse().expect("valid"),
        version: semver::Version::new(1, 2, 3),
        description: "Reads digits".into(),
        licence: "MIT".into(),
        model: "model.onnx".into(),
        inputs: vec![spec("pixels", Datatype::Fp32, &[-1, 8, 8])],
        outputs: vec![spec("label", Datatype::Bytes, &[-1, 1])],
        pipeline: Pipeline {
            pre: vec![
                step("pixels", "pixels", Op::Scale { multiply: 0.0625, add: 0.0 }),
                step("pixels", "image", Op::Reshape { shape: vec![-1, 1, 8, 8] }),
                step("image", "image", Op::Clamp { min: 0.0, max: 1.0 }),
            ],
            post: vec![
                step("logits", "probabilities", Op::Softmax {}),
                step("probabilities", "label", Op::TopKLabels { k: 1 }),
                step("probabilities", "score", Op::TopKValues { k: 1 }),
            ],
        },
        labels: vec!["zero".into(), "one".into()],
        golden: Golden { file: "golden.npz".into(), count: 8, tolerance: 0.01 },
        needs: Needs::default(),
        probation: Probation::default(),
        reference: Reference {
            features: vec![Feature {
                name: "ink".into(),
                tensor: "pixels".into(),
                reduce: Reduce::Mean {},
                edges: vec![0.5, 4.0],
                counts: vec![3, 4, 5],
            }],
            prediction: Some(Prediction {
                tensor: "probabilities".into(),
                counts: vec![6, 6],
                confidence_edges: vec![0.5],
                confidence_counts: vec![1, 11],
            }),
        },
        lineage: [("data".to_owned(), "uci-digits".to_owned())].into(),
    }
}

fn index() -> Index {
    let file = |path: &str, n: u8| FileEntry {
        path: path.into(),
        size_bytes: 300,
        sha256: Digest::new([n; 32]),
        chunks: vec![Chunk {
            stored: Digest::new([n + 1; 32]),
            stored_bytes: 200,
            raw: Digest::new([n + 2; 32]),
            raw_bytes: 300,
        }],
    };
    Index { manifest: manifest(), files: vec![file("golden.npz", 10), file("model.onnx", 20)] }
}

fn desired() -> DesiredState {
    DesiredState {
        serial: 7,
        models: vec![DesiredModel {
            name: "digits".parse().expect("valid"),
            version: semver::Version::new(2, 0, 0),
            target: "digits/2.0.0.wbi".into(),
            attempt: 1,
            rollout: "r-1".into(),
        }],
        poll_s: 60,
    }
}

fn report(progress: Progress) -> Report {
    Report {
        boot: 42,
        sequence: 3,
        at_ms: 1_700_000_000_000,
        agent: semver::Version::new(0, 1, 0),
        platform: Platform {
            arch: "aarch64".into(),
            board: "generic".into(),
            cores: 4,
            memory_bytes: 1 << 30,
        },
        desired_serial: 7,
        models: vec![ModelReport {
            name: "digits".parse().expect("valid"),
            active: Some(Installed { version: semver::Version::new(1, 0, 0), bundle: Digest::new([1; 32]) }),
            update: Some(Update {
                version: semver::Version::new(2, 0, 0),
                attempt: 1,
                rollout: "r-1".into(),
                progress,
                waiting: None,
            }),
        }],
    }
}

fn batch() -> Batch {
    let mut latency_ms = LatencySketch::default();
    [0.5, 0.5, 2.0].into_iter().for_each(|v| latency_ms.add(v));
    Batch {
        boot: 42,
        sequence: 9,
        windows: vec![Window {
            model: "digits".parse().expect("valid"),
            version: semver::Version::new(2, 0, 0),
            start_ms: 1_700_000_000_000,
            end_ms: 1_700_000_300_000,
            requests: 4,
            errors: [("non_finite".to_owned(), 1)].into(),
            latency_ms,
            features: vec![FeatureCounts {
                name: "ink".into(),
                bins: vec![1, 2, 0],
                nan: 1,
                n: 3,
                mean: 2.5,
                m2: 0.5,
            }],
            classes: [("one".to_owned(), 3)].into(),
            confidence: vec![0, 3],
        }],
    }
}

#[test]
fn bundle_index() {
    check("index.v1.hex", &index());
    refuses_damage(&index());
}

#[test]
fn desired_state() {
    check("desired.v1.hex", &desired());
    refuses_damage(&desired());
}

#[test]
fn report_of_an_update_that_waits() {
    let mut report = report(Progress::Resolving {});
    let update = report.models[0].update.as_mut().expect("there");
    update.waiting = Some(Reason::new(ReasonKind::Expired, "timestamp"));
    check("report-waiting.v1.hex", &report);
    refuses_damage(&report);
}

#[test]
fn report_of_every_progress() {
    let reason = Reason::new(ReasonKind::GoldenMismatch, "vector 3");
    for (file, progress) in [
        ("report-resolving.v1.hex", Progress::Resolving {}),
        ("report-fetching.v1.hex", Progress::Fetching { done_bytes: 1, total_bytes: 1000 }),
        ("report-self-test.v1.hex", Progress::SelfTest {}),
        ("report-probation.v1.hex", Progress::Probation { requests: 10, errors: 1 }),
        ("report-active.v1.hex", Progress::Active {}),
        ("report-rejected.v1.hex", Progress::Rejected { reason: reason.clone() }),
        ("report-rolled-back.v1.hex", Progress::RolledBack { reason: reason.clone() }),
    ] {
        check(file, &report(progress.clone()));
        refuses_damage(&report(progress));
    }
}

#[test]
fn status_batch_and_acknowledgement() {
    check("status.v1.hex", &Status { online: true, boot: 42 });
    check("batch.v1.hex", &batch());
    check("ack.v1.hex", &Ack { boot: 42, sequences: vec![1, 2, 9] });
    refuses_damage(&batch());
}

fn get() -> Get {
    let want = |id, item, offset| Want { id, item, offset, size_bytes_max: 1 << 20 };
    Get {
        wants: vec![
            want(70_000, Item::Chunk { stored: Digest::new([7; 32]) }, 0),
            want(70_001, Item::Metadata { file: "timestamp.json".into() }, 0),
            want(70_002, Item::Target { file: "digits/ab.1.0.0.wbi".into() }, 4096),
        ],
    }
}

#[test]
fn a_get_and_every_answer_to_it() {
    check("get.v1.hex", &get());
    refuses_damage(&get());
    let bytes = bytes::Bytes::from_static(b"\x28\xb5\x2f\xfd");
    for (file, content) in [
        ("part-bytes.v1.hex", Content::Bytes { offset: 4096, total_bytes: 4100, bytes }),
        ("part-not-found.v1.hex", Content::NotFound {}),
        ("part-too-large.v1.hex", Content::TooLarge { total_bytes: 1 << 32 }),
        ("part-busy.v1.hex", Content::Busy { retry_after_s: 5 }),
    ] {
        let part = Part { id: 70_002, content };
        check(file, &part);
        refuses_damage(&part);
    }
}

#[test]
fn the_largest_get_and_part_can_be_written() {
    let file = "x".repeat(512);
    let want = |id| Want {
        id: u64::MAX - id,
        item: Item::Target { file: file.clone() },
        offset: FILE_BYTES_MAX,
        size_bytes_max: FILE_BYTES_MAX,
    };
    encode(&Get { wants: (0..WINDOW_ITEMS as u64).map(want).collect() }).expect("fits");
    let content = Content::Bytes {
        offset: 0,
        total_bytes: PART_BYTES_MAX as u64,
        bytes: vec![0xff; PART_BYTES_MAX].into(),
    };
    encode(&Part { id: u64::MAX, content }).expect("fits");
}

#[test]
fn a_get_beyond_its_window_and_a_part_that_lies_about_its_place_are_refused() {
    let edited = |edit: &dyn Fn(&mut Get)| {
        let mut bad = get();
        edit(&mut bad);
        encode(&bad)
    };
    assert!(edited(&|g| g.wants.clear()).is_err(), "nothing wanted");
    assert!(edited(&|g| g.wants[1].id = g.wants[0].id).is_err(), "one id twice");
    assert!(edited(&|g| g.wants[0].offset = 1).is_err(), "a part of a chunk");
    assert!(edited(&|g| g.wants[1].size_bytes_max = FILE_BYTES_MAX + 1).is_err(), "a file that is too long");
    assert!(
        edited(&|g| g.wants[1].item = Item::Metadata { file: "a\0".into() }).is_err(),
        "a control character"
    );
    assert!(edited(&|g| g.wants[1].item = Item::Target { file: "x".repeat(513) }).is_err(), "a long name");
    let more =
        |g: &mut Get| g.wants.extend((0..6).map(|id| Want { id, ..g.wants[1].clone() }).collect::<Vec<_>>());
    assert!(edited(&more).is_err(), "more than the window");
    let part = |offset, total_bytes, len| {
        encode(&Part { id: 1, content: Content::Bytes { offset, total_bytes, bytes: vec![0; len].into() } })
    };
    assert!(part(0, 0, 0).is_ok(), "an empty file");
    assert!(part(5, 10, 0).is_err(), "no progress");
    assert!(part(5, 10, 6).is_err(), "beyond the end");
    assert!(part(u64::MAX, u64::MAX, 1).is_err(), "beyond all numbers");
    assert!(part(0, 1 << 20, PART_BYTES_MAX + 1).is_err(), "too many bytes");
}

#[test]
fn reason_kinds_keep_their_names() {
    for kind in ReasonKind::ALL {
        assert_eq!(serde_json::to_string(kind).expect("serialises"), format!("\"{kind}\""));
    }
}

#[test]
fn an_index_that_could_leave_its_folder_or_lie_about_sizes_is_refused() {
    for path in ["../x", "/etc/passwd", "a//b", "a/./b", "", "a\\b", "a/../../b"] {
        let mut bad = index();
        bad.files[0].path = path.into();
        assert!(encode(&bad).is_err(), "accepted {path:?}");
    }
    let mut bad = index();
    bad.files.swap(0, 1);
    assert!(encode(&bad).is_err(), "accepted files out of order");
    let mut bad = index();
    bad.files[0].size_bytes += 1;
    assert!(encode(&bad).is_err(), "accepted a file larger than its chunks");
    let mut bad = index();
    bad.files.remove(1);
    assert!(encode(&bad).is_err(), "accepted a bundle without its model");
}

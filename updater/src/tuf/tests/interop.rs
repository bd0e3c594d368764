//! Metadata that python-tuf 7.0.1 made: two of two root keys, release keys of three kinds, both hashes, odd names.

use super::*;
use time::macros::datetime;

const ROOT: &[u8] = include_bytes!("data/python-tuf/1.root.json");
const TIMESTAMP: &[u8] = include_bytes!("data/python-tuf/timestamp.json");
const SNAPSHOT: &[u8] = include_bytes!("data/python-tuf/1.snapshot.json");
const TARGETS: &[u8] = include_bytes!("data/python-tuf/1.targets.json");
const DAY: OffsetDateTime = datetime!(2030-12-31 00:00 UTC);

#[test]
fn metadata_made_by_python_tuf_is_trusted() {
    let mut trusted = Trusted::new(ROOT).expect("its root");
    assert_eq!(trusted.update_timestamp(TIMESTAMP, DAY).expect("its timestamp"), Fresh::New);
    let wanted = trusted.snapshot_wanted().expect("a timestamp").expect("not there yet");
    assert_eq!(wanted.file, "1.snapshot.json");
    trusted.update_snapshot(SNAPSHOT, DAY).expect("its snapshot");
    trusted.update_targets(TARGETS, DAY).expect("its targets");
    trusted.finish(DAY).expect("all of it");
    let Found::Target(target) = Search::new("dir/file \"é\".bin").advance(&trusted, DAY).expect("trusted")
    else {
        panic!("its target is not found");
    };
    target.check(b"content").expect("its hashes");
}

#[test]
fn its_key_ids_are_ours() {
    let root = Signed::<Root>::parse(ROOT).expect("its root");
    for (id, key) in &root.body().keys {
        assert_eq!(*id, key.id().expect("an id"));
    }
}

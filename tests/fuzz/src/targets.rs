//! What is done with the bytes.

#![allow(clippy::expect_used, reason = "a target fails by a panic, which is how the fuzzer learns of it")]

use std::{collections::BTreeMap, fmt::Debug, io::Cursor};
use time::{OffsetDateTime, macros::datetime};
use whimbrel_updater::{
    bundle::{self, Contents, Packed, chunk},
    journal::Record,
    transport::headers::{ContentRange, retry_after},
    tuf::{
        FloorMarks, Key, Role, Root, Scope, Search, Signed, Snapshot, Targets, Timestamp, Trusted,
        canonical::canonical,
    },
};
use whimbrel_wire::{
    Message, decode,
    desired::DesiredState,
    encode,
    index::{Chunk, Index},
    manifest::Manifest,
    report::{Report, Status},
    telemetry::{Ack, Batch},
    topic::Topic,
    transfer::{Get, Part},
};

const NOW: OffsetDateTime = datetime!(2030-01-01 00:00 UTC);

/// A metadata file, as any role; a root also as the beginning of trust and as its own successor.
pub(crate) fn metadata(bytes: &[u8]) {
    role::<Root>(bytes);
    role::<Timestamp>(bytes);
    role::<Snapshot>(bytes);
    if let Some(targets) = role::<Targets>(bytes) {
        for role in targets.delegations.iter().flat_map(|d| &d.roles) {
            let _ = role.scope.holds("models/a.wbi");
        }
    }
    if let Ok(mut trusted) = Trusted::new(bytes) {
        // Its version does not follow itself.
        assert!(trusted.update_root(bytes).is_err());
        assert!(Search::new("a").advance(&trusted, NOW).is_err(), "nothing is found without a timestamp");
    }
}

fn role<T: Role + Clone>(bytes: &[u8]) -> Option<T> {
    let file = Signed::<T>::parse(bytes).ok()?;
    assert_eq!(file.bytes(), bytes, "kept byte for byte");
    assert!(file.body().version() > 0);
    Some(file.body().clone())
}

/// A public key, and signatures that cannot be good.
pub(crate) fn key(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    // What is signed is canonical: the same value, and the same bytes again.
    if let Ok(once) = canonical(&value) {
        assert_eq!(canonical(&value).as_ref(), Ok(&once));
    }
    let Ok(key) = Key::from_value(&value) else { return };
    assert_eq!(key.to_value(), value);
    assert!(!key.verify(bytes, b"") && !key.verify(b"", bytes));
}

/// The device's file of floors.
pub(crate) fn floors(bytes: &[u8]) {
    let Ok(marks) = serde_json::from_slice::<FloorMarks>(bytes) else { return };
    let mut twice = marks.clone();
    twice.heed(&marks.floors, &Default::default());
    assert_eq!(twice, marks, "what is known changes nothing");
}

/// A pattern and a path, with a zero byte between them.
pub(crate) fn pattern(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (pattern, path) = text.split_once('\0').unwrap_or((text, ""));
    let holds = Scope::Paths(vec![pattern.to_owned()]).holds(path);
    if holds {
        assert_eq!(pattern.split('/').count(), path.split('/').count(), "no pattern crosses a slash");
    }
}

/// A bundle's index.
pub(crate) fn index(bytes: &[u8]) {
    message::<Index>(bytes);
}

/// A manifest as people write it.
pub(crate) fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(manifest) = toml::from_str::<Manifest>(text) {
        let _ = manifest.validate();
    }
}

/// A model's journal.
pub(crate) fn journal(bytes: &[u8]) {
    if let Ok(record) = Record::from_file(bytes) {
        let again = record.to_file().expect("what was read can be written");
        assert_eq!(Record::from_file(&again).as_ref(), Ok(&record));
    }
}

/// A bundle in one file.
pub(crate) fn wbundle(bytes: &[u8]) {
    if let Ok(packed) = Packed::read(bytes) {
        let _ = packed.verify_content();
        let mut again = Vec::new();
        packed.write(&mut again).expect("memory can be written");
        assert_eq!(Packed::read(&again[..]).expect("what was written can be read"), packed);
    }
}

/// A bundle in one file, read by its parts. What is in it is as when it is read in one go.
pub(crate) fn archive(bytes: &[u8]) {
    let packed = Packed::read(bytes);
    let contents = match Contents::read(Cursor::new(bytes)) {
        Ok(contents) => contents,
        Err(e) => return assert!(packed.is_err(), "read in one go, but not by its parts: {e}"),
    };
    let read = |part: &bundle::Part| part.read(Cursor::new(bytes));
    assert_eq!(read(&contents.index_part()).expect("was read").len() as u64, contents.index_part().bytes());
    for part in contents.chunks().values().chain(contents.metadata().values()) {
        // The file may end before the part does.
        let _ = read(part);
    }
    let Ok(packed) = packed else { return };
    assert_eq!(contents.index().index(), packed.index());
    let chunks = contents.chunks().iter().map(|(stored, part)| (*stored, read(part).expect("is there")));
    assert_eq!(&chunks.collect::<BTreeMap<_, _>>(), packed.chunks());
    let metadata =
        contents.metadata().iter().map(|(file, part)| (file.clone(), read(part).expect("is there")));
    assert_eq!(metadata.collect::<BTreeMap<_, _>>(), packed.metadata);
}

/// The stored form of a chunk, as the index would have to name it for the bytes to be unpacked at all.
pub(crate) fn chunk(bytes: &[u8]) {
    for raw_bytes in [1, 1000, 256 << 10] {
        let named = Chunk {
            stored: whimbrel_updater::hash::sha256(bytes),
            stored_bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            raw: whimbrel_updater::hash::sha256(b""),
            raw_bytes,
        };
        assert!(chunk::unpack(&named, bytes).is_err(), "it has another content than nothing");
    }
}

/// What the fleet wants of a device.
pub(crate) fn desired(bytes: &[u8]) {
    message::<DesiredState>(bytes);
}

/// What a device says of itself.
pub(crate) fn report(bytes: &[u8]) {
    message::<Report>(bytes);
    message::<Status>(bytes);
}

/// What a device counted, and the server's answer.
pub(crate) fn telemetry(bytes: &[u8]) {
    message::<Batch>(bytes);
    message::<Ack>(bytes);
}

/// A topic name.
pub(crate) fn topic(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(topic) = Topic::parse(text) {
        assert_eq!(topic.to_string(), text);
    }
}

/// Files over MQTT: what a device asks for, and the server's answer.
pub(crate) fn transfer(bytes: &[u8]) {
    message::<Get>(bytes);
    message::<Part>(bytes);
}

/// `Content-Range`, `Retry-After` and `Date` of an answer, a line each.
pub(crate) fn headers(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.lines();
    let (range, wait, date) =
        (lines.next().unwrap_or_default(), lines.next().unwrap_or_default(), lines.next());
    if let Some(range) = ContentRange::parse(range) {
        let ContentRange { first, last, whole_bytes } = range;
        assert_eq!(ContentRange::parse(&format!("bytes {first}-{last}/{whole_bytes}")), Some(range));
        assert!(!range.is_rest(first) || first < whole_bytes, "a rest has a byte at least");
    }
    let without_date = retry_after(wait, None);
    assert_eq!(without_date.is_some(), wait.parse::<u64>().is_ok() && !wait.starts_with('+'));
    if without_date.is_some() {
        assert_eq!(retry_after(wait, date), without_date, "seconds need no clock");
    }
    if let Some(date) = date.filter(|date| date.parse::<u64>().is_err()) {
        assert!(retry_after(date, Some(date)).is_none_or(|wait| wait.is_zero()), "no time passes meanwhile");
    }
}

/// A message is bounded, and what is accepted of it can be written and read back.
fn message<M: Message + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(message) = decode::<M>(bytes) else { return };
    let again = encode(&message).expect("what was read can be written");
    // Numbers that are not equal to themselves have been accepted only where they are refused by validation.
    assert_eq!(decode::<M>(&again).expect("what was written can be read"), message);
}

use super::*;
use crate::{
    bundle::{Packed, chunk},
    testing::{noise, pack},
};
use std::fs;

struct Device {
    dir: tempfile::TempDir,
    slots: Slots,
    model: ModelName,
}

fn device() -> Device {
    let dir = tempfile::tempdir().expect("temp dir");
    let slots = Slots::new(Arc::new(Files), &dir.path().join("models"));
    Device { dir, slots, model: "m".parse().expect("a name") }
}

/// A bundle being put together, with its files made.
fn begin(device: &Device, packed: &Packed) -> Partial {
    let index = SignedIndex::decode(packed.index_bytes()).expect("an index");
    device.slots.begin(&index, packed.index_bytes()).expect("begins");
    let partial = device.slots.partial(&device.model, packed.digest(), Some(&index)).expect("opens");
    let partial = partial.expect("was begun");
    partial.prepare().expect("makes the files");
    partial
}

fn put(partial: &Partial, packed: &Packed, number: u32) {
    let part = partial.layout().chunk(number);
    let raw = chunk::unpack(part, &packed.chunks()[&part.stored]).expect("a good chunk");
    partial.write(number, &raw).expect("writes");
}

fn count(partial: &Partial) -> u32 {
    u32::try_from(partial.layout().len()).expect("few")
}

fn install(device: &Device, packed: &Packed) -> InstalledBundle {
    let partial = begin(device, packed);
    (0..count(&partial)).rev().for_each(|number| put(&partial, packed, number));
    partial.finish().expect("installs")
}

#[test]
fn an_installed_bundle_has_its_files_and_opens_again() {
    let (device, model) = (device(), noise(1, 300_000));
    let packed = pack("m", "1.0.0", &model, "");
    let bundle = install(&device, &packed);
    assert_eq!(fs::read(bundle.dir.join("model.onnx")).expect("reads"), model);
    assert_eq!(fs::read(bundle.dir.join("golden/vectors.npz")).expect("reads"), b"vectors");
    assert_eq!(device.slots.open(&device.model, packed.digest()).expect("opens"), bundle);
    assert_eq!(InstalledBundle::open(&bundle.dir).expect("opens"), bundle);
    let left = fs::read_dir(device.dir.path().join("models/m")).expect("lists").count();
    assert_eq!(left, 1, "nothing is left aside");
}

#[test]
fn a_bundle_that_lacks_a_chunk_is_not_put_in_place_until_it_has_it() {
    let (device, packed) = (device(), pack("m", "1.0.0", &noise(1, 300_000), ""));
    let partial = begin(&device, &packed);
    let last = count(&partial) - 1;
    (0..last).for_each(|number| put(&partial, &packed, number));
    let missing = partial.layout().place(last).0.path.clone();
    let refused = partial.finish().expect_err("not whole");
    assert!(matches!(&refused, SlotError::Incomplete { file, .. } if *file == missing), "{refused}");
    let opened = device.slots.open(&device.model, packed.digest());
    assert!(matches!(opened, Err(SlotError::Absent { .. })));
    let partial = begin(&device, &packed);
    put(&partial, &packed, last);
    partial.finish().expect("whole");
}

#[test]
fn what_a_power_cut_tore_is_seen_region_by_region() {
    let (device, packed) = (device(), pack("m", "1.0.0", &noise(1, 400_000), ""));
    let partial = begin(&device, &packed);
    (0..count(&partial)).for_each(|number| put(&partial, &packed, number));
    let torn = count(&partial) / 2;
    let (file, offset) = partial.layout().place(torn);
    let path = partial.dir().join(&file.path);
    Files.write_at(&path, offset + 100, &[0; 512]).expect("tears");
    Files.set_len(&path, file.size_bytes - 1).expect("cuts");
    let again = begin(&device, &packed);
    let lost: Vec<u32> = (0..count(&again)).filter(|number| again.read(*number).is_none()).collect();
    assert_eq!(lost, [torn, count(&again) - 1]);
    lost.into_iter().for_each(|number| put(&again, &packed, number));
    again.finish().expect("whole");
}

#[test]
fn a_torn_index_is_not_believed_and_written_again() {
    let (device, packed) = (device(), pack("m", "1.0.0", b"model", ""));
    let path = begin(&device, &packed).dir().join(INDEX_FILE);
    for torn in [&b""[..], b"junk", &packed.index_bytes()[1..]] {
        fs::write(&path, torn).expect("tears");
        assert_eq!(device.slots.index_bytes(&device.model, packed.digest()).expect("reads"), None);
        assert!(device.slots.partial(&device.model, packed.digest(), None).expect("looks").is_none());
        begin(&device, &packed);
        let bytes = device.slots.index_bytes(&device.model, packed.digest()).expect("reads");
        assert_eq!(bytes.as_deref(), Some(packed.index_bytes()));
    }
}

#[test]
fn damage_is_seen_and_the_bundle_can_be_put_together_anew() {
    let (device, packed) = (device(), pack("m", "1.0.0", b"model", ""));
    let bundle = install(&device, &packed);
    fs::write(bundle.dir.join("model.onnx"), b"madel").expect("damages");
    assert!(device.slots.open(&device.model, packed.digest()).is_ok(), "the size is the same");
    assert!(matches!(device.slots.verify(&device.model, packed.digest()), Err(SlotError::Damaged { .. })));
    assert!(InstalledBundle::open(&bundle.dir).is_err());
    let anew = device.slots.partial(&device.model, packed.digest(), None).expect("opens");
    let anew = anew.expect("has its index");
    anew.prepare().expect("makes the files");
    (0..count(&anew)).for_each(|number| put(&anew, &packed, number));
    anew.finish().expect("mends");
    device.slots.verify(&device.model, packed.digest()).expect("whole");
    fs::write(bundle.dir.join("model.onnx"), b"longer than before").expect("damages");
    assert!(matches!(device.slots.open(&device.model, packed.digest()), Err(SlotError::Damaged { .. })));
    fs::write(bundle.dir.join(INDEX_FILE), b"junk").expect("damages");
    assert!(matches!(device.slots.open(&device.model, packed.digest()), Err(SlotError::Damaged { .. })));
}

#[test]
fn an_index_of_another_hash_is_not_begun() {
    let (device, packed) = (device(), pack("m", "1.0.0", b"model", ""));
    let index = SignedIndex::decode(packed.index_bytes()).expect("an index");
    let result = device.slots.begin(&index, &packed.index_bytes()[1..]);
    assert!(matches!(result, Err(SlotError::Unfit { .. })));
}

#[test]
fn space_that_is_taken_already_counts() {
    let (device, packed) = (device(), pack("m", "1.0.0", &noise(1, 300_000), ""));
    let taken = || device.slots.partial_bytes(packed.digest(), packed.index()).expect("looks");
    assert_eq!(taken(), 0);
    begin(&device, &packed);
    assert_eq!(taken(), packed.index().size_bytes());
}

fn names(device: &Device) -> Vec<String> {
    let names = Files.list(&device.dir.path().join("models/m")).expect("lists");
    names.into_iter().map(|name| name.into_string().expect("text")).collect()
}

#[test]
fn only_what_is_kept_and_the_newest_unfinished_bundle_stay() {
    let device = device();
    let bundle = |version: &str| pack("m", version, version.as_bytes(), "");
    let (one, two) = (bundle("1.0.0"), bundle("2.0.0"));
    install(&device, &one);
    install(&device, &two);
    for version in ["1.5.0", "3.0.0", "2.5.0"] {
        begin(&device, &bundle(version));
    }
    for junk in [".half.tmp", "old", ".x.partial"] {
        fs::create_dir(device.dir.path().join("models/m").join(junk)).expect("creates");
    }
    device.slots.retain(&device.model, &[two.digest()]).expect("removes");
    let newest = format!(".{}.partial", bundle("3.0.0").digest());
    assert_eq!(names(&device), [newest, two.digest().to_string()]);
    device.slots.open(&device.model, two.digest()).expect("kept");
}

#[test]
fn an_unfinished_bundle_older_than_what_is_kept_goes_and_one_without_its_index_too() {
    let device = device();
    let (kept, old) = (pack("m", "2.0.0", b"two", ""), pack("m", "1.0.0", b"one", ""));
    install(&device, &kept);
    begin(&device, &old);
    fs::remove_file(begin(&device, &pack("m", "3.0.0", b"three", "")).dir().join(INDEX_FILE))
        .expect("removes");
    device.slots.retain(&device.model, &[kept.digest()]).expect("removes");
    assert_eq!(names(&device), [kept.digest().to_string()]);
}

#[test]
fn a_bundle_that_was_put_in_place_and_not_written_down_is_found() {
    let device = device();
    let (named, old, new) =
        (pack("m", "2.0.0", b"2", ""), pack("m", "1.0.0", b"1", ""), pack("m", "3.0.0", b"3", ""));
    install(&device, &named);
    install(&device, &old);
    assert_eq!(device.slots.unnamed(&device.model, &[named.digest()]).expect("looks"), None);
    install(&device, &new);
    let found = device.slots.unnamed(&device.model, &[named.digest()]).expect("looks");
    assert_eq!(found, Some((new.digest(), semver::Version::new(3, 0, 0))));
}

#[test]
fn room_is_made_by_giving_up_other_unfinished_bundles() {
    let device = device();
    let (one, two) = (pack("m", "1.0.0", b"one", ""), pack("m", "2.0.0", b"two", ""));
    begin(&device, &one);
    begin(&device, &two);
    assert!(device.slots.drop_partials(&device.model, one.digest()).expect("removes"));
    assert_eq!(names(&device), [format!(".{}.partial", one.digest())]);
    assert!(!device.slots.drop_partials(&device.model, one.digest()).expect("removes"));
}

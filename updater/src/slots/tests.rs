use super::*;
use crate::{
    bundle::Packed,
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

fn install(device: &Device, packed: &Packed) -> Result<InstalledBundle, SlotError> {
    let source = |part: &Chunk| {
        let stored = packed.chunks().get(&part.stored);
        Ok(stored.map(|stored| chunk::unpack(part, stored).expect("a good chunk")))
    };
    device.slots.install(packed.digest(), packed.index_bytes(), &source)
}

#[test]
fn an_installed_bundle_has_its_files_and_opens_again() {
    let (device, model) = (device(), noise(1, 300_000));
    let packed = pack("m", "1.0.0", &model, "");
    let bundle = install(&device, &packed).expect("installs");
    assert_eq!(fs::read(bundle.dir.join("model.onnx")).expect("reads"), model);
    assert_eq!(fs::read(bundle.dir.join("golden/vectors.npz")).expect("reads"), b"vectors");
    assert_eq!(device.slots.open(&device.model, packed.digest()).expect("opens"), bundle);
    assert_eq!(InstalledBundle::open(&bundle.dir).expect("opens"), bundle);
    assert_eq!(install(&device, &packed).expect("is there already"), bundle);
}

#[test]
fn a_missing_chunk_leaves_nothing_in_place() {
    let (device, packed) = (device(), pack("m", "1.0.0", b"model", ""));
    let result = device.slots.install(packed.digest(), packed.index_bytes(), &|_| Ok(None));
    assert!(matches!(result, Err(SlotError::Missing { .. })));
    let wrong = |_: &Chunk| Ok(Some(b"wrong".to_vec()));
    let result = device.slots.install(packed.digest(), packed.index_bytes(), &wrong);
    assert!(matches!(result, Err(SlotError::Missing { .. })));
    let opened = device.slots.open(&device.model, packed.digest());
    assert!(matches!(opened, Err(SlotError::Absent { .. })));
}

#[test]
fn damage_is_seen_and_installing_again_mends_it() {
    let (device, packed) = (device(), pack("m", "1.0.0", b"model", ""));
    let bundle = install(&device, &packed).expect("installs");
    fs::write(bundle.dir.join("model.onnx"), b"madel").expect("damages");
    assert!(device.slots.open(&device.model, packed.digest()).is_ok(), "the size is the same");
    assert!(matches!(device.slots.verify(&device.model, packed.digest()), Err(SlotError::Damaged { .. })));
    assert!(InstalledBundle::open(&bundle.dir).is_err());
    install(&device, &packed).expect("mends");
    device.slots.verify(&device.model, packed.digest()).expect("whole");
    fs::write(bundle.dir.join("model.onnx"), b"longer than before").expect("damages");
    assert!(matches!(device.slots.open(&device.model, packed.digest()), Err(SlotError::Damaged { .. })));
    fs::write(bundle.dir.join(INDEX_FILE), b"junk").expect("damages");
    assert!(matches!(device.slots.open(&device.model, packed.digest()), Err(SlotError::Damaged { .. })));
}

#[test]
fn an_index_of_another_hash_is_not_installed() {
    let (device, packed) = (device(), pack("m", "1.0.0", b"model", ""));
    let result = device.slots.install(Digest::new([0; 32]), packed.index_bytes(), &|_| Ok(None));
    assert!(matches!(result, Err(SlotError::Unfit { .. })));
}

#[test]
fn what_is_not_kept_goes() {
    let device = device();
    let (one, two) = (pack("m", "1.0.0", b"one", ""), pack("m", "2.0.0", b"two", ""));
    install(&device, &one).expect("installs");
    install(&device, &two).expect("installs");
    fs::create_dir(device.dir.path().join("models/m/.half.tmp")).expect("creates");
    device.slots.retain(&device.model, &[two.digest()]).expect("removes");
    let left = fs::read_dir(device.dir.path().join("models/m")).expect("lists").count();
    assert_eq!(left, 1);
    device.slots.open(&device.model, two.digest()).expect("kept");
}

use super::*;
use crate::testing::{LATER, NOW, Repo, noise, pack as pack_model, write_bundle};
use std::{collections::BTreeSet, fs, os::unix::fs::symlink};
use whimbrel_wire::{decode, index::Index};

fn bytes(packed: &Packed) -> Vec<u8> {
    let mut bytes = Vec::new();
    packed.write(&mut bytes).expect("writes");
    bytes
}

/// A bundle with the metadata that makes it trusted.
fn released(version: &str) -> (Repo, Packed) {
    let mut repo = Repo::new();
    let mut packed = pack_model("m", version, &noise(1, 300_000), "");
    repo.release(&packed);
    packed.metadata = repo.server.lock().metadata.clone();
    (repo, packed)
}

#[test]
fn packing_is_deterministic_and_leaves_hidden_files_out() {
    let dir = tempfile::tempdir().expect("temp dir");
    write_bundle(dir.path(), "m", "1.0.0", &noise(1, 500_000));
    fs::write(dir.path().join(".hidden"), b"x").expect("writes");
    fs::write(dir.path().join("empty.txt"), b"").expect("writes");
    let packed = pack(dir.path()).expect("packs");
    let paths: Vec<_> = packed.index().files.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(paths, ["empty.txt", "golden/vectors.npz", "model.onnx"]);
    assert!(packed.chunks().len() > 3);
    assert_eq!(packed.target_path(), "m/1.0.0.wbi");
    assert_eq!(bytes(&pack(dir.path()).expect("packs")), bytes(&packed));
    packed.verify_content().expect("whole");
    assert_eq!(decode::<Index>(packed.index_bytes()).expect("decodes"), *packed.index());
}

#[test]
fn a_small_change_leaves_most_chunks_as_they_were() {
    let old = noise(1, 2_000_000);
    let mut new = old.clone();
    new.splice(1_000_000..1_000_003, *b"inserted");
    let chunks = |model: &[u8]| -> BTreeSet<_> {
        pack_model("m", "1.0.0", model, "").chunks().keys().copied().collect()
    };
    let (old, new) = (chunks(&old), chunks(&new));
    assert!(new.difference(&old).count() <= 2, "{} of {}", new.difference(&old).count(), new.len());
}

#[test]
fn links_odd_names_and_bad_manifests_are_refused() {
    let fresh = || {
        let dir = tempfile::tempdir().expect("temp dir");
        write_bundle(dir.path(), "m", "1.0.0", b"model");
        dir
    };
    let dir = fresh();
    symlink("/etc/passwd", dir.path().join("link")).expect("links");
    assert!(matches!(pack(dir.path()), Err(PackError::Unfit { .. })));
    let dir = fresh();
    fs::write(dir.path().join("a b"), b"").expect("writes");
    assert!(matches!(pack(dir.path()), Err(PackError::Unfit { .. })));
    let dir = fresh();
    fs::write(dir.path().join("bundle.wbi"), b"").expect("writes");
    assert!(matches!(pack(dir.path()), Err(PackError::Unfit { .. })));
    let dir = fresh();
    fs::remove_file(dir.path().join("model.onnx")).expect("removes");
    assert!(matches!(pack(dir.path()), Err(PackError::Index(_))));
    fs::write(dir.path().join(MANIFEST_FILE), "name = 1").expect("writes");
    assert!(matches!(pack(dir.path()), Err(PackError::Manifest { .. })));
    fs::remove_file(dir.path().join(MANIFEST_FILE)).expect("removes");
    assert!(matches!(pack(dir.path()), Err(PackError::Read { .. })));
}

#[test]
fn an_archive_comes_back_whole() {
    let (_, packed) = released("1.0.0");
    assert_eq!(Packed::read(&bytes(&packed)[..]).expect("reads"), packed);
}

#[test]
fn every_truncation_of_an_archive_is_refused() {
    let bytes = bytes(&pack_model("m", "1.0.0", b"model", ""));
    // The archive ends in two blocks of zeros that carry nothing.
    for end in (0..bytes.len() - 1024).step_by(97) {
        assert!(Packed::read(&bytes[..end]).is_err(), "{end} of {} bytes were accepted", bytes.len());
    }
}

/// An archive of these entries.
fn archive(entries: &[(&str, &[u8], tar::EntryType)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes, kind) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_entry_type(*kind);
        // Written by hand, as the library itself refuses paths that climb.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, *bytes).expect("writes");
    }
    tar.into_inner().expect("writes")
}

#[test]
fn foreign_repeated_wrong_and_missing_entries_are_refused() {
    use tar::EntryType::{Regular, Symlink};
    let packed = pack_model("m", "1.0.0", b"model", "");
    let index = ("index.wbi", packed.index_bytes(), Regular);
    let names: Vec<_> = packed.chunks().keys().map(|c| format!("chunks/{c}")).collect();
    let chunks: Vec<_> =
        names.iter().zip(packed.chunks().values()).map(|(n, c)| (&n[..], &c[..], Regular)).collect();
    let foreign = format!("chunks/{}", packed.digest());
    let read = |entries: &[&[(&str, &[u8], tar::EntryType)]]| Packed::read(&archive(&entries.concat())[..]);
    read(&[&[index], &chunks]).expect("the good one");
    let refused: [(&str, Vec<_>); 7] = [
        ("the index is not first", [&chunks[..], &[index]].concat()),
        ("a foreign entry", [&[index], &chunks[..], &[("../evil", b"x", Regular)]].concat()),
        ("a chunk twice", [&[index], &chunks[..], &chunks[..1]].concat()),
        ("a chunk of another bundle", [&[index], &chunks[..], &[(&foreign[..], b"x", Regular)]].concat()),
        ("wrong bytes", vec![index, (chunks[0].0, b"wrong", Regular), chunks[1]]),
        ("a link", vec![index, (chunks[0].0, b"", Symlink), chunks[1]]),
        ("a missing chunk", vec![index, chunks[0]]),
    ];
    for (what, entries) in refused {
        assert!(read(&[&entries]).is_err(), "{what}");
    }
    assert!(Packed::read(&b"not a tar"[..]).is_err());
}

#[test]
fn a_released_bundle_is_trusted_by_whoever_trusts_the_root() {
    let (repo, packed) = released("1.0.0");
    let verified = packed.verify(&repo.root, NOW).expect("good");
    assert_eq!(verified, Verified { root_version: 1, targets_version: 2 });
}

#[test]
fn unsigned_expired_foreign_and_too_old_bundles_are_refused() {
    let (mut repo, mut packed) = released("1.0.0");
    assert!(matches!(packed.verify(&repo.root, LATER), Err(VerifyError::Tuf(_))), "expired");
    let other = Repo::new();
    let mut foreign = packed.clone();
    foreign.metadata = other.server.lock().metadata.clone();
    assert!(matches!(foreign.verify(&repo.root, NOW), Err(VerifyError::NotATarget(_))), "not released");
    let mut swapped = pack_model("m", "1.0.0", b"other content", "");
    swapped.metadata = packed.metadata.clone();
    assert!(matches!(swapped.verify(&repo.root, NOW), Err(VerifyError::Tuf(_))), "other content");
    packed.metadata.remove("timestamp.json");
    assert!(matches!(packed.verify(&repo.root, NOW), Err(VerifyError::Tuf(_))), "no metadata");
    repo.set_floor("m", "1.1.0");
    packed.metadata = repo.server.lock().metadata.clone();
    assert!(matches!(packed.verify(&repo.root, NOW), Err(VerifyError::Content(_))), "below the floor");
}

use super::*;
use whimbrel_updater::disk::Disk;

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn read(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    disk.read(path(name), 1 << 20).expect("reads")
}

fn survivors(disk: &SimDisk) -> impl Iterator<Item = SimDisk> + '_ {
    Image::all(0, 60).map(|image| disk.survivor(image))
}

/// A folder `/d` that is durable.
fn with_folder() -> SimDisk {
    let disk = SimDisk::default();
    disk.create_dir(path("/d")).expect("creates");
    disk.sync_dir(path("/")).expect("syncs");
    disk
}

fn put(disk: &SimDisk, name: &str, bytes: &[u8]) {
    disk.write(path(name), bytes).expect("writes");
    disk.sync_file(path(name)).expect("syncs");
    disk.sync_dir(path(name).parent().expect("a folder")).expect("syncs");
}

#[test]
fn what_is_synced_survives_in_every_image() {
    let disk = with_folder();
    put(&disk, "/d/a", b"one");
    for disk in survivors(&disk) {
        assert_eq!(read(&disk, "/d/a"), Some(b"one".to_vec()));
    }
}

#[test]
fn a_rename_without_a_sync_of_the_file_can_leave_it_empty() {
    let disk = with_folder();
    put(&disk, "/d/a", b"one");
    disk.write(path("/d/t"), b"two").expect("writes");
    disk.rename(path("/d/t"), path("/d/a")).expect("renames");
    let found: Vec<_> = survivors(&disk).map(|d| read(&d, "/d/a").expect("never neither")).collect();
    for expected in [&b"one"[..], b"two", b""] {
        assert!(found.iter().any(|f| f == expected), "{expected:?}");
    }
}

#[test]
fn a_synced_file_renamed_into_place_is_the_old_or_the_new_one() {
    let disk = with_folder();
    put(&disk, "/d/a", b"one");
    disk.write(path("/d/t"), b"two").expect("writes");
    disk.sync_file(path("/d/t")).expect("syncs");
    disk.rename(path("/d/t"), path("/d/a")).expect("renames");
    let found: Vec<_> = survivors(&disk).map(|d| read(&d, "/d/a").expect("never neither")).collect();
    assert!(found.iter().all(|f| f == b"one" || f == b"two"));
    assert!(found.iter().any(|f| f == b"one") && found.iter().any(|f| f == b"two"));
    disk.sync_dir(path("/d")).expect("syncs");
    assert!(survivors(&disk).all(|d| read(&d, "/d/a").expect("there") == b"two"));
}

#[test]
fn names_come_through_in_any_order_but_changes_of_one_name_in_theirs() {
    let disk = with_folder();
    put(&disk, "/d/a", b"1");
    disk.write(path("/d/b"), b"").expect("writes");
    disk.remove_file(path("/d/a")).expect("removes");
    disk.write(path("/d/a"), b"").expect("writes");
    disk.remove_file(path("/d/b")).expect("removes");
    let names: std::collections::BTreeSet<_> =
        survivors(&disk).map(|d| (read(&d, "/d/a").map(|a| a.len()), read(&d, "/d/b").is_some())).collect();
    assert!(names.contains(&(None, false)), "a is removed, b was never made");
    assert!(names.contains(&(Some(1), true)), "b is made, a is not removed");
    assert!(names.contains(&(Some(0), false)));
}

#[test]
fn a_move_between_folders_never_loses_both_names() {
    let disk = with_folder();
    disk.create_dir(path("/e")).expect("creates");
    disk.sync_dir(path("/")).expect("syncs");
    put(&disk, "/d/a", b"1");
    disk.rename(path("/d/a"), path("/e/a")).expect("renames");
    let at = |d: &SimDisk| (read(d, "/d/a").is_some(), read(d, "/e/a").is_some());
    let found: std::collections::BTreeSet<_> = survivors(&disk).map(|d| at(&d)).collect();
    assert_eq!(found, [(true, false), (false, true), (true, true)].into());
    let half = disk.fork();
    half.sync_dir(path("/e")).expect("syncs");
    assert!(survivors(&half).all(|d| at(&d).1));
    disk.sync_dir(path("/d")).expect("syncs");
    assert!(survivors(&disk).all(|d| at(&d) == (false, true)));
}

#[test]
fn a_removed_folder_may_come_back_in_part() {
    let disk = with_folder();
    put(&disk, "/d/a", b"1");
    put(&disk, "/d/b", b"1");
    disk.remove_dir_all(path("/d")).expect("removes");
    assert!(disk.files().is_empty());
    let counts: std::collections::BTreeSet<_> = survivors(&disk).map(|d| d.files().len()).collect();
    assert_eq!(counts, [0, 1, 2].into());
}

#[test]
fn every_change_is_a_cut_point_and_nothing_else() {
    let disk = with_folder();
    put(&disk, "/d/a", b"1");
    let done = disk.operations();
    disk.create_dir(path("/d")).expect("is there");
    disk.sync_file(path("/d/a")).expect("is synced");
    disk.sync_dir(path("/d")).expect("is synced");
    disk.remove_file(path("/d/none")).expect("is absent");
    disk.remove_dir_all(path("/none")).expect("is absent");
    assert_eq!(disk.operations(), done);
    disk.cut_before(Some(done + 1));
    disk.write(path("/d/a"), b"2").expect("the one before the cut");
    disk.write(path("/d/a"), b"3").expect_err("the power is off");
    assert!(disk.is_off());
    disk.read(path("/d/a"), 9).expect_err("the power is off");
    assert_eq!(read(&disk.survivor(Image::Nothing), "/d/a"), Some(b"1".to_vec()));
    assert_eq!(read(&disk.survivor(Image::Everything), "/d/a"), Some(b"2".to_vec()));
}

#[test]
fn a_full_disk_takes_what_fits_and_a_read_only_one_nothing() {
    let disk = with_folder();
    disk.set_free_bytes(BLOCK_BYTES);
    let error = disk.write(path("/d/a"), &[1; 5000]).expect_err("full");
    assert_eq!(error.source.kind(), io::ErrorKind::StorageFull);
    assert_eq!(read(&disk, "/d/a").map(|a| a.len()), Some(4096));
    disk.create_dir(path("/f")).expect_err("full");
    disk.heal();
    disk.create_dir(path("/f")).expect("there is room");
    disk.set_read_only();
    let error = disk.remove_file(path("/none")).expect_err("read-only");
    assert_eq!(error.source.kind(), io::ErrorKind::ReadOnlyFilesystem);
    disk.create_dir(path("/f")).expect("is there");
    disk.heal();
    let next = disk.operations();
    disk.refuse(next, 1, Refusal::Io);
    disk.write(path("/d/a"), b"1").expect_err("an error");
    disk.write(path("/d/a"), b"1").expect("only one");
}

#[test]
fn a_file_is_reserved_and_then_filled_in_any_order() {
    let disk = with_folder();
    disk.write_at(path("/d/a"), 0, b"1").expect_err("there is no such file");
    disk.set_len(path("/d/a"), 1000).expect("reserves");
    disk.write_at(path("/d/a"), 600, &[2; 400]).expect("writes");
    assert_eq!(read(&disk, "/d/a"), Some([vec![0; 600], vec![2; 400]].concat()));
    disk.sync_dir(path("/d")).expect("syncs");
    let lengths: std::collections::BTreeSet<_> =
        survivors(&disk).map(|d| read(&d, "/d/a").map(|a| a.len())).collect();
    assert!(lengths.contains(&Some(0)) && lengths.contains(&Some(1000)));
    disk.set_free_bytes(BLOCK_BYTES);
    let error = disk.set_len(path("/d/b"), 5000).expect_err("full");
    assert_eq!(error.source.kind(), io::ErrorKind::StorageFull);
    disk.set_len(path("/d/b"), 4000).expect("there is room");
}

#[test]
fn a_process_that_ends_leaves_all_it_wrote_to_the_next() {
    let disk = with_folder();
    disk.write(path("/d/a"), b"1").expect("writes");
    let next = disk.handed_over();
    disk.write(path("/d/a"), b"2").expect_err("its process is gone");
    assert_eq!(read(&next, "/d/a"), Some(b"1".to_vec()));
    assert_eq!(read(&next.survivor(Image::Nothing), "/d/a"), None);
}

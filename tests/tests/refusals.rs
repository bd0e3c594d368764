//! Bad input, as it would come: each is refused with the right exit code or reason, and what served goes on serving.

#![allow(clippy::expect_used, reason = "a test fails by a panic that says why")]

use std::{fs, path::Path};
use whimbrel_tests::{Agent, Fleet, Operator, binary, examples, pixels, run};

struct World {
    dir: tempfile::TempDir,
    fleet: Fleet,
    operator: Operator,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder for the test");
        let fleet = Fleet::start(dir.path());
        let operator = Operator::new(dir.path(), &fleet);
        Self { dir, fleet, operator }
    }

    /// A device on which version 1 is confirmed.
    fn device_with_v1(&self) -> Agent {
        let archive = self.operator.pack(&examples().join("digits/v1"), "v1.wbundle");
        self.operator.publish(&archive);
        let agent = Agent::enrolled(self.dir.path(), "cam-1", &self.fleet, &self.operator);
        drop(self.operator.json(&["rollout", "start", "digits", "1.0.0", "--stages", "100"]));
        self.wait_for(&agent, "1.0.0", "active");
        agent
    }

    /// Sends traffic until the device reports the progress for the version; gives the reason's kind, where there is one.
    fn wait_for(&self, agent: &Agent, version: &str, progress: &str) -> String {
        let images: Vec<Vec<f32>> = (0..50).map(pixels).collect();
        agent.serve_until(&format!("{version} to be {progress}"), &images, || {
            let (at, state) = self.operator.update("cam-1")?;
            let reached = at == version && !state[progress].is_null();
            reached.then(|| state[progress]["reason"]["kind"].as_str().unwrap_or_default().to_owned())
        })
    }
}

#[test]
fn a_version_that_contradicts_its_golden_vectors_is_refused_and_the_active_one_serves_on() {
    let world = World::new();
    let agent = world.device_with_v1();
    let archive = world.operator.pack(&examples().join("digits/v3"), "v3.wbundle");
    world.operator.publish(&archive);
    drop(world.operator.json(&["rollout", "start", "digits", "3.0.0", "--stages", "100"]));
    assert_eq!(world.wait_for(&agent, "3.0.0", "rejected"), "golden_mismatch");
    assert_eq!(agent.version(&pixels(0)).as_deref(), Some("1.0.0"));
}

#[test]
fn a_chunk_that_was_changed_on_the_server_is_refused_and_the_active_one_serves_on() {
    let world = World::new();
    let agent = world.device_with_v1();
    let archive = world.operator.pack(&examples().join("digits/v2"), "v2.wbundle");
    world.operator.publish(&archive);
    // Every stored chunk gets one flipped bit: what an intruder on the server, or a bad disk, can do.
    let mut changed = 0;
    damage(&world.fleet.state.join("chunks"), &mut changed);
    assert!(changed > 0, "the server stores chunks as files");
    drop(world.operator.json(&["rollout", "start", "digits", "2.0.0", "--stages", "100"]));
    assert_eq!(world.wait_for(&agent, "2.0.0", "rejected"), "corrupt");
    assert_eq!(agent.version(&pixels(0)).as_deref(), Some("1.0.0"));
}

fn damage(folder: &Path, changed: &mut u32) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            damage(&path, changed);
        } else {
            let mut bytes = fs::read(&path).expect("readable");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&path, bytes).expect("writable");
            *changed += 1;
        }
    }
}

#[test]
fn a_version_below_the_signed_floor_is_refused_and_the_active_one_serves_on() {
    let world = World::new();
    for version in ["v1", "v2"] {
        let archive =
            world.operator.pack(&examples().join("digits").join(version), &format!("{version}.wbundle"));
        world.operator.publish(&archive);
    }
    let mut agent = Agent::enrolled(world.dir.path(), "cam-1", &world.fleet, &world.operator);
    drop(world.operator.json(&["rollout", "start", "digits", "2.0.0", "--stages", "100"]));
    world.wait_for(&agent, "2.0.0", "active");
    // The server asks for the old version while the device is away; by the time it returns, the floor is above it.
    assert_eq!(agent.process.stop(), Some(0));
    drop(world.operator.json(&["rollout", "start", "digits", "1.0.0", "--stages", "100"]));
    let (repo, key) = (world.operator.path("repo"), world.operator.path("targets.pem"));
    let floor = ["model", "floor", "digits", "2.0.0", "--repo", &repo, "--targets-key", &key];
    drop(world.operator.call(&floor).ok());
    let agent = Agent::start(world.dir.path(), "cam-1", &[]);
    assert_eq!(world.wait_for(&agent, "1.0.0", "rejected"), "below_floor");
    assert_eq!(agent.version(&pixels(0)).as_deref(), Some("2.0.0"));
    // The server itself offers it to nobody else any more.
    assert_ne!(
        world.operator.call(&["rollout", "start", "digits", "1.0.0", "--stages", "100"]).code,
        Some(0)
    );
}

/// An archive with its metadata, and the operator whose root signed it.
fn signed_archive(world: &World, version: &str) -> String {
    let archive =
        world.operator.pack(&examples().join(format!("digits/{version}")), &format!("{version}.wbundle"));
    world.operator.publish(&archive);
    let (repo, key) = (world.operator.path("repo"), world.operator.path("targets.pem"));
    drop(world.operator.call(&["bundle", "sign", &archive, "--repo", &repo, "--targets-key", &key]).ok());
    archive
}

fn verify(world: &World, archive: &str) -> i32 {
    let root = world.operator.path("repo/1.root.json");
    let done = world.operator.call(&["bundle", "verify", archive, "--root", &root]);
    let code = done.code.expect("ends by itself");
    if code != 0 {
        assert!(done.stderr.starts_with("error: "), "{}", done.stderr);
    }
    code
}

#[test]
fn offline_verification_accepts_the_signed_archive_and_refuses_every_damaged_one() {
    let world = World::new();
    let archive = signed_archive(&world, "v1");
    assert_eq!(verify(&world, &archive), 0, "the whole archive");

    let unsigned = world.operator.pack(&examples().join("digits/v1"), "unsigned.wbundle");
    assert_eq!(verify(&world, &unsigned), 4, "unsigned");

    let bytes = fs::read(&archive).expect("readable");
    let damaged = world.operator.path("damaged.wbundle");
    for cut in [0, 100, 512, 5000, bytes.len() / 2] {
        fs::write(&damaged, &bytes[..cut]).expect("writable");
        assert_eq!(verify(&world, &damaged), 4, "cut at {cut} of {}", bytes.len());
    }
    let content = |file: &str| world.operator.json(&["bundle", "inspect", file])["sha256"].clone();
    let whole = content(&archive);
    let mut refused = 0;
    for at in (600..bytes.len()).step_by(bytes.len() / 40) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        fs::write(&damaged, &changed).expect("writable");
        // A bit that nobody reads (padding, the copy of the root that is trusted already) may pass: then what would
        // be installed is what was signed.
        match verify(&world, &damaged) {
            4 => refused += 1,
            code => assert_eq!((code, content(&damaged)), (0, whole.clone()), "byte {at}"),
        }
    }
    assert!(refused > 20, "{refused} refused");
    let mut long = bytes.clone();
    long.splice(0..0, oversized_entry());
    fs::write(&damaged, long).expect("writable");
    assert_eq!(verify(&world, &damaged), 4, "an entry of 8 GiB is declared");

    // Another operator's root: the signatures are good, but not by keys that this root names.
    let stranger = World::new();
    assert_eq!(verify(&stranger, &archive), 4, "wrong keys");
}

/// A tar header that declares 8 GiB of `index.wbi`.
fn oversized_entry() -> Vec<u8> {
    let mut header = vec![0u8; 512];
    header[..9].copy_from_slice(b"index.wbi");
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(b"77777777777\0");
    header[136..148].copy_from_slice(b"00000000000\0");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[test]
fn a_replayed_archive_is_refused_by_a_device_that_has_seen_newer_metadata() {
    let world = World::new();
    let old = signed_archive(&world, "v1");
    let new = signed_archive(&world, "v2");
    let agent = Agent::enrolled(world.dir.path(), "cam-1", &world.fleet, &world.operator);
    let trust = agent.state.join("trust").display().to_string();
    let check = |archive: &str| world.operator.call(&["bundle", "verify", archive, "--trust", &trust]).code;
    assert_eq!(check(&old), Some(0), "before the device has seen anything newer");
    drop(world.operator.json(&["rollout", "start", "digits", "2.0.0", "--stages", "100"]));
    world.wait_for(&agent, "2.0.0", "active");
    assert_eq!(check(&new), Some(0), "the new one");
    assert_eq!(check(&old), Some(4), "the old one again");
    assert_eq!(agent.version(&pixels(0)).as_deref(), Some("2.0.0"));
}

#[test]
fn a_bad_configuration_names_file_line_key_and_what_was_expected() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let file = dir.path().join("agent.toml");
    let path = file.display().to_string();
    for (text, line, key, expected) in [
        ("[serve]\nhttp = \"localhost\"\n", ":2", "serve.http", "ADDR:PORT"),
        ("[telemetry]\n\nwindow_s = \"soon\"\n", ":3", "window_s", "integer"),
        ("[serve]\nhtpp = \"127.0.0.1:1\"\n", ":2", "htpp", "http"),
        ("[serve\n", ":1", "", "]"),
    ] {
        fs::write(&file, text).expect("writable");
        let done = run(&binary("whimbrel-agent"), ["config", "check", "--config", &path]);
        assert_eq!(done.code, Some(2), "{text}: {}", done.stderr);
        assert!(done.stderr.starts_with("error: "), "{}", done.stderr);
        for part in [&format!("{path}{line}"), key, expected] {
            assert!(done.stderr.contains(part), "{text:?}: {part:?} is not in {:?}", done.stderr);
        }
    }
}

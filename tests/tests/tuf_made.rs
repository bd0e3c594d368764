//! A repository made with `whimbrel repo` in a plain folder, served by a plain web server, and read by python-tuf's client and by
//! ours. No fleet server is anywhere near.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic that says why")]

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};
use whimbrel_tests::{Client, Finished, Kind, Served, binary, python, run};

const SERVED: &str = "served";

/// The operators' machine: key files and the folder.
struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn new(keys: &[&str]) -> Self {
        let desk = Self { dir: tempfile::tempdir().expect("a folder for the test") };
        for key in keys {
            drop(desk.call(&format!("key generate --out {key}.key")).ok());
            let shown = desk.call(&format!("key show {key}.key --json")).ok();
            fs::write(desk.path(&format!("{key}.pub")), shown).expect("written");
        }
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `whimbrel` with these words; names of keys, files and the folder become paths.
    fn call(&self, line: &str) -> Finished {
        let is_path = |word: &str| [".key", ".pub", ".txt"].iter().any(|end| word.ends_with(end));
        let place = |word: &str| self.path(word).display().to_string();
        let args = line.split(' ').map(|word| match word.split_once('=') {
            Some((role, file)) if is_path(file) => format!("{role}={}", place(file)),
            None if (is_path(word) && !word.contains('/')) || word == SERVED => place(word),
            _ => word.to_owned(),
        });
        run(&binary("whimbrel"), args.collect::<Vec<_>>())
    }

    /// Runs `whimbrel repo` on the folder.
    fn repo(&self, line: &str) -> Finished {
        self.call(&format!("repo {line} --repo {SERVED}"))
    }

    /// The same, of which one JSON value comes.
    fn json(&self, line: &str) -> Value {
        let text = self.repo(&format!("{line} --json")).ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{line}: {e}: {text}"))
    }

    /// Signatures given and needed, by each that lists keys, as `sign` shows them.
    fn sign(&self, role: &str, key: &str) -> Vec<(u64, u64)> {
        // A role's name may hold a blank, so that the line cannot be split.
        let (key, folder) = (self.path(key).display().to_string(), self.path(SERVED).display().to_string());
        let args = ["repo", "sign", role, "--repo", &folder, "--key", &key, "--json"];
        let view: Value = serde_json::from_str(&run(&binary("whimbrel"), args).ok()).expect("JSON");
        let number = |s: &Value, field: &str| s[field].as_u64().expect("a number");
        let all = view["signatures"].as_array().expect("a list");
        all.iter().map(|s| (number(s, "valid"), number(s, "threshold"))).collect()
    }

    fn add(&self, name: &str, more: &str) -> Value {
        fs::write(self.path("content.txt"), format!("content of {name}")).expect("written");
        self.json(&format!("add --file content.txt --name {name} {more}"))
    }

    /// A snapshot and a timestamp, as the online job of a static repository makes them.
    fn publish(&self, key: &str) {
        drop(self.repo(&format!("snapshot --key {key}")).ok());
        drop(self.repo(&format!("timestamp --key {key}")).ok());
        assert_eq!(self.json("status")["next"], Value::Array(vec![]), "nothing is left to do");
    }
}

/// Both clients, each with a folder that stays.
struct Readers {
    served: Served,
    clients: [Client; 2],
}

impl Readers {
    fn new(desk: &Desk) -> Self {
        let root = desk.path(SERVED).join("1.root.json");
        let client = |kind| Client::new(kind, &desk.path(&format!("{kind:?}")), &root);
        let clients = [Kind::Ours, Kind::Python].map(client);
        Self { served: Served::start(&desk.path(SERVED)), clients }
    }

    fn ask(&self, client: &Client, names: &[&str]) -> Finished {
        client.download(&self.served.url(""), &self.served.url("targets"), names)
    }

    fn get(&self, names: &[&str]) {
        for client in &self.clients {
            drop(self.ask(client, names).ok());
            for name in names {
                assert_eq!(client.downloaded(name), format!("content of {name}").into_bytes());
            }
        }
    }

    fn refuse(&self, name: &str) {
        for client in &self.clients {
            assert_eq!(self.ask(client, &[name]).code, Some(1), "{name}");
        }
    }
}

/// Root keys a, b and c, two of them needed; release keys r and s, both needed; the online key o.
fn desk() -> Desk {
    let desk = Desk::new(&["a", "b", "c", "d", "r", "s", "o", "p", "team", "mate", "guest", "bin"]);
    let init = "init --root-key a.key --root-key b.pub --root-key c.pub --threshold 2 \
                --targets-key r.pub --targets-key s.pub --targets-threshold 2 --online-key o.pub";
    let first = desk.json(init);
    assert_eq!((&first["complete"], &first["signatures"][0]["valid"]), (&Value::Bool(false), &1.into()));
    assert_eq!(desk.repo("snapshot --key o.key").code, Some(4), "nobody trusts the root yet");
    assert_eq!(desk.sign("root", "c.key"), [(2, 2)]);
    desk
}

/// Signs a change of the top-level targets with the second of the two keys that it wants.
fn complete_targets(desk: &Desk) {
    assert_eq!(desk.sign("targets", "s.key"), [(2, 2)]);
}

#[test]
fn targets_with_a_threshold_come_and_go() {
    let desk = desk();
    let added = desk.add("notes.md", "--key r.key");
    assert_eq!((&added["complete"], &added["signatures"][0]["valid"]), (&Value::Bool(false), &1.into()));
    assert_eq!(desk.repo("snapshot --key o.key").code, Some(4), "one signature of two");
    complete_targets(&desk);
    desk.publish("o.key");
    let readers = Readers::new(&desk);
    readers.get(&["notes.md"]);

    drop(desk.add("docs/more.md", "--key r.key"));
    readers.get(&["notes.md"]);
    readers.refuse("docs/more.md");
    complete_targets(&desk);
    desk.publish("o.key");
    readers.get(&["notes.md", "docs/more.md"]);

    drop(desk.repo("remove notes.md --key r.key --key s.key").ok());
    desk.publish("o.key");
    readers.refuse("notes.md");
    readers.get(&["docs/more.md"]);
}

#[test]
fn the_root_is_rotated_twice_and_clients_follow() {
    let desk = desk();
    drop(desk.add("notes.md", "--key r.key --key s.key"));
    desk.publish("o.key");
    let readers = Readers::new(&desk);
    readers.get(&["notes.md"]);

    // b leaves, d comes, and the online key is replaced.
    let shown: Value =
        serde_json::from_str(&fs::read_to_string(desk.path("b.pub")).expect("there")).expect("JSON");
    let id = &shown["id"].as_str().expect("an id")[..10];
    drop(desk.json(&format!("rotate --add root=d.pub --remove root={id} --online-key p.pub")));
    assert_eq!(desk.sign("root", "a.key"), [(1, 2), (1, 2)]);
    assert_eq!(desk.sign("root", "d.key"), [(1, 2), (2, 2)]);
    readers.get(&["notes.md"]);
    assert_eq!(desk.sign("root", "b.key"), [(2, 2), (2, 2)]);
    assert_eq!(desk.repo("snapshot --key o.key").code, Some(4), "the old online key");
    desk.publish("p.key");
    readers.get(&["notes.md"]);

    // All three root keys are needed from now on, and one release key only.
    drop(desk.json("rotate --threshold root=3 --threshold targets=1"));
    for (key, expected) in [("a.key", (1, 3)), ("c.key", (2, 3)), ("d.key", (3, 3))] {
        assert_eq!(desk.sign("root", key).last(), Some(&expected));
    }
    let added = desk.add("late.md", "--key s.key");
    assert_eq!(added["complete"], Value::Bool(true));
    desk.publish("p.key");
    readers.get(&["notes.md", "late.md"]);
    Readers { clients: [Kind::Ours, Kind::Python].map(|k| fresh(&desk, k)), ..readers }.get(&["late.md"]);
}

/// A client that still trusts the first root.
fn fresh(desk: &Desk, kind: Kind) -> Client {
    let root: &Path = &desk.path(SERVED).join("1.root.json");
    Client::new(kind, &desk.path(&format!("fresh-{kind:?}")), root)
}

#[test]
fn delegations_of_two_levels_and_with_odd_names_are_followed() {
    let desk = desk();
    let both = "--key r.key --key s.key";
    drop(desk.json(&format!(
        "delegate vision --path vision/* --role-key team.pub --role-key mate.pub --threshold 2 {both}"
    )));
    let folder = desk.path(SERVED).display().to_string();
    let [guest, team] = ["guest.pub", "team.key"].map(|f| desk.path(f).display().to_string());
    let odd = "vision/eu #1?";
    let args = ["repo", "delegate", odd, "--from", "vision", "--path", "vision/eu-*", "--terminating"];
    let more = ["--role-key", &guest, "--repo", &folder, "--key", &team];
    drop(run(&binary("whimbrel"), [&args[..], &more].concat()).ok());
    assert_eq!(desk.repo("snapshot --key o.key").code, Some(4), "vision has one signature of two");
    assert_eq!(desk.sign("vision", "mate.key"), [(2, 2)]);
    assert_eq!(desk.sign(odd, "guest.key"), [(1, 1)]);

    fs::write(desk.path("eu.txt"), "content of vision/eu-1").expect("written");
    let [file, key] = ["eu.txt", "guest.key"].map(|f| desk.path(f).display().to_string());
    let add = |name: &str| {
        let args = ["repo", "add", "--file", &file, "--name", name, "--role", odd, "--repo", &folder];
        run(&binary("whimbrel"), [&args[..], &["--key", &key]].concat())
    };
    drop(add("vision/eu-1").ok());
    assert_eq!(add("vision/us-1").code, Some(4), "no client would look for it there");
    drop(desk.add("vision/all", "--role vision --key team.key --key mate.key"));
    desk.publish("o.key");
    let readers = Readers::new(&desk);
    readers.get(&["vision/eu-1", "vision/all"]);
    readers.refuse("vision/us-1");

    // The guest's delegation ends with that of the whole team.
    drop(desk.repo(&format!("undelegate vision {both}")).ok());
    desk.publish("o.key");
    readers.refuse("vision/all");
}

#[test]
fn bins_by_hash_prefix_hold_their_targets() {
    let desk = desk();
    for (number, digits) in ["0123", "4567", "89ab", "cdef"].iter().enumerate() {
        let prefixes: String = digits.chars().map(|d| format!(" --hash-prefix {d}")).collect();
        let line = format!("delegate bin-{number}{prefixes} --role-key bin.pub --key r.key --key s.key");
        drop(desk.json(&line));
        assert_eq!(desk.sign(&format!("bin-{number}"), "bin.key"), [(1, 1)]);
    }
    let names = ["m/1.bin", "m/2.bin", "m/3.bin", "m/4.bin", "m/5.bin"];
    for name in names {
        fs::write(desk.path("content.txt"), format!("content of {name}")).expect("written");
        let taken = (0..4)
            .filter(|bin| {
                let line = format!("add --file content.txt --name {name} --role bin-{bin} --key bin.key");
                desk.repo(&line).code == Some(0)
            })
            .count();
        assert_eq!(taken, 1, "{name} belongs into one bin");
    }
    desk.publish("o.key");
    Readers::new(&desk).get(&names);
}

/// Public keys in PEM, as OpenSSL writes them.
const FOREIGN_KEYS: &str = "
import sys
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
keys = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
for file, key in zip(sys.argv[1:], keys):
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    open(file, 'wb').write(pem)
";

#[test]
fn ecdsa_and_rsa_keys_stand_beside_ours() {
    let desk = Desk::new(&["a", "r", "o"]);
    let files = ["ec.pub", "rsa.pub"].map(|f| desk.path(f).display().to_string());
    drop(run(&python(), ["-c", FOREIGN_KEYS, &files[0], &files[1]]).ok());
    let line = "init --root-key a.key --root-key ec.pub --targets-key r.pub --targets-key rsa.pub --online-key o.pub";
    assert_eq!(desk.json(line)["complete"], Value::Bool(true));
    drop(desk.add("notes.md", "--key r.key"));
    desk.publish("o.key");
    let types: Vec<String> = {
        let root: Value =
            serde_json::from_slice(&fs::read(desk.path(SERVED).join("1.root.json")).expect("there"))
                .expect("JSON");
        let keys = root["signed"]["keys"].as_object().expect("an object");
        keys.values().map(|k| k["keytype"].as_str().expect("a text").to_owned()).collect()
    };
    assert!(types.contains(&"ecdsa".to_owned()) && types.contains(&"rsa".to_owned()), "{types:?}");
    Readers::new(&desk).get(&["notes.md"]);
}

#[test]
fn the_folder_holds_no_private_key() {
    let desk = desk();
    drop(desk.add("notes.md", "--key r.key --key s.key"));
    desk.publish("o.key");
    let mut ahead = vec![desk.path(SERVED)];
    while let Some(dir) = ahead.pop() {
        for entry in fs::read_dir(dir).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                ahead.push(path);
                continue;
            }
            let text = String::from_utf8_lossy(&fs::read(&path).expect("readable")).into_owned();
            assert!(!text.contains("PRIVATE KEY"), "{}", path.display());
        }
    }
}

//! The operator's path without a server: init, sign, release, and what is refused on the way.

mod roles;

use super::*;
use crate::error::Exit;
use time::{Duration, OffsetDateTime, macros::datetime};
use whimbrel_updater::{
    bundle::{self, Packed, VerifyError},
    repo::{self, RoleSpec},
    tuf::{Root, Signed, TufError},
};

pub(crate) const NOW: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);

/// A repository folder, its keys, and the server's online key.
pub(crate) struct Operator {
    pub(crate) dir: tempfile::TempDir,
    root: [Key; 2],
    pub(crate) release: Key,
    pub(crate) online: repo::SigningKey,
}

impl Operator {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let key = |name: &str| Key::generate(&dir.path().join(name)).expect("a key");
        let (root, release) = ([key("a.key"), key("b.key")], key("release.key"));
        Self { root, release, online: repo::SigningKey::generate().expect("a key"), dir }
    }

    fn plan(&self) -> RootPlan {
        RootPlan {
            root: RoleSpec { keys: self.root.iter().map(Key::public).collect(), threshold: 2 },
            targets: RoleSpec { keys: vec![self.release.public()], threshold: 1 },
            online: self.online.public(),
        }
    }

    /// The folder, with a root that both have signed.
    pub(crate) fn repository(&self) -> Repository {
        let [a, b] = &self.root;
        let repository =
            Repository::init(&self.dir.path().join("repo"), &self.plan(), &[a], NOW).expect("made");
        assert!(repository.sign(ROOT, b).expect("signed").complete);
        repository
    }

    /// Signs a bundle as a release.
    pub(crate) fn sign(&self, repository: &Repository, bundle: &Packed, now: OffsetDateTime) -> u64 {
        let keys = [&self.release];
        repository.sign_bundle(TARGETS, bundle, Given::new(&keys, now)).expect("signed").version
    }

    pub(crate) fn bundle(&self, version: &str, content: &str) -> Packed {
        let dir = self.dir.path().join(format!("bundle-{version}-{}", content.len()));
        std::fs::create_dir_all(&dir).expect("a folder");
        std::fs::write(dir.join("model.onnx"), content).expect("written");
        std::fs::write(dir.join("golden.npz"), "golden").expect("written");
        let manifest = MANIFEST.replace("VERSION", version);
        std::fs::write(dir.join("bundle.toml"), manifest).expect("written");
        bundle::pack(&dir).expect("packs")
    }

    /// What the server makes of the newest targets.
    pub(crate) fn publish(&self, repository: &Repository, before: Option<&Online>) -> Online {
        let end = NOW + Duration::days(7);
        let targets = repository.signed(TARGETS).expect("readable").expect("one").bytes;
        let old = before.map(|b| b.snapshot.as_slice());
        let snapshot = repo::snapshot(old, &targets, &self.online, end).expect("signed");
        let old = before.map(|b| b.timestamp.as_slice());
        let timestamp = repo::timestamp(old, &snapshot, &self.online, NOW, end).expect("signed");
        Online { timestamp, snapshot, targets, delegated: Vec::new() }
    }
}

const MANIFEST: &str = r#"
name = "digits"
version = "VERSION"
licence = "MIT"
model = "model.onnx"
inputs = [{ name = "x", datatype = "FP32", shape = [1] }]
outputs = [{ name = "y", datatype = "FP32", shape = [1] }]
golden = { file = "golden.npz", count = 1, tolerance = 0.0 }
"#;

pub(crate) fn exit<T>(result: Result<T, Failure>) -> Exit {
    result.err().expect("a failure").exit
}

#[test]
fn a_root_is_complete_only_with_its_threshold_of_signatures() {
    let operator = Operator::new();
    let dir = operator.dir.path().join("repo");
    let [a, b] = &operator.root;
    let repository = Repository::init(&dir, &operator.plan(), &[a], NOW).expect("made");
    let view = repository.role_view(ROOT).expect("readable");
    assert_eq!((view.signatures[0].valid, view.signatures[0].threshold, view.complete), (1, 2, false));
    assert_eq!(view.signatures[0].missing, [b.id().expect("an id")]);
    assert_eq!(repository.root_version().expect("readable"), 0, "no client may see it yet");
    assert_eq!(exit(repository.check_complete()), Exit::Refused);
    assert_eq!(exit(repository.sign(ROOT, &operator.release)), Exit::Refused, "a release key is no root key");
    let again = repository.sign(ROOT, a).expect("again");
    assert_eq!(again.signatures[0].valid, 1, "the same key counts once");
    assert!(repository.sign(ROOT, b).expect("signed").complete);
    repository.check_complete().expect("complete");
    assert!(repo::check_root(None, &repository.root(1).expect("there")).is_ok());
    assert_eq!(exit(repository.sign(ROOT, a)), Exit::Usage, "nothing waits any more");

    assert_eq!(exit(Repository::init(&dir, &operator.plan(), &[a], NOW)), Exit::Usage, "never made twice");
    let mut impossible = operator.plan();
    impossible.root.threshold = 3;
    assert_eq!(
        exit(Repository::init(&operator.dir.path().join("other"), &impossible, &[], NOW)),
        Exit::Usage
    );
    assert_eq!(exit(Repository::open(operator.dir.path())), Exit::Usage);
}

#[test]
fn a_bundle_is_signed_once_and_a_version_never_changes() {
    let operator = Operator::new();
    let repository = operator.repository();
    let one = operator.bundle("1.0.0", "weights");
    let stranger = [&operator.root[0]];
    let refused = repository.sign_bundle(TARGETS, &one, Given::new(&stranger, NOW));
    assert_eq!(exit(refused), Exit::Refused, "not a release key");
    assert_eq!(repository.newest(TARGETS).expect("readable"), None, "and nothing written");

    let keys = [&operator.release];
    let (given, nobody) = (Given::new(&keys, NOW), Given::new(&[], NOW));
    let version = repository.sign_bundle(TARGETS, &one, given).expect("signed").version;
    assert_eq!(repository.sign_bundle(TARGETS, &one, given).expect("again").version, version);
    assert_eq!(repository.sign_bundle(TARGETS, &one, nobody).expect("needs no key").version, version);
    let changed = operator.bundle("1.0.0", "other weights");
    assert_eq!(exit(repository.sign_bundle(TARGETS, &changed, given)), Exit::Refused);

    let two = operator.bundle("2.0.0", "weights");
    assert_eq!(repository.sign_bundle(TARGETS, &two, given).expect("signed").version, version + 1);
    let first = repository.first_with(TARGETS, &one.target_path(), one.index_bytes(), 0);
    assert_eq!(first.expect("readable"), Some(version));
    let later = repository.first_with(TARGETS, &two.target_path(), two.index_bytes(), version + 1);
    assert_eq!(later.expect("readable"), None, "published already");

    // What a server checks, version by version.
    let root = repository.root(1).expect("there");
    let mut before = None;
    for version in 1..=version + 1 {
        let targets = repository.file(TARGETS, version).expect("there");
        repo::check_targets(&root, before.as_deref(), &targets).expect("accepted");
        before = Some(targets);
    }
}

#[test]
fn floors_only_rise_but_for_numbered_downgrades() {
    let operator = Operator::new();
    let repository = operator.repository();
    let keys = [&operator.release];
    let given = Given::new(&keys, NOW);
    let model = "digits".parse().expect("a name");
    let version = |text: &str| text.parse().expect("a version");
    let floor = |text: &str| repository.set_floor(&model, &version(text), given);
    let lower = |text: &str| repository.lower_floor(&model, &version(text), given);
    assert_eq!(exit(lower("1.0.0")), Exit::Usage, "there is no floor");
    let first = floor("1.2.0").expect("signed").version;
    assert_eq!(floor("1.2.0").expect("again").version, first);
    assert_eq!(exit(floor("1.1.9")), Exit::Refused);
    assert_eq!(floor("2.0.0").expect("raised").version, first + 1);
    let old = operator.bundle("1.9.0", "weights");
    let refused = repository.sign_bundle(TARGETS, &old, given);
    assert_eq!(exit(refused), Exit::Refused, "nobody could install it");

    assert_eq!(exit(lower("2.0.0")), Exit::Usage, "the floor is there already");
    assert_eq!(lower("1.9.0").expect("signed").0, 1);
    assert!(repository.sign_bundle(TARGETS, &old, given).is_ok(), "now anybody can");
    assert_eq!(lower("1.8.0").expect("signed").0, 2);
}

#[test]
fn metadata_in_a_bundle_lets_it_be_verified_offline() {
    let operator = Operator::new();
    let repository = operator.repository();
    let mut bundle = operator.bundle("1.0.0", "weights");
    operator.sign(&repository, &bundle, NOW);
    let root = repository.root(1).expect("there");

    bundle.metadata = repository.for_bundle().expect("readable");
    let refused = bundle.verify(&root, NOW).expect_err("no timestamp yet");
    assert!(matches!(refused, VerifyError::Tuf(TufError::Absent { .. })));

    let online = operator.publish(&repository, None);
    let adopted = repository.adopt(&online, NOW).expect("verifies");
    assert_eq!(adopted, ["1.snapshot.json", "timestamp.json"]);
    assert!(repository.adopt(&online, NOW).expect("again").is_empty());
    bundle.metadata = repository.for_bundle().expect("readable");
    assert_eq!(bundle.verify(&root, NOW).expect("trusted").root_version, 1);
    assert!(bundle.verify(&root, NOW + Duration::days(8)).is_err(), "expired");

    let file = operator.dir.path().join("x.wbundle");
    crate::publish::write_bundle(&file, &bundle).expect("written");
    assert_eq!(crate::publish::read_bundle(&file).expect("reads"), bundle);
    let mut bytes = std::fs::read(&file).expect("reads");
    let end = bytes.len() - 1600;
    bytes[end] ^= 1;
    std::fs::write(&file, &bytes).expect("written");
    assert_eq!(exit(crate::publish::read_bundle(&file)), Exit::Usage, "damaged");
}

#[test]
fn a_server_cannot_slip_in_other_metadata() {
    let operator = Operator::new();
    let repository = operator.repository();
    operator.sign(&repository, &operator.bundle("1.0.0", "weights"), NOW);
    let online = operator.publish(&repository, None);

    // Targets of the same version, signed by the right key, but not those of this folder.
    let other = Operator { dir: tempfile::tempdir().expect("temp dir"), ..operator };
    let theirs = other.repository();
    other.sign(&theirs, &other.bundle("9.0.0", "weights"), NOW);
    let foreign = other.publish(&theirs, None);
    // Both repositories have the same keys, so only the comparison of files can tell.
    assert_eq!(exit(repository.adopt(&foreign, NOW)), Exit::Refused);

    let forged = Online { targets: foreign.targets, ..online };
    assert_eq!(exit(repository.adopt(&forged, NOW)), Exit::Refused, "not what the snapshot names");
    assert!(
        repository.for_bundle().expect("readable").keys().all(|f| f != "timestamp.json"),
        "nothing was kept"
    );
    let root = repository.root(1).expect("there");
    assert_eq!(exit(repository.adopt_root(&root)), Exit::Refused, "the same root again");
    assert_eq!(Signed::<Root>::parse(&root).expect("a root").body().version, 1);
    assert_eq!(repository.root_version().expect("readable"), 1);
}

#[test]
fn keys_are_read_from_either_form_and_exposed_files_are_refused() {
    let operator = Operator::new();
    let key = &operator.release;
    let bare = key.public().to_value().to_string();
    let shown =
        serde_json::json!({ "id": key.id().expect("an id"), "key": key.public().to_value() }).to_string();
    for json in [bare, shown] {
        assert!(public_key(json.as_bytes()).expect("a key").is_same(&key.public()));
    }
    assert!(public_key(b"{}").is_err());
    assert!(public_key(b"-----BEGIN PRIVATE KEY-----").is_err());

    let file = operator.dir.path().join("a.key");
    assert_eq!(exit(Key::generate(&file)), Exit::Failed, "never overwritten");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("chmod");
    assert_eq!(exit(Key::read(&file)), Exit::Refused);
    assert_eq!(exit(Key::read(&operator.dir.path().join("absent"))), Exit::Usage);
}

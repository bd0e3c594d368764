//! The operator's path without a server: init, sign, release, and what is refused on the way.

use super::*;
use crate::error::Exit;
use time::{Duration, OffsetDateTime, macros::datetime};
use whimbrel_updater::{
    bundle::{self, Packed, VerifyError},
    repo,
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
            root: self.root.iter().map(Key::public).collect(),
            threshold: 2,
            targets: vec![self.release.public()],
            online: self.online.public(),
        }
    }

    /// The folder, with a root that both have signed.
    pub(crate) fn repository(&self) -> Repository {
        let [a, b] = &self.root;
        let repository =
            Repository::init(&self.dir.path().join("repo"), &self.plan(), &[a], NOW).expect("made");
        repository.sign_root(b).expect("signed");
        repository
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
        let version = repository.targets_version().expect("readable").expect("one");
        let targets = repository.targets(version).expect("there");
        let old = before.map(|b| b.snapshot.as_slice());
        let snapshot = repo::snapshot(old, &targets, &self.online, end).expect("signed");
        let old = before.map(|b| b.timestamp.as_slice());
        let timestamp = repo::timestamp(old, &snapshot, &self.online, NOW, end).expect("signed");
        Online { timestamp, snapshot, targets }
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
    let view = repository.root_view().expect("readable");
    assert_eq!((view.signatures, view.threshold, view.keys), (1, 2, 2));
    assert_eq!(exit(repository.check_complete()), Exit::Refused);
    assert_eq!(exit(repository.sign_root(&operator.release)), Exit::Refused, "a release key is no root key");
    repository.sign_root(a).expect("again");
    assert_eq!(repository.root_view().expect("readable").signatures, 1, "the same key counts once");
    repository.sign_root(b).expect("signed");
    repository.check_complete().expect("complete");
    assert!(repo::check_root(None, &repository.root(1).expect("there")).is_ok());

    assert_eq!(exit(Repository::init(&dir, &operator.plan(), &[a], NOW)), Exit::Usage, "never made twice");
    let impossible = RootPlan { threshold: 3, ..operator.plan() };
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
    assert_eq!(exit(repository.sign_bundle(&one, &[], NOW)), Exit::Usage, "no key");
    assert_eq!(repository.targets_version().expect("readable"), None, "and nothing written");
    assert_eq!(
        exit(repository.sign_bundle(&one, &[&operator.root[0]], NOW)),
        Exit::Refused,
        "not a release key"
    );

    let key = [&operator.release];
    let version = repository.sign_bundle(&one, &key, NOW).expect("signed");
    assert_eq!(repository.sign_bundle(&one, &key, NOW).expect("again"), version);
    assert_eq!(repository.sign_bundle(&one, &[], NOW).expect("needs no key"), version);
    let changed = operator.bundle("1.0.0", "other weights");
    assert_eq!(exit(repository.sign_bundle(&changed, &key, NOW)), Exit::Refused);

    let two = operator.bundle("2.0.0", "weights");
    assert_eq!(repository.sign_bundle(&two, &key, NOW).expect("signed"), version + 1);
    let first = repository.first_targets_with(&one.target_path(), one.index_bytes(), 0).expect("readable");
    assert_eq!(first, Some(version));
    let later = repository.first_targets_with(&two.target_path(), two.index_bytes(), version + 1);
    assert_eq!(later.expect("readable"), None, "published already");

    // What a server checks, version by version.
    let root = repository.root(1).expect("there");
    let mut before = None;
    for version in 1..=version + 1 {
        let targets = repository.targets(version).expect("there");
        repo::check_targets(&root, before.as_deref(), &targets).expect("accepted");
        before = Some(targets);
    }
}

#[test]
fn floors_only_rise() {
    let operator = Operator::new();
    let repository = operator.repository();
    let key = [&operator.release];
    let model = "digits".parse().expect("a name");
    let floor = |text: &str| repository.set_floor(&model, &text.parse().expect("a version"), &key, NOW);
    let version = floor("1.2.0").expect("signed");
    assert_eq!(floor("1.2.0").expect("again"), version);
    assert_eq!(exit(floor("1.1.9")), Exit::Refused);
    assert_eq!(floor("2.0.0").expect("raised"), version + 1);
    let old = operator.bundle("1.9.0", "weights");
    assert_eq!(exit(repository.sign_bundle(&old, &key, NOW)), Exit::Refused, "nobody could install it");
}

#[test]
fn metadata_in_a_bundle_lets_it_be_verified_offline() {
    let operator = Operator::new();
    let repository = operator.repository();
    let mut bundle = operator.bundle("1.0.0", "weights");
    repository.sign_bundle(&bundle, &[&operator.release], NOW).expect("signed");
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
    repository.sign_bundle(&operator.bundle("1.0.0", "weights"), &[&operator.release], NOW).expect("signed");
    let online = operator.publish(&repository, None);

    // Targets of the same version, signed by the right key, but not those of this folder.
    let other = Operator { dir: tempfile::tempdir().expect("temp dir"), ..operator };
    let theirs = other.repository();
    theirs.sign_bundle(&other.bundle("9.0.0", "weights"), &[&other.release], NOW).expect("signed");
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

//! The keys of operators and server, and what they sign.

use crate::{clock::START, release::Release, server::SimServer};
use semver::Version;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use whimbrel_updater::{
    hash::sha256,
    repo::{
        NewTarget, RoleSpec, RootSpec, SigningKey, TargetsEdit, new_root, new_targets, next_root,
        next_targets, sign, snapshot,
    },
    tuf::Floors,
};

/// How long snapshot and timestamp are valid.
pub const ONLINE_VALID: Duration = Duration::days(30);
const TARGETS_VALID: Duration = Duration::days(3650);
const ROOT_VALID: Duration = Duration::days(7300);
/// What an attacker with the online key counts up to.
pub const FAR_AHEAD: u64 = 1_000_000;

/// Which keys are in use, by the seed that each is made from.
#[derive(Debug, Clone, Copy)]
struct Keys {
    /// Both must sign.
    root: [u64; 2],
    targets: u64,
    online: u64,
    /// The highest seed so far.
    last: u64,
}

/// A repository. It publishes to one server.
#[derive(Debug, Clone)]
pub struct Repository {
    keys: Keys,
    first_root: Vec<u8>,
    root: Vec<u8>,
    targets: Vec<u8>,
    snapshot: Option<Vec<u8>>,
    timestamp: Option<Vec<u8>>,
    /// Timestamps signed so far.
    stamps: u64,
    /// When snapshot and timestamp are signed.
    pub now: OffsetDateTime,
}

fn key(seed: u64) -> SigningKey {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    SigningKey::from_seed(&bytes)
}

fn role(seeds: &[u64]) -> RoleSpec {
    let keys: Vec<_> = seeds.iter().map(|seed| key(*seed).public()).collect();
    RoleSpec { threshold: keys.len() as u64, keys }
}

impl Keys {
    fn spec(self) -> RootSpec {
        let online = role(&[self.online]);
        RootSpec {
            root: role(&self.root),
            targets: role(&[self.targets]),
            snapshot: online.clone(),
            timestamp: online,
        }
    }
}

/// Signs, which cannot fail on metadata that was just made.
fn signed(metadata: &[u8], seed: u64) -> Vec<u8> {
    sign(metadata, &key(seed)).expect("metadata can be signed")
}

impl Repository {
    /// A repository without any target, published.
    ///
    /// # Panics
    /// When the signing half refuses its own metadata, as everywhere here.
    #[must_use]
    pub fn new(server: &SimServer) -> Self {
        let keys = Keys { root: [1, 2], targets: 3, online: 4, last: 4 };
        let root = new_root(&keys.spec(), START + ROOT_VALID).expect("a root can be made");
        let root = keys.root.iter().fold(root, |root, seed| signed(&root, *seed));
        let targets = new_targets(START + TARGETS_VALID).expect("targets can be made");
        let mut repository = Self {
            keys,
            first_root: root.clone(),
            targets: signed(&targets, keys.targets),
            root,
            snapshot: None,
            timestamp: None,
            stamps: 0,
            now: START,
        };
        repository.publish(server);
        repository
    }

    /// The root that devices enrol with.
    #[must_use]
    pub fn first_root(&self) -> &[u8] {
        &self.first_root
    }

    /// Releases bundles, all in one version of the metadata.
    ///
    /// # Panics
    /// See [`Repository::new`].
    pub fn release(&mut self, releases: &[Release], server: &SimServer) {
        let add = |release: &Release| {
            let packed = &release.packed;
            server.add_bundle(packed);
            NewTarget::bundle(&packed.index().manifest, packed.index_bytes().len() as u64, packed.digest())
        };
        let add = releases.iter().map(add).collect();
        self.edit(&TargetsEdit { add, ..TargetsEdit::default() }, server);
    }

    /// Forbids all versions below this one.
    pub fn set_floor(&mut self, version: &Version, server: &SimServer) {
        let floors = Floors::from([(crate::release::model(), version.clone())]);
        self.edit(&TargetsEdit { floors, ..TargetsEdit::default() }, server);
    }

    /// Signs the same again, so that it is valid for longer.
    ///
    /// # Panics
    /// See [`Repository::new`].
    pub fn publish(&mut self, server: &SimServer) {
        let (expires, online) = (self.now + ONLINE_VALID, key(self.keys.online));
        let next = snapshot(self.snapshot.as_deref(), &self.targets, &online, expires);
        let next = next.expect("a snapshot can be made");
        self.stamps += 1;
        self.timestamp = Some(self.stamp(&next, self.stamps));
        self.snapshot = Some(next);
        self.upload(server);
    }

    /// Signs a new timestamp over the snapshot as it is, which may have expired.
    pub fn stamp_again(&mut self, server: &SimServer) {
        let Some(snapshot) = self.snapshot.clone() else { return };
        self.stamps += 1;
        self.timestamp = Some(self.stamp(&snapshot, self.stamps));
        self.upload(server);
    }

    /// What an attacker with the online key can do: counts snapshot and timestamp far ahead, so that devices refuse what the owner
    /// signs next. What the owner signs goes on from where it was.
    ///
    /// # Panics
    /// See [`Repository::new`].
    pub fn fast_forward(&self, server: &SimServer) {
        let old = self.snapshot.as_deref().expect("published");
        let ahead = forge(old, |signed| signed["version"] = json!(FAR_AHEAD), self.keys.online);
        let stamp = self.stamp(&ahead, FAR_AHEAD);
        server
            .put_metadata(&[(format!("{FAR_AHEAD}.snapshot.json"), ahead), ("timestamp.json".into(), stamp)]);
    }

    /// Changes the online key, which makes devices forget what they counted under the old one.
    pub fn rotate_online(&mut self, server: &SimServer) {
        let new = self.keys.last + 1;
        self.rotate(Keys { online: new, last: new, ..self.keys }, server);
        self.publish(server);
    }

    /// Changes the release key and one of the root keys, and signs the targets with the new one.
    ///
    /// # Panics
    /// See [`Repository::new`].
    pub fn rotate_targets(&mut self, server: &SimServer) {
        let new = self.keys.last + 1;
        let root = [self.keys.root[1], new + 1];
        self.rotate(Keys { targets: new, root, last: new + 1, ..self.keys }, server);
        self.edit(&TargetsEdit::default(), server);
    }

    /// A timestamp that names a snapshot and says when it was signed, by hand: it must be possible to sign what no server would.
    fn stamp(&self, snapshot: &[u8], number: u64) -> Vec<u8> {
        let about = json!({
            "version": version(snapshot),
            "length": snapshot.len(),
            "hashes": {"sha256": sha256(snapshot)},
        });
        let signed = json!({
            "_type": "timestamp",
            "spec_version": "1.0.34",
            "version": number,
            "expires": text(self.now + ONLINE_VALID),
            "meta": {"snapshot.json": about},
            "custom": {"whimbrel": {"signed_at": text(self.now)}},
        });
        forge(b"{}", |empty| *empty = signed, self.keys.online)
    }

    fn rotate(&mut self, keys: Keys, server: &SimServer) {
        let next = next_root(&self.root, &keys.spec(), START + ROOT_VALID).expect("a root can be made");
        let signers = self.keys.root.iter().chain(&keys.root);
        self.root = signers.fold(next, |root, seed| signed(&root, *seed));
        self.keys = keys;
        self.upload_root(server);
    }

    fn edit(&mut self, edit: &TargetsEdit, server: &SimServer) {
        let next = next_targets(&self.targets, edit, START + TARGETS_VALID).expect("targets can be made");
        self.targets = signed(&next, self.keys.targets);
        self.publish(server);
    }

    fn upload_root(&self, server: &SimServer) {
        server.put_metadata(&[(format!("{}.root.json", version(&self.root)), self.root.clone())]);
    }

    fn upload(&self, server: &SimServer) {
        let (snapshot, timestamp) = (self.snapshot.clone(), self.timestamp.clone());
        let (Some(snapshot), Some(timestamp)) = (snapshot, timestamp) else { return };
        self.upload_root(server);
        server.put_metadata(&[
            (format!("{}.targets.json", version(&self.targets)), self.targets.clone()),
            (format!("{}.snapshot.json", version(&snapshot)), snapshot),
            ("timestamp.json".into(), timestamp),
        ]);
    }
}

fn text(date: OffsetDateTime) -> String {
    let date = date.replace_nanosecond(0).unwrap_or(date);
    date.format(&Rfc3339).expect("a date can be written")
}

/// The version that metadata states.
#[must_use]
pub fn version(metadata: &[u8]) -> u64 {
    let value: Option<Value> = serde_json::from_slice(metadata).ok();
    value.and_then(|v| v["signed"]["version"].as_u64()).unwrap_or(0)
}

/// Edits the signed part by hand and signs it anew.
fn forge(metadata: &[u8], edit: impl FnOnce(&mut Value), seed: u64) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(metadata).expect("metadata is JSON");
    edit(&mut value["signed"]);
    value["signatures"] = json!([]);
    signed(&serde_json::to_vec(&value).expect("JSON can be written"), seed)
}

//! A repository and a server in memory, for the tests of this crate.

pub(crate) mod servers;

use crate::{
    bundle::{self, Packed},
    repo::{
        NewTarget, RoleSpec, RootSpec, SigningKey, TargetsEdit, new_root, new_targets, next_root,
        next_targets, sign, snapshot, timestamp,
    },
    transport::{Transport, TransportError},
    tuf::Source,
};
use bytes::Bytes;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};
use time::{Duration, OffsetDateTime, macros::datetime};
use whimbrel_wire::Digest;

pub(crate) const NOW: OffsetDateTime = datetime!(2030-01-01 00:00 UTC);
pub(crate) const LATER: OffsetDateTime = datetime!(2030-03-01 00:00 UTC);

pub(crate) fn now() -> OffsetDateTime {
    NOW
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

pub(crate) fn role(seeds: &[u8], threshold: u64) -> RoleSpec {
    RoleSpec { keys: seeds.iter().map(|seed| key(*seed).public()).collect(), threshold }
}

/// Writes a folder that packs into a small valid bundle.
pub(crate) fn write_bundle(dir: &Path, name: &str, version: &str, model: &[u8]) {
    write_bundle_with(dir, name, version, model, "");
}

/// As [`write_bundle`], with more lines in the manifest.
pub(crate) fn write_bundle_with(dir: &Path, name: &str, version: &str, model: &[u8], more: &str) {
    let manifest = format!(
        r#"
        name = "{name}"
        version = "{version}"
        licence = "MIT"
        model = "model.onnx"
        inputs = [{{ name = "x", datatype = "FP32", shape = [-1] }}]
        outputs = [{{ name = "y", datatype = "FP32", shape = [-1] }}]
        [golden]
        file = "golden/vectors.npz"
        count = 1
        tolerance = 0.1
        {more}
        "#
    );
    fs::create_dir_all(dir.join("golden")).expect("creates");
    fs::write(dir.join("bundle.toml"), manifest).expect("writes");
    fs::write(dir.join("model.onnx"), model).expect("writes");
    fs::write(dir.join("golden/vectors.npz"), b"vectors").expect("writes");
}

pub(crate) fn pack(name: &str, version: &str, model: &[u8], more: &str) -> Packed {
    let dir = tempfile::tempdir().expect("temp dir");
    write_bundle_with(dir.path(), name, version, model, more);
    bundle::pack(dir.path()).expect("packs")
}

/// Bytes that neither compress nor repeat.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(len).collect()
}

/// Edits the signed part of metadata by hand and signs it anew.
pub(crate) fn forge(metadata: &[u8], edit: impl FnOnce(&mut Value), keys: &[SigningKey]) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(metadata).expect("JSON");
    edit(&mut value["signed"]);
    value["signatures"] = Value::Array(vec![]);
    let bytes = serde_json::to_vec(&value).expect("JSON");
    keys.iter().fold(bytes, |bytes, key| sign(&bytes, key).expect("signs"))
}

/// The keys of operators and server, and what they signed last.
pub(crate) struct Repo {
    pub(crate) spec: RootSpec,
    pub(crate) root: Vec<u8>,
    pub(crate) targets: Vec<u8>,
    pub(crate) snapshot: Vec<u8>,
    pub(crate) timestamp: Vec<u8>,
    pub(crate) server: Server,
}

impl Repo {
    /// Root keys 1 and 2, both needed; release keys 3 and 4, one needed; the server's key 5. Empty targets are published.
    pub(crate) fn new() -> Self {
        let online = role(&[5], 1);
        let spec = RootSpec {
            root: role(&[1, 2], 2),
            targets: role(&[3, 4], 1),
            snapshot: online.clone(),
            timestamp: online,
        };
        let root = new_root(&spec, NOW + Duration::days(365)).expect("makes");
        let root = sign(&sign(&root, &key(1)).expect("signs"), &key(2)).expect("signs");
        let targets = sign(&new_targets(NOW + Duration::days(90)).expect("makes"), &key(3)).expect("signs");
        let (snapshot, timestamp, server) = (Vec::new(), Vec::new(), Server::default());
        let mut repo = Self { spec, root, targets, snapshot, timestamp, server };
        repo.server.lock().metadata.insert("1.root.json".into(), repo.root.clone());
        repo.publish(NOW);
        repo
    }

    /// Signs a new snapshot and timestamp over the current targets, and puts all on the server.
    pub(crate) fn publish(&mut self, at: OffsetDateTime) {
        let old = |bytes: &Vec<u8>| (!bytes.is_empty()).then(|| bytes.clone());
        let (old_snapshot, old_timestamp) = (old(&self.snapshot), old(&self.timestamp));
        let expires = at + Duration::days(30);
        self.snapshot = snapshot(old_snapshot.as_deref(), &self.targets, &key(5), expires).expect("signs");
        self.timestamp =
            timestamp(old_timestamp.as_deref(), &self.snapshot, &key(5), at, expires).expect("signs");
        self.upload();
    }

    /// Puts what was signed last on the server.
    pub(crate) fn upload(&self) {
        let version = |bytes: &[u8]| {
            let value: Value = serde_json::from_slice(bytes).expect("JSON");
            value["signed"]["version"].as_u64().expect("a version")
        };
        let mut server = self.server.lock();
        let files = [("targets", &self.targets), ("snapshot", &self.snapshot), ("root", &self.root)];
        for (name, bytes) in files {
            server.metadata.insert(format!("{}.{name}.json", version(bytes)), bytes.clone());
        }
        server.metadata.insert("timestamp.json".into(), self.timestamp.clone());
    }

    /// Changes the targets, signs and publishes.
    pub(crate) fn edit(&mut self, edit: &TargetsEdit) {
        let next = next_targets(&self.targets, edit, NOW + Duration::days(90)).expect("makes");
        self.targets = sign(&next, &key(3)).expect("signs");
        self.publish(NOW);
    }

    /// Puts a bundle on the server and releases it.
    pub(crate) fn release(&mut self, packed: &Packed) {
        let target =
            NewTarget::bundle(&packed.index().manifest, packed.index_bytes().len() as u64, packed.digest());
        {
            let mut server = self.server.lock();
            let (dir, file) = target.path.split_once('/').expect("a folder");
            let file = format!("{dir}/{}.{file}", packed.digest());
            server.targets.insert(file, packed.index_bytes().to_vec());
            server.chunks.extend(packed.chunks().clone());
        }
        self.edit(&TargetsEdit { add: vec![target], ..TargetsEdit::default() });
    }

    pub(crate) fn set_floor(&mut self, model: &str, version: &str) {
        let floor = (model.parse().expect("a name"), version.parse().expect("a version"));
        self.edit(&TargetsEdit { floors: [floor].into(), ..TargetsEdit::default() });
    }

    /// Signs the next root with the keys of these seeds, and puts it on the server.
    pub(crate) fn rotate(&mut self, spec: RootSpec, seeds: &[u8]) {
        let next = next_root(&self.root, &spec, NOW + Duration::days(365)).expect("makes");
        self.root = seeds.iter().fold(next, |bytes, seed| sign(&bytes, &key(*seed)).expect("signs"));
        self.spec = spec;
        self.upload();
    }
}

/// A server in memory.
#[derive(Clone, Default)]
pub(crate) struct Server(Arc<Mutex<Content>>);

#[derive(Default)]
pub(crate) struct Content {
    pub(crate) metadata: BTreeMap<String, Vec<u8>>,
    pub(crate) targets: BTreeMap<String, Vec<u8>>,
    pub(crate) chunks: BTreeMap<Digest, Vec<u8>>,
    /// Every request that was answered, and every one that was not.
    pub(crate) log: Vec<String>,
    /// Fails all requests as if the network were gone.
    pub(crate) offline: bool,
    /// Answers this many more chunks, then never again.
    pub(crate) chunks_left: Option<usize>,
}

impl Content {
    pub(crate) fn chunk_requests(&self) -> usize {
        self.log.iter().filter(|what| what.starts_with("chunk")).count()
    }
}

impl Server {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().expect("no panic")
    }

    fn answer(
        &self,
        what: String,
        size_bytes_max: u64,
        find: impl FnOnce(&Content) -> Option<Vec<u8>>,
    ) -> Result<Bytes, TransportError> {
        let mut content = self.lock();
        content.log.push(what.clone());
        if content.offline {
            return Err(TransportError::Unavailable { what, why: "no network".into(), retry_after: None });
        }
        match find(&content) {
            None => Err(TransportError::NotFound { what }),
            Some(bytes) if bytes.len() as u64 > size_bytes_max => {
                Err(TransportError::TooLarge { what, size_bytes_max })
            }
            Some(bytes) => Ok(bytes.into()),
        }
    }
}

impl Source for Server {
    async fn metadata(&self, file: &str, size_bytes_max: u64) -> Result<Option<Bytes>, TransportError> {
        match self.answer(file.to_owned(), size_bytes_max, |c| c.metadata.get(file).cloned()) {
            Err(TransportError::NotFound { .. }) => Ok(None),
            other => other.map(Some),
        }
    }
}

impl Transport for Server {
    async fn target(&self, file: &str, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        self.answer(format!("target {file}"), size_bytes_max, |c| c.targets.get(file).cloned())
    }

    async fn chunk(&self, stored: Digest, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        let hangs = match &mut self.lock().chunks_left {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        self.answer(format!("chunk {stored}"), size_bytes_max, |c| c.chunks.get(&stored).cloned())
    }
}

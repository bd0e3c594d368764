//! A server in memory that can misbehave, and that learns from each request what the device must have kept.

use crate::{random::Random, release, repository::version};
use bytes::Bytes;
use semver::Version;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::sleep;
use whimbrel_updater::{
    bundle::Packed,
    transport::{Transport, TransportError},
    tuf::Source,
};
use whimbrel_wire::Digest;

/// How long an answer takes, so that time goes on while the device asks again and again. Metadata takes
/// long, for it is what is asked for without end while it is refused for now.
const LATENCY: Duration = Duration::from_millis(10);
const METADATA_LATENCY: Duration = Duration::from_millis(500);
/// How long a device tries to connect where there is no network.
const CONNECT: Duration = Duration::from_secs(5);
/// How long it waits for an answer that does not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Metadata files by their name.
pub type Metadata = BTreeMap<String, Bytes>;

/// How a server, or the network before it, misbehaves.
#[derive(Debug, Clone)]
pub enum Fault {
    /// There is no network.
    Offline,
    /// Requests get no answer.
    Lost,
    /// One byte of an answer is another.
    WrongBytes,
    /// Answers end in the middle.
    Truncated,
    /// Answers do not end.
    Endless,
    /// Answers are a page that asks for a password.
    CaptivePortal,
    /// Metadata is as it was some time ago: a replay, or a freeze where the device is as far as that.
    Old(Arc<Metadata>),
    /// Targets are as they were some time ago, snapshot and timestamp are not.
    OldTargets(Arc<Metadata>),
    /// Snapshots are as they were some time ago, the timestamp is not.
    OldSnapshot(Arc<Metadata>),
}

/// Which requests it affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Every one.
    All,
    /// Those for metadata.
    Metadata,
    /// Those for a bundle's index.
    Targets,
    /// Those for chunks.
    Chunks,
}

/// Versions that a device has acted upon, so that it must never be found with lower ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acted {
    /// Of the root.
    pub root: u64,
    /// Of the timestamp.
    pub timestamp: u64,
    /// Of the snapshot.
    pub snapshot: u64,
    /// Of the targets.
    pub targets: u64,
    /// The lowest version that may be installed.
    pub floor: Option<Version>,
}

/// A server. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct SimServer(Arc<Mutex<Content>>);

#[derive(Debug, Clone, Default)]
struct Content {
    metadata: Metadata,
    targets: BTreeMap<String, Bytes>,
    chunks: BTreeMap<Digest, Bytes>,
    fault: Option<(Fault, Of, u64)>,
    random: Option<Random>,
    requests: u64,
    /// What was answered last.
    told: Acted,
    /// What the device acted upon.
    acted: Acted,
    /// What it had acted upon when a root of this version was sent that made some of that void.
    before: Vec<(u64, Acted)>,
}

impl SimServer {
    /// A server with the same content that goes its own way from now on.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }

    /// Puts metadata in place of what was there under the same names.
    pub fn put_metadata(&self, files: &[(String, Vec<u8>)]) {
        let files = files.iter().map(|(name, bytes)| (name.clone(), bytes.clone().into()));
        self.lock().metadata.extend(files);
    }

    /// Takes a bundle's index and chunks.
    pub fn add_bundle(&self, packed: &Packed) {
        let path = packed.target_path();
        let (dir, file) = path.split_once('/').unwrap_or(("", &path));
        let mut content = self.lock();
        let name = format!("{dir}/{}.{file}", packed.digest());
        content.targets.insert(name, packed.index_bytes().to_vec().into());
        content.chunks.extend(packed.chunks().iter().map(|(stored, bytes)| (*stored, bytes.clone().into())));
    }

    /// All metadata as it is now, to be replayed later.
    #[must_use]
    pub fn metadata_now(&self) -> Arc<Metadata> {
        Arc::new(self.lock().metadata.clone())
    }

    /// Misbehaves in `share_percent` of the requests of a kind, by a seed, until told otherwise.
    pub fn misbehave(&self, fault: Fault, of: Of, share_percent: u64, seed: u64) {
        let mut content = self.lock();
        content.fault = Some((fault, of, share_percent));
        content.random = Some(Random::new(seed));
    }

    /// Behaves from now on.
    pub fn behave(&self) {
        self.lock().fault = None;
    }

    /// How many requests there were.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.lock().requests
    }

    /// What a device with this root acted upon: what a later root made void still counts for it, as it has not got that far.
    #[must_use]
    pub fn acted_under(&self, root: u64) -> Acted {
        let content = self.lock();
        let later = content.before.iter().filter(|(number, _)| *number > root);
        later.fold(content.acted.clone(), |acted, (_, before)| acted.max(before))
    }

    /// What the device acted upon so far.
    #[must_use]
    pub fn acted(&self) -> Acted {
        self.lock().acted.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(
        &self,
        what: String,
        of: Of,
        size_bytes_max: u64,
        find: impl Fn(&Content) -> Option<Bytes> + Send,
    ) -> Result<Bytes, TransportError> {
        sleep(if of == Of::Metadata { METADATA_LATENCY } else { LATENCY }).await;
        let fault = self.lock().next_fault(of);
        let unavailable = |why: &str| {
            Err(TransportError::Unavailable { what: what.clone(), why: why.into(), retry_after: None })
        };
        match fault {
            Some(Fault::Offline) => {
                sleep(CONNECT).await;
                return unavailable("no network");
            }
            Some(Fault::Lost) => {
                sleep(PATIENCE).await;
                return unavailable("no answer");
            }
            Some(Fault::Endless) => return Err(TransportError::TooLarge { what, size_bytes_max }),
            _ => {}
        }
        let mut content = self.lock();
        let found = match &fault {
            Some(Fault::Old(old)) if of == Of::Metadata => old.get(&what).cloned(),
            Some(Fault::CaptivePortal) => Some(Bytes::from_static(b"<html>Please sign in.</html>")),
            Some(Fault::OldTargets(old)) if what.ends_with(".targets.json") => newest(old, ".targets.json"),
            Some(Fault::OldSnapshot(old)) if what.ends_with(".snapshot.json") => {
                newest(old, ".snapshot.json")
            }
            _ => find(&content),
        };
        let Some(bytes) = found.map(|bytes| spoilt(bytes, fault.as_ref())) else {
            return Err(TransportError::NotFound { what });
        };
        if bytes.len() as u64 > size_bytes_max {
            return Err(TransportError::TooLarge { what, size_bytes_max });
        }
        content.told.learn(&what, &bytes);
        Ok(bytes)
    }
}

/// The file of this kind with the highest version.
fn newest(metadata: &Metadata, suffix: &str) -> Option<Bytes> {
    let files = metadata.iter().filter(|(name, _)| name.ends_with(suffix));
    files.map(|(_, bytes)| bytes).max_by_key(|bytes| version(bytes)).cloned()
}

fn spoilt(bytes: Bytes, fault: Option<&Fault>) -> Bytes {
    match fault {
        Some(Fault::WrongBytes) => {
            let mut bytes = bytes.to_vec();
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
            }
            bytes.into()
        }
        Some(Fault::Truncated) => bytes.slice(..bytes.len() / 2),
        _ => bytes,
    }
}

impl Content {
    /// Whether this request is affected.
    fn next_fault(&mut self, of: Of) -> Option<Fault> {
        self.requests += 1;
        let (fault, affected, share) = self.fault.clone()?;
        let drawn = self.random.as_mut().is_none_or(|random| random.percent(share));
        (drawn && (affected == Of::All || affected == of)).then_some(fault)
    }

    /// What a request for this metadata says of the device: it asks for a file only after it kept the one that names it.
    fn metadata_asked(&mut self, file: &str) {
        let told = self.told.clone();
        if let Some(next) = file.strip_suffix(".root.json").and_then(|v| v.parse::<u64>().ok()) {
            self.acted.root = self.acted.root.max(next.saturating_sub(1));
        } else if file.ends_with(".snapshot.json") {
            self.acted.timestamp = self.acted.timestamp.max(told.timestamp);
        } else if file.ends_with(".targets.json") {
            self.acted.timestamp = self.acted.timestamp.max(told.timestamp);
            self.acted.snapshot = self.acted.snapshot.max(told.snapshot);
        }
    }

    /// A request for a bundle comes only after all metadata was kept.
    fn bundle_asked(&mut self) {
        let told = self.told.clone();
        self.metadata_asked(".targets.json");
        self.acted.targets = self.acted.targets.max(told.targets);
        self.acted.floor = self.acted.floor.clone().max(told.floor);
    }

    /// A root that changes the keys of a role makes void what was counted under the old ones, from the moment it is sent.
    fn root_is_sent(&mut self, file: &str) {
        let Some(number) = file.strip_suffix(".root.json").and_then(|v| v.parse::<u64>().ok()) else {
            return;
        };
        let roles = |number: u64| -> Option<Value> {
            let bytes = self.metadata.get(&format!("{number}.root.json"))?;
            Some(serde_json::from_slice::<Value>(bytes).ok()?["signed"]["roles"].clone())
        };
        let (Some(old), Some(new)) = (roles(number.saturating_sub(1)), roles(number)) else { return };
        self.before.push((number, self.acted.clone()));
        if old["timestamp"] != new["timestamp"] || old["snapshot"] != new["snapshot"] {
            (self.acted.timestamp, self.told.timestamp) = (0, 0);
            (self.acted.snapshot, self.told.snapshot) = (0, 0);
        }
        if old["targets"] != new["targets"] {
            (self.acted.targets, self.told.targets) = (0, 0);
        }
    }
}

impl Acted {
    fn max(self, other: &Self) -> Self {
        Self {
            root: self.root,
            timestamp: self.timestamp.max(other.timestamp),
            snapshot: self.snapshot.max(other.snapshot),
            targets: self.targets.max(other.targets),
            floor: self.floor.max(other.floor.clone()),
        }
    }

    fn learn(&mut self, file: &str, bytes: &[u8]) {
        if file == "timestamp.json" {
            self.timestamp = version(bytes);
        } else if file.ends_with(".snapshot.json") {
            self.snapshot = version(bytes);
        } else if file.ends_with(".targets.json") {
            self.targets = version(bytes);
            let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
            let floor = &value["signed"]["custom"]["whimbrel"]["floors"][release::model().as_str()];
            self.floor = floor.as_str().and_then(|floor| floor.parse().ok());
        }
    }
}

impl Source for SimServer {
    async fn metadata(&self, file: &str, size_bytes_max: u64) -> Result<Option<Bytes>, TransportError> {
        self.lock().metadata_asked(file);
        let find = |content: &Content| content.metadata.get(file).cloned();
        match self.answer(file.to_owned(), Of::Metadata, size_bytes_max, find).await {
            Err(TransportError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
            Ok(bytes) => {
                self.lock().root_is_sent(file);
                Ok(Some(bytes))
            }
        }
    }
}

impl Transport for SimServer {
    async fn target(&self, file: &str, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        self.lock().bundle_asked();
        let find = |content: &Content| content.targets.get(file).cloned();
        self.answer(format!("target {file}"), Of::Targets, size_bytes_max, find).await
    }

    async fn chunk(&self, stored: Digest, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        self.lock().bundle_asked();
        let find = |content: &Content| content.chunks.get(&stored).cloned();
        self.answer(format!("chunk {stored}"), Of::Chunks, size_bytes_max, find).await
    }
}

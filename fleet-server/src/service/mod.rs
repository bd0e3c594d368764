//! What the server does, whoever asks: HTTP, MQTT and the web UI all come through here.

mod delegated;
mod enrol;
mod fault;
mod files;
mod intake;
mod jobs;
mod observe;
mod preview;
mod repository;
mod rollouts;
mod signing;
mod transfer;
mod views;

pub(crate) use fault::{Fault, Kind, chain};
pub(crate) use files::TIMESTAMP;
pub(crate) use intake::intake;
pub(crate) use jobs::{collect_blobs, keep_seen, maintain, plan_rollouts};
pub(crate) use repository::{INDEX_BYTES_MAX, STORED_CHUNK_BYTES_MAX};
pub(crate) use views::DeviceState;

use crate::{
    bus::{Address, Admission, Bus},
    ca::Ca,
    store::{Store, blobs::Blobs},
};
use async_trait::async_trait;
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use time::OffsetDateTime;
use tokio::sync::{Mutex, Notify, Semaphore};
use whimbrel_updater::repo::SigningKey;
use whimbrel_wire::TenantId;

/// Tells the time; tests give another.
pub(crate) type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// Numbers that operators choose.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The tenant of this server's devices and operators.
    pub(crate) tenant: TenantId,
    /// Port of the MQTT listener, for devices that enrol.
    pub(crate) mqtt_port: u16,
    /// Seconds between polls, where a device polls.
    pub(crate) poll_s: u32,
    /// Days that a device's certificate lives.
    pub(crate) device_certificate_days: u16,
    /// Hours that a timestamp lives.
    pub(crate) timestamp_hours: u16,
    /// Days that a snapshot lives.
    pub(crate) snapshot_days: u16,
    /// Days that telemetry windows are kept.
    pub(crate) telemetry_days: u16,
}

/// Things that happened since the start, for `/metrics`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Batches counted for the first time.
    pub(crate) batches: AtomicU64,
    /// Batches that were counted before.
    pub(crate) batches_repeated: AtomicU64,
    /// Reports kept.
    pub(crate) reports: AtomicU64,
    /// Messages of devices that could not be read.
    pub(crate) messages_refused: AtomicU64,
    /// Parts of files sent over MQTT.
    pub(crate) parts: AtomicU64,
    /// Their bytes.
    pub(crate) part_bytes: AtomicU64,
    /// Files asked for over MQTT beyond a device's window.
    pub(crate) wants_dropped: AtomicU64,
    /// HTTP requests answered.
    pub(crate) http_requests: AtomicU64,
    /// HTTP requests answered with 5xx.
    pub(crate) http_failures: AtomicU64,
}

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The parts that a [`Fleet`] is made of.
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) chunks: Blobs,
    pub(crate) targets: Blobs,
    pub(crate) ca: Ca,
    pub(crate) online_key: SigningKey,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Clock,
}

/// The server's state and everything it does with it.
pub(crate) struct Fleet {
    parts: Parts,
    counters: Counters,
    online: RwLock<HashSet<Address>>,
    /// Signs of life that are not in the database yet: thousands of them are written at once.
    seen: std::sync::Mutex<HashMap<Address, i64>>,
    /// Held from reading what a decision depends on until it is stored and published: a pause that was answered is never
    /// overtaken by an ask, and desired states leave in order.
    planning: Mutex<()>,
    /// Held while metadata is checked and replaced.
    publishing: Mutex<()>,
    /// Held while a rollout that may be started is worked out.
    previewing: Mutex<()>,
    /// Limits the files that are read at the same time for devices on MQTT.
    reads: Semaphore,
    wake: Notify,
    soaking: AtomicBool,
}

impl Fleet {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            parts,
            counters: Counters::default(),
            online: RwLock::default(),
            seen: std::sync::Mutex::default(),
            planning: Mutex::default(),
            publishing: Mutex::default(),
            previewing: Mutex::default(),
            reads: Semaphore::new(transfer::READS_MAX),
            wake: Notify::new(),
            soaking: AtomicBool::new(false),
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.parts.store
    }

    pub(crate) fn chunks(&self) -> &Blobs {
        &self.parts.chunks
    }

    pub(crate) fn targets(&self) -> &Blobs {
        &self.parts.targets
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.parts.settings
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        (self.parts.clock)()
    }

    pub(crate) fn now_ms(&self) -> i64 {
        millis(self.now())
    }

    /// The address of a device of this server's tenant.
    pub(crate) fn address(&self, device: whimbrel_wire::DeviceId) -> Address {
        Address { tenant: self.parts.settings.tenant.clone(), device }
    }

    /// Notes a sign of life; [`Self::keep_seen`] writes it down.
    pub(crate) fn note_seen(&self, who: &Address) {
        let now_ms = self.now_ms();
        if let Ok(mut seen) = self.seen.lock() {
            seen.insert(who.clone(), now_ms);
        }
    }

    /// Writes the signs of life down that are not yet.
    ///
    /// # Errors
    /// When the database refuses; they are lost then, and others come.
    pub(crate) async fn keep_seen(&self) -> Result<(), Fault> {
        let seen: Vec<(Address, i64)> =
            self.seen.lock().map_or_else(|_| Vec::new(), |mut s| s.drain().collect());
        if seen.is_empty() { Ok(()) } else { Ok(self.store().note_seen(&seen).await?) }
    }

    /// The last sign of life, where it is newer than what the database says.
    fn seen_ms(&self, who: &Address, kept: Option<i64>) -> Option<i64> {
        kept.max(self.seen.lock().ok().and_then(|seen| seen.get(who).copied()))
    }

    /// Whether a device is connected over MQTT now.
    pub(crate) fn is_online(&self, who: &Address) -> bool {
        self.online.read().is_ok_and(|online| online.contains(who))
    }

    /// How many devices are connected.
    pub(crate) fn online_len(&self) -> usize {
        self.online.read().map_or(0, |online| online.len())
    }
}

/// Milliseconds since 1970 UTC.
pub(crate) fn millis(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// Random text for tokens: 256 bits, hexadecimal.
pub(crate) fn random_secret() -> Result<String, Fault> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|e| Fault::new(Kind::Internal, format!("make a secret: no random numbers: {e}")))?;
    Ok(hex::encode(bytes))
}

/// Lets only those certificates in that we issued and nobody revoked.
pub(crate) struct CertificateAdmission(pub(crate) Store);

#[async_trait]
impl Admission for CertificateAdmission {
    async fn admits(&self, who: &Address, serial: &str) -> bool {
        match self.0.certificate_stands(who, serial).await {
            Ok(stands) => stands,
            Err(error) => {
                tracing::error!("{}", chain(&error));
                false
            }
        }
    }
}

//! A hostile or broken network, server or disk: each case ends in a typed reason, and the old version goes on serving.

use super::*;
use crate::{
    disk::{Disk, DiskError, Files},
    testing::servers,
    transport::Https,
};
use std::{
    ffi::OsString,
    io,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Longest wait, on the real clock, for what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The real disk, until it is told to be full or to take nothing any more.
#[derive(Debug, Default)]
struct Fickle {
    read_only: AtomicBool,
    /// What `free_bytes` says, where it lies.
    claims_free_bytes: AtomicU64,
    /// Bytes that may still be written; `u64::MAX` has no end.
    left_bytes: AtomicU64,
}

impl Fickle {
    fn new() -> Arc<Self> {
        let disk = Self::default();
        disk.left_bytes.store(u64::MAX, Ordering::Relaxed);
        disk.claims_free_bytes.store(u64::MAX, Ordering::Relaxed);
        Arc::new(disk)
    }

    fn take(&self, path: &Path, bytes: u64) -> Result<(), DiskError> {
        let refuse = |kind: io::ErrorKind| {
            Err(DiskError { attempted: "write", path: path.to_owned(), source: kind.into() })
        };
        if self.read_only.load(Ordering::Relaxed) {
            return refuse(io::ErrorKind::ReadOnlyFilesystem);
        }
        let left_bytes = self.left_bytes.load(Ordering::Relaxed);
        if left_bytes == u64::MAX {
            return Ok(());
        }
        match left_bytes.checked_sub(bytes) {
            Some(left_bytes) => {
                self.left_bytes.store(left_bytes, Ordering::Relaxed);
                Ok(())
            }
            None => refuse(io::ErrorKind::StorageFull),
        }
    }
}

impl Disk for Fickle {
    fn read(&self, path: &Path, size_bytes_max: u64) -> Result<Option<Vec<u8>>, DiskError> {
        Files.read(path, size_bytes_max)
    }
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        Files.read_at(path, offset, len)
    }
    fn size_bytes(&self, path: &Path) -> Result<Option<u64>, DiskError> {
        Files.size_bytes(path)
    }
    fn list(&self, dir: &Path) -> Result<Vec<OsString>, DiskError> {
        Files.list(dir)
    }
    fn free_bytes(&self, dir: &Path) -> Result<u64, DiskError> {
        Ok(Files.free_bytes(dir)?.min(self.claims_free_bytes.load(Ordering::Relaxed)))
    }
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        self.take(path, bytes.len() as u64)?;
        Files.write(path, bytes)
    }
    fn set_len(&self, path: &Path, len: u64) -> Result<(), DiskError> {
        // As on a file system that cannot reserve space.
        self.take(path, 0)?;
        Files.set_len(path, len)
    }
    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.take(path, bytes.len() as u64)?;
        Files.write_at(path, offset, bytes)
    }
    fn sync_file(&self, path: &Path) -> Result<(), DiskError> {
        Files.sync_file(path)
    }
    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        Files.sync_dir(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.take(to, 0)?;
        Files.rename(from, to)
    }
    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.take(dir, 0)?;
        Files.create_dir(dir)
    }
    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        self.take(path, 0)?;
        Files.remove_file(path)
    }
    fn remove_dir_all(&self, dir: &Path) -> Result<(), DiskError> {
        self.take(dir, 0)?;
        Files.remove_dir_all(dir)
    }
}

/// A device with 1.1.0 active, on a disk that can be made to fail.
async fn on(disk: &Arc<Fickle>) -> World {
    let mut world = World::with_active().await;
    world.kill().await;
    world.disk = Arc::clone(disk) as Arc<dyn Disk>;
    world.start().await;
    world
}

impl World {
    fn still_serves(&self) {
        assert_eq!(self.host.serving(), serving("1.1.0", None));
        assert!(self.slots() >= 1);
    }
}

#[tokio::test(start_paused = true)]
async fn endless_data() {
    let mut world = World::with_active().await;
    world.server().lock().chunks.values_mut().for_each(|chunk| chunk.resize(4 << 20, 0));
    world.ask("1.2.0", 1);
    world.until_failed("1.2.0", ReasonKind::TooLarge).await;
    world.still_serves();
}

#[tokio::test(start_paused = true)]
async fn wrong_length() {
    let mut world = World::with_active().await;
    world.server().lock().chunks.values_mut().for_each(|chunk| chunk.truncate(chunk.len() - 1));
    world.ask("1.2.0", 1);
    world.until_failed("1.2.0", ReasonKind::Corrupt).await;
    world.still_serves();
}

#[tokio::test(start_paused = true)]
async fn wrong_hash() {
    let mut world = World::with_active().await;
    world.server().lock().chunks.values_mut().for_each(|chunk| chunk[0] ^= 1);
    world.ask("1.2.0", 1);
    world.until_failed("1.2.0", ReasonKind::Corrupt).await;
    world.still_serves();
    let asked = world.server().lock().chunk_requests();
    assert!(asked < 100, "{asked} requests: what is wrong is not asked for without end");
}

#[tokio::test(start_paused = true)]
async fn a_captive_portal() {
    let mut world = World::with_active().await;
    let html = b"<html><body>Please log in</body></html>".to_vec();
    world.server().lock().metadata.values_mut().for_each(|file| *file = html.clone());
    world.ask("1.2.0", 1);
    world.until_failed("1.2.0", ReasonKind::Malformed).await;
    world.still_serves();
}

#[tokio::test(start_paused = true)]
async fn a_captive_portal_that_comes_while_chunks_are_fetched() {
    let mut world = World::with_active().await;
    let html = b"<html><body>Please log in</body></html>".to_vec();
    world.server().lock().chunks.values_mut().for_each(|chunk| *chunk = html.clone());
    world.ask("1.2.0", 1);
    world.until_failed("1.2.0", ReasonKind::Corrupt).await;
    world.still_serves();
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_has_no_room() {
    let disk = Fickle::new();
    let mut world = on(&disk).await;
    disk.claims_free_bytes.store(100_000, Ordering::Relaxed);
    let before = world.server().lock().chunk_requests();
    world.ask("1.2.0", 1);
    world.until_failed("1.2.0", ReasonKind::Disk).await;
    world.still_serves();
    assert_eq!(world.server().lock().chunk_requests(), before, "no chunk moves");
    disk.claims_free_bytes.store(u64::MAX, Ordering::Relaxed);
    world.ask("1.2.0", 2);
    world.confirm("1.2.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_becomes_full_while_chunks_are_written() {
    let disk = Fickle::new();
    let mut world = on(&disk).await;
    disk.left_bytes.store(150_000, Ordering::Relaxed);
    world.ask("1.2.0", 1);
    world.until_failed("1.2.0", ReasonKind::Disk).await;
    world.still_serves();
    disk.left_bytes.store(u64::MAX, Ordering::Relaxed);
    world.ask("1.2.0", 2);
    world.confirm("1.2.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_nothing() {
    let disk = Fickle::new();
    let mut world = on(&disk).await;
    disk.read_only.store(true, Ordering::Relaxed);
    world.ask("1.2.0", 1);
    world.until_failed("1.2.0", ReasonKind::Disk).await;
    world.still_serves();
    world.kill().await;
    world.start().await;
    world.still_serves();
}

/// A device over this transport, which is asked for 1.2.0. Sockets do not go with paused time: this and what follows is on the real
/// clock.
async fn over(https: Https) -> World {
    let mut world = World::with_active().await;
    world.begin(https, "1.2.0").await;
    world
}

/// Has a device update over this transport: why it waits. The old version serves meanwhile, and the update goes through once
/// the server is back.
async fn waits(https: Https) -> Reason {
    let mut world = over(https).await;
    let report = timeout(PATIENCE, world.until("a reason to wait", |u| u.waiting.is_some()));
    let update = report.await.expect("in time").update.expect("is under way");
    assert_eq!(update.progress, Progress::Resolving {});
    world.still_serves();
    world.restart().await;
    timeout(PATIENCE, world.confirm("1.2.0")).await.expect("in time");
    update.waiting.expect("waits")
}

fn https(client: reqwest::Client, base: &str) -> Https {
    Https::new(client, base).for_test(Duration::from_millis(50), 5_000)
}

#[tokio::test]
async fn a_slow_drip() {
    let reason = waits(https(servers::client(), &servers::drip().await)).await;
    assert_eq!(reason.kind, ReasonKind::Network);
    assert!(reason.detail.contains("slowly"), "{reason}");
}

#[tokio::test]
async fn a_server_with_a_certificate_for_another_name() {
    let (client, base) = servers::with_another_name().await;
    let reason = waits(https(client, &base)).await;
    assert_eq!(reason.kind, ReasonKind::Tls, "{reason}");
}

#[tokio::test]
async fn a_captive_portal_that_leads_to_its_login() {
    let login = servers::always(servers::LOGIN).await;
    let portal = format!("HTTP/1.1 302 Found\nLocation: {login}/\nContent-Length: 0\nConnection: close\n\n");
    let portal = servers::always(&portal).await;
    let none = reqwest::redirect::Policy::none();
    let obstinate = servers::client_builder().redirect(none).build().expect("a client");
    for (client, says) in [(obstinate, "not followed"), (servers::client(), "another place")] {
        let reason = waits(https(client, &portal)).await;
        assert_eq!(reason.kind, ReasonKind::Network);
        assert!(reason.detail.contains(says), "{reason}");
    }
}

#[tokio::test]
async fn a_captive_portal_that_shows_its_login_under_every_address() {
    let base = servers::always(servers::LOGIN).await;
    let mut world = over(https(servers::client(), &base)).await;
    timeout(PATIENCE, world.until_failed("1.2.0", ReasonKind::Malformed)).await.expect("in time");
    world.still_serves();
    world.restart().await;
    world.still_serves();
    world.ask("1.2.0", 2);
    timeout(PATIENCE, world.confirm("1.2.0")).await.expect("in time");
}

//! A hostile or broken network, server or disk: each case ends in a typed reason, and the old version goes on serving.

use super::*;
use crate::{
    disk::{Disk, DiskError, Files},
    transport::{Https, TransportError},
};
use std::{
    ffi::OsString,
    io,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

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

#[tokio::test]
async fn slow_drip() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            tokio::spawn(async move {
                stream.read_u8().await.expect("a request");
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
                let mut alive = stream.write_all(head).await.is_ok();
                while alive {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    alive = stream.write_all(b" ").await.is_ok();
                }
            });
        }
    });
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let https = Https::new(client, &base).for_test(Duration::from_millis(50), 5_000);
    let mut world = World::with_active().await;
    world.kill().await;
    let config = world.config();
    let core = Engine::open(config, world.host.clone(), https).await.expect("opens").core;
    let error = core.open_trust().expect("opens").refresh(&core.transport, now()).await;
    let failure = crate::machine::Failure::from(error.expect_err("too slow"));
    assert_eq!(failure.into_reason().kind, ReasonKind::Network);
    assert_eq!(world.host.serving(), serving("1.1.0", None));
}

#[test]
fn another_servers_certificate_is_a_reason_of_its_own_and_waited_out() {
    let error = TransportError::Tls { what: "t".into(), why: "not valid for name".into() };
    match crate::machine::Failure::from(error) {
        crate::machine::Failure::Later(reason) => assert_eq!(reason.kind, ReasonKind::Tls),
        other => panic!("{other:?}"),
    }
}

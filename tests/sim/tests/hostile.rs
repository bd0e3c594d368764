//! A hostile server, a bad network, a bad disk and a wrong clock: each ends with a reason that says so and a device that serves,
//! and is over once its cause is.

#![allow(clippy::expect_used, reason = "what tests share fails as a test does")]

use std::time::Duration;
use time::{Duration as Days, macros::datetime};
use whimbrel_sim::{
    clock,
    device::{Device, simulate},
    invariants,
    process::Process,
    release::Quality::Good,
    scenario::with_active,
    server::{Fault, Of},
};
use whimbrel_wire::report::{
    Progress,
    ReasonKind::{
        self, Corrupt, Disk, Expired, Inconsistent, Malformed, Network, Replayed, Signature, TooLarge,
    },
};

/// A device on which 1.0.0 is confirmed, while it runs.
struct Bench {
    device: Device,
    process: Process,
}

impl Bench {
    async fn new(device: Device) -> Self {
        let mut device = device;
        let process = device.start().await.expect("starts");
        Self { device, process }
    }

    /// Asks for a version; `None` when it is confirmed, else why not.
    async fn ask(&mut self, version: &str, attempt: u32) -> Option<ReasonKind> {
        self.device.wish(version, attempt);
        let progress = self.device.fulfil(&mut self.process, false).await.expect("comes to an end");
        assert_eq!(self.process.host.violations(), Vec::<String>::new());
        match progress {
            Progress::Rejected { reason } | Progress::RolledBack { reason } => Some(reason.kind),
            _ => None,
        }
    }

    /// Asks for a version that must be refused for one of these reasons, while the confirmed one goes on serving.
    async fn is_refused(&mut self, version: &str, attempt: u32, kinds: &[ReasonKind]) {
        let serving = self.process.host.serving();
        let kind = self.ask(version, attempt).await;
        assert!(kind.is_some_and(|kind| kinds.contains(&kind)), "{kind:?}, expected {kinds:?}");
        assert!(serving.is_some());
        assert_eq!(self.process.host.serving(), serving, "what served goes on");
    }

    /// Asks for a version that must wait for this reason, while the confirmed one goes on serving.
    async fn waits(&mut self, version: &str, attempt: u32, kind: ReasonKind) {
        let serving = self.process.host.serving();
        self.device.wish(version, attempt);
        let reason = self.device.waiting(&mut self.process).await.expect("says why it waits");
        assert_eq!(reason.kind, kind, "{reason}");
        assert!(serving.is_some());
        assert_eq!(self.process.host.serving(), serving, "what served goes on");
    }

    /// Asks for a version that must be confirmed, with everything in order afterwards.
    async fn is_confirmed(&mut self, version: &str, attempt: u32) {
        assert_eq!(self.ask(version, attempt).await, None);
        assert_eq!(invariants::at_rest(&self.device, &self.process), Vec::<String>::new());
    }

    /// Kills the process and starts another one.
    async fn restart(self) -> Self {
        let Self { mut device, process } = self;
        process.kill().await;
        device.disk = device.disk.handed_over();
        let process = device.start().await.expect("starts");
        assert_eq!(invariants::after_start(&device, &process), Vec::<String>::new());
        Self { device, process }
    }
}

/// Runs a test on a device with 1.0.0 confirmed and 1.1.0 on offer.
fn on_a_device(test: impl AsyncFnOnce(Bench)) {
    let mut device = with_active(&["1.0.0"]);
    device.release(&[("1.1.0", Good)]);
    simulate(async { test(Bench::new(device).await).await });
}

/// A server that misbehaves so in every answer of a kind makes 1.1.0 be refused, until it behaves.
fn refused_while(fault: Fault, of: Of, kinds: &[ReasonKind]) {
    on_a_device(async |mut bench| {
        bench.device.server.misbehave(fault, of, 100, 0);
        bench.is_refused("1.1.0", 1, kinds).await;
        bench.device.server.behave();
        bench.is_confirmed("1.1.0", 2).await;
    });
}

#[test]
fn a_frozen_server_hides_a_release_until_its_metadata_expires() {
    let mut device = with_active(&["1.0.0"]);
    let old = device.server.metadata_now();
    device.release(&[("1.1.0", Good)]);
    simulate(async {
        let mut bench = Bench::new(device).await;
        bench.device.server.misbehave(Fault::Old(old), Of::Metadata, 100, 0);
        bench.is_refused("1.1.0", 1, &[Inconsistent]).await;
        clock::advance(whimbrel_sim::repository::ONLINE_VALID + Days::DAY);
        bench.waits("1.1.0", 2, Expired).await;
        bench.device.server.behave();
        bench.device.repository.now = clock::now();
        bench.device.repository.publish(&bench.device.server);
        bench.is_confirmed("1.1.0", 2).await;
    });
}

#[test]
fn older_metadata_is_not_taken_back() {
    let mut device = with_active(&["1.0.0"]);
    let old = device.server.metadata_now();
    device.release(&[("1.1.0", Good)]);
    simulate(async {
        let mut bench = Bench::new(device).await;
        bench.is_confirmed("1.1.0", 1).await;
        bench.device.release(&[("1.2.0", Good)]);
        bench.device.server.misbehave(Fault::Old(old), Of::Metadata, 100, 0);
        bench.waits("1.2.0", 1, Replayed).await;
        // Nor by the next process.
        let mut bench = bench.restart().await;
        bench.waits("1.2.0", 1, Replayed).await;
        bench.device.server.behave();
        bench.is_confirmed("1.2.0", 1).await;
    });
}

#[test]
fn files_of_different_versions_are_not_mixed() {
    for fault in [Fault::OldTargets, Fault::OldSnapshot] {
        let mut device = with_active(&["1.0.0"]);
        let old = device.server.metadata_now();
        device.release(&[("1.1.0", Good)]);
        simulate(async {
            let mut bench = Bench::new(device).await;
            bench.device.server.misbehave(fault(old), Of::Metadata, 100, 0);
            bench.is_refused("1.1.0", 1, &[Corrupt]).await;
            bench.device.server.behave();
            bench.is_confirmed("1.1.0", 2).await;
        });
    }
}

#[test]
fn a_wrong_length_is_seen() {
    refused_while(Fault::Truncated, Of::Metadata, &[Malformed]);
    refused_while(Fault::Truncated, Of::Targets, &[Corrupt]);
    refused_while(Fault::Truncated, Of::Chunks, &[Corrupt]);
}

#[test]
fn a_wrong_hash_is_seen() {
    // A changed byte makes metadata unreadable, or changes what is signed.
    refused_while(Fault::WrongBytes, Of::Metadata, &[Malformed, Signature]);
    refused_while(Fault::WrongBytes, Of::Targets, &[Corrupt]);
    refused_while(Fault::WrongBytes, Of::Chunks, &[Corrupt]);
}

#[test]
fn data_without_end_are_cut_off() {
    for of in [Of::Metadata, Of::Targets, Of::Chunks] {
        refused_while(Fault::Endless, of, &[TooLarge]);
    }
}

#[test]
fn the_page_of_a_captive_portal_is_not_taken_for_an_answer() {
    refused_while(Fault::CaptivePortal, Of::All, &[Malformed]);
    refused_while(Fault::CaptivePortal, Of::Chunks, &[Corrupt]);
}

#[test]
fn a_chunk_that_comes_wrong_once_in_a_while_is_asked_for_again() {
    on_a_device(async |mut bench| {
        bench.device.server.misbehave(Fault::WrongBytes, Of::Chunks, 30, 4);
        bench.is_confirmed("1.1.0", 1).await;
    });
}

#[test]
fn a_network_that_is_gone_is_waited_for() {
    for fault in [Fault::Offline, Fault::Lost] {
        on_a_device(async |mut bench| {
            bench.device.server.misbehave(fault, Of::All, 100, 0);
            bench.device.wish("1.1.0", 1);
            bench.device.tell(&bench.process);
            tokio::time::sleep(Duration::from_secs(3600)).await;
            bench.waits("1.1.0", 1, Network).await;
            bench.device.server.behave();
            bench.is_confirmed("1.1.0", 1).await;
        });
    }
}

#[test]
fn a_full_disk_is_seen_before_a_byte_moves() {
    on_a_device(async |mut bench| {
        bench.device.disk.set_free_bytes(1 << 20);
        bench.is_refused("1.1.0", 1, &[Disk]).await;
        bench.device.disk.set_free_bytes(0);
        let mut bench = bench.restart().await;
        bench.is_refused("1.1.0", 2, &[Disk]).await;
        bench.device.disk.heal();
        bench.is_confirmed("1.1.0", 3).await;
    });
}

#[test]
fn a_disk_that_fills_up_meanwhile_keeps_the_confirmed_version() {
    on_a_device(async |mut bench| {
        bench.device.server.misbehave(Fault::Lost, Of::Chunks, 100, 0);
        bench.device.wish("1.1.0", 1);
        bench.device.tell(&bench.process);
        // The chunks do not come, so the space is gone when they do.
        tokio::time::sleep(Duration::from_secs(10)).await;
        bench.device.disk.set_free_bytes(0);
        bench.device.server.behave();
        bench.is_refused("1.1.0", 1, &[Disk]).await;
        let mut bench = bench.restart().await;
        bench.device.disk.heal();
        bench.is_confirmed("1.1.0", 2).await;
    });
}

#[test]
fn a_read_only_disk_serves_and_refuses_updates() {
    on_a_device(async |mut bench| {
        bench.device.disk.set_read_only();
        bench.is_refused("1.1.0", 1, &[Disk]).await;
        let mut bench = bench.restart().await;
        bench.is_refused("1.1.0", 2, &[Disk]).await;
        bench.device.disk.heal();
        bench.is_confirmed("1.1.0", 3).await;
    });
}

#[test]
fn a_disk_that_refuses_during_probation_serves_after_a_restart() {
    on_a_device(async |mut bench| {
        bench.device.requests = 0;
        let mut bench = bench.restart().await;
        bench.device.wish("1.1.0", 1);
        bench.device.tell(&bench.process);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let candidate = "1.1.0".parse().expect("a version");
        assert!(invariants::serves(&bench.process, &candidate), "it is in probation");
        bench.device.disk.set_read_only();
        let mut bench = bench.restart().await;
        assert!(invariants::serves(&bench.process, &candidate), "the journal says so, and cannot say more");
        bench.device.disk.heal();
        bench.process.host.set_requests(10);
        bench.is_confirmed("1.1.0", 1).await;
    });
}

#[test]
fn a_clock_at_1970_updates_and_serves() {
    on_a_device(async |bench| {
        clock::set(datetime!(1970-01-01 00:00 UTC));
        let mut bench = bench.restart().await;
        // The time at which the trusted timestamp was signed counts instead.
        bench.is_confirmed("1.1.0", 1).await;
        clock::set(clock::START);
        bench.device.release(&[("1.2.0", Good)]);
        bench.restart().await.is_confirmed("1.2.0", 1).await;
    });
}

#[test]
fn a_clock_at_1970_lets_nothing_pass_that_had_expired_when_the_timestamp_was_signed() {
    on_a_device(async |mut bench| {
        clock::set(datetime!(1970-01-01 00:00 UTC));
        bench.device.repository.now = clock::START + whimbrel_sim::repository::ONLINE_VALID + Days::DAY;
        bench.device.repository.stamp_again(&bench.device.server);
        bench.waits("1.1.0", 1, Expired).await;
        let mut bench = bench.restart().await;
        bench.waits("1.1.0", 1, Expired).await;
        bench.device.repository.publish(&bench.device.server);
        bench.is_confirmed("1.1.0", 1).await;
    });
}

#[test]
fn a_clock_at_2100_holds_updates_up_until_it_is_back() {
    on_a_device(async |bench| {
        clock::set(datetime!(2100-01-01 00:00 UTC));
        let mut bench = bench.restart().await;
        bench.waits("1.1.0", 1, Expired).await;
        clock::set(clock::START);
        // Nobody signed anything in 2100, so nothing of it is remembered.
        bench.is_confirmed("1.1.0", 1).await;
        clock::set(datetime!(2100-01-01 00:00 UTC));
        bench.restart().await;
    });
}

//! The device's side of the fleet: desired states come in, reports and telemetry go out.
//!
//! Two ways carry the same messages: MQTT while it is connected ([`mqtt`]), HTTPS polling while it is not ([`https`]).
//! Neither is ever waited for by an answer or by an update: the server can be away for months. The files of an update come
//! over either, too ([`updates`]).

mod desired;
mod https;
mod mqtt;
mod report;
mod tls;
mod updates;
mod upload;

pub(crate) use desired::Inbox;
pub(crate) use report::Reporter;
pub(crate) use tls::{client, nobody};
pub(crate) use updates::Updates;

use crate::{config::Transport, telemetry::Telemetry};
use rustls::ClientConfig;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use whimbrel_telemetry::BatchId;
use whimbrel_updater::transport::MqttPort;
use whimbrel_wire::{
    DeviceId, TenantId,
    topic::{Leaf, Topic},
};

/// Where the fleet server is, and how it is talked to.
#[derive(Debug, Clone)]
pub(crate) struct FleetSettings {
    /// E.g. `https://fleet.example:8443`, without a trailing slash.
    pub(crate) url: String,
    /// Name or address of the same machine.
    pub(crate) host: String,
    pub(crate) mqtt_port: u16,
    pub(crate) device: DeviceId,
    pub(crate) tenant: TenantId,
    pub(crate) transport: Transport,
    /// Time of silence after which the server is asked whether it is there; at least 5 s are used.
    pub(crate) keep_alive: Duration,
    /// Longest time between two reports.
    pub(crate) report_every: Duration,
    /// Longest time between two polls, whatever the server asks for.
    pub(crate) poll_max: Duration,
}

/// What both ways work on.
pub(crate) struct Link {
    pub(crate) settings: FleetSettings,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) reporter: Reporter,
    /// `None` where nothing is counted.
    pub(crate) telemetry: Option<Arc<Telemetry>>,
    /// How MQTT does: the other way looks at it.
    mqtt: watch::Sender<MqttState>,
}

/// How MQTT does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MqttState {
    /// Not tried to the end yet.
    Unknown,
    Connected,
    /// The last try failed, or the connection broke.
    Down,
}

impl Link {
    pub(crate) fn new(
        settings: FleetSettings,
        inbox: Arc<Inbox>,
        reporter: Reporter,
        telemetry: Option<Arc<Telemetry>>,
    ) -> Arc<Self> {
        Arc::new(Self { settings, inbox, reporter, telemetry, mqtt: watch::Sender::new(MqttState::Unknown) })
    }

    /// Keeps the fleet informed until `stop` turns true. `port` is what the updater fetches through over MQTT.
    pub(crate) async fn run(
        self: Arc<Self>,
        tls: Arc<ClientConfig>,
        client: reqwest::Client,
        port: MqttPort,
        stop: watch::Receiver<bool>,
    ) {
        let by_mqtt = mqtt::run(Arc::clone(&self), tls, port, stop.clone());
        let by_https = https::run(Arc::clone(&self), client, stop);
        match self.settings.transport {
            Transport::Auto => {
                tokio::join!(by_mqtt, by_https);
            }
            Transport::Mqtt => by_mqtt.await,
            Transport::Https => by_https.await,
        }
    }

    /// The oldest batches that the server has not acknowledged.
    async fn pending(&self) -> Vec<(BatchId, Vec<u8>)> {
        let Some(telemetry) = self.telemetry.clone() else { return Vec::new() };
        let read = tokio::task::spawn_blocking(move || telemetry.pending(upload::IN_FLIGHT_MAX));
        read.await.unwrap_or_else(|error| {
            tracing::error!(%error, "reading pending telemetry failed");
            Vec::new()
        })
    }

    /// Forgets batches that the server has stored.
    async fn acknowledge(&self, ids: Vec<BatchId>) {
        let Some(telemetry) = self.telemetry.clone() else { return };
        if let Err(error) = tokio::task::spawn_blocking(move || telemetry.acknowledge(&ids)).await {
            tracing::error!(%error, "forgetting acknowledged telemetry failed");
        }
    }

    /// Waits until batches entered the spool.
    async fn stored(&self) {
        match &self.telemetry {
            Some(telemetry) => telemetry.stored.notified().await,
            None => std::future::pending().await,
        }
    }

    fn topic(&self, leaf: Leaf) -> String {
        let (tenant, device) = (self.settings.tenant.clone(), self.settings.device.clone());
        Topic { tenant, device, leaf }.to_string()
    }
}

/// Waits until `stop` turns true or its sender is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error is a sender that is gone, which means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

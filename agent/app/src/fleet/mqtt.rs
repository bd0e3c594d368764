//! MQTT 5 over TLS: one connection, kept for ever.

use super::{
    Link, MqttState,
    desired::Taken,
    stopped,
    upload::{InFlight, named},
};
use bytes::Bytes;
use rumqttc::{
    Outgoing, TlsConfiguration, Transport,
    v5::{
        AsyncClient, Event, EventLoop, Incoming, MqttOptions,
        mqttbytes::{
            QoS,
            v5::{ConnectProperties, Filter, LastWill},
        },
    },
};
use rustls::ClientConfig;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
use whimbrel_updater::transport::{Backoff, MqttPort};
use whimbrel_wire::{
    Message as _, decode, encode,
    telemetry::Ack,
    topic::{Leaf, Topic, chunks_filter},
    transfer::{Get, Part},
};

/// Largest packet that is taken: a part of a file with its topic and properties.
const PACKET_BYTES_MAX: u32 = Part::SIZE_BYTES_MAX as u32 + 2048;
/// What a packet takes beside its payload.
const PACKET_HEAD_BYTES: usize = 512;
/// How long the server keeps what it could not deliver.
const SESSION_S: u32 = 24 * 3600;
/// Longest time for a connection, TLS included.
const CONNECT_S: u64 = 15;
/// Packets that may wait for the connection.
const QUEUE_MAX: usize = 64;
/// How often it is looked whether a batch is due.
const UPLOAD_EVERY: Duration = Duration::from_secs(1);
/// Longest time for saying goodbye.
const GOODBYE: Duration = Duration::from_secs(3);
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(30) };

/// What the connection tells.
enum Signal {
    Up { packet_bytes_max: Option<u32> },
    Down,
    Message { topic: String, payload: Bytes },
}

/// Keeps the connection until `stop` turns true.
pub(super) async fn run(
    link: Arc<Link>,
    tls: Arc<ClientConfig>,
    port: MqttPort,
    mut stop: watch::Receiver<bool>,
) {
    let (client, events) = AsyncClient::new(options(&link, tls), QUEUE_MAX);
    let (sender, mut signals) = mpsc::channel(QUEUE_MAX);
    // In a task of its own: giving up a poll half-way would give up a connection that is being made.
    let mut driver = tokio::spawn(drive(events, sender));
    let mut session = Session {
        link: Arc::clone(&link),
        client,
        port,
        up: None,
        report_due: true,
        flight: InFlight::default(),
    };
    let mut changes = link.reporter.changes();
    let mut report = tokio::time::interval(link.settings.report_every);
    let mut upload = tokio::time::interval(UPLOAD_EVERY);
    for interval in [&mut report, &mut upload] {
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    }
    loop {
        tokio::select! {
            signal = signals.recv() => match signal {
                Some(signal) => session.on(signal).await,
                None => break,
            },
            Ok(()) = changes.changed() => session.report_due = true,
            _ = report.tick() => session.report_due = true,
            () = link.stored() => session.upload().await,
            _ = upload.tick() => session.upload().await,
            get = session.port.next() => session.get(&get),
            () = stopped(&mut stop) => {
                session.goodbye();
                break;
            }
        }
        session.report();
    }
    if tokio::time::timeout(GOODBYE, &mut driver).await.is_err() {
        driver.abort();
    }
    link.mqtt.send_replace(MqttState::Down);
}

fn options(link: &Link, tls: Arc<ClientConfig>) -> MqttOptions {
    let settings = &link.settings;
    let mut options = MqttOptions::new(settings.device.as_str(), settings.host.clone(), settings.mqtt_port);
    let will =
        LastWill::new(link.topic(Leaf::Status), link.reporter.status(false), QoS::AtLeastOnce, true, None);
    let properties = ConnectProperties {
        session_expiry_interval: Some(SESSION_S),
        max_packet_size: Some(PACKET_BYTES_MAX),
        ..ConnectProperties::new()
    };
    options
        .set_transport(Transport::Tls(TlsConfiguration::Rustls(tls)))
        .set_keep_alive(settings.keep_alive.max(Duration::from_secs(5)))
        .set_clean_start(false)
        .set_connect_properties(properties)
        .set_connection_timeout(CONNECT_S)
        .set_last_will(will);
    options
}

/// Polls the connection, and makes it anew whenever it breaks, until it was closed from this side.
async fn drive(mut events: EventLoop, signals: mpsc::Sender<Signal>) {
    let mut failures = 0u32;
    loop {
        let signal = match events.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(ack))) => {
                failures = 0;
                let packet_bytes_max = ack.properties.and_then(|p| p.max_packet_size);
                Signal::Up { packet_bytes_max }
            }
            Ok(Event::Incoming(Incoming::Publish(message))) => Signal::Message {
                topic: String::from_utf8_lossy(&message.topic).into_owned(),
                payload: message.payload,
            },
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => continue,
            Err(error) => {
                failures = failures.saturating_add(1);
                if failures == 1 {
                    tracing::warn!(%error, "MQTT is not connected");
                } else {
                    tracing::debug!(%error, failures, "MQTT is not connected");
                }
                // What was under way is sent again by those who know whether it still matters.
                events.pending.clear();
                if signals.send(Signal::Down).await.is_err() {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(BACKOFF.jittered(failures)) => continue,
                    () = signals.closed() => return,
                }
            }
        };
        if signals.send(signal).await.is_err() && failures > 0 {
            return;
        }
    }
}

/// One device's use of the connection.
struct Session {
    link: Arc<Link>,
    client: AsyncClient,
    port: MqttPort,
    /// While connected: the largest packet that the server takes.
    up: Option<usize>,
    report_due: bool,
    flight: InFlight,
}

impl Session {
    async fn on(&mut self, signal: Signal) {
        match signal {
            Signal::Up { packet_bytes_max } => {
                tracing::info!("MQTT is connected");
                self.up =
                    Some(packet_bytes_max.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX)));
                self.flight.forget();
                self.greet();
                self.port.connected();
                self.report_due = true;
                self.link.mqtt.send_replace(MqttState::Connected);
                self.upload().await;
            }
            Signal::Down => {
                self.up = None;
                self.flight.forget();
                self.port.disconnected();
                self.link.mqtt.send_replace(MqttState::Down);
            }
            Signal::Message { topic, payload } => match Topic::parse(&topic).map(|t| t.leaf) {
                Some(Leaf::Desired) => self.desired(payload).await,
                Some(Leaf::Ack) => self.acknowledged(&payload).await,
                Some(Leaf::Chunk(_) | Leaf::File) => self.part(&payload),
                _ => tracing::debug!(topic, "a message that is not for devices"),
            },
        }
    }

    /// Subscribing at each connection also brings the retained desired state again.
    fn greet(&self) {
        for leaf in [Leaf::Desired, Leaf::Ack] {
            if let Err(error) = self.client.try_subscribe(self.link.topic(leaf), QoS::AtLeastOnce) {
                tracing::warn!(%error, leaf = leaf.as_str(), "subscribing failed");
            }
        }
        let settings = &self.link.settings;
        let chunks = Filter {
            // It covers the topic on which chunks are asked for.
            nolocal: true,
            ..Filter::new(chunks_filter(&settings.tenant, &settings.device), QoS::AtMostOnce)
        };
        let parts = [chunks, Filter::new(self.link.topic(Leaf::File), QoS::AtMostOnce)];
        if let Err(error) = self.client.try_subscribe_many(parts) {
            tracing::warn!(%error, "subscribing to the files of updates failed");
        }
        self.publish(Leaf::Status, true, self.link.reporter.status(true));
    }

    /// Asks for files. What cannot be asked for now is asked for again when nothing came.
    fn get(&self, get: &Get) {
        match encode(get) {
            Ok(bytes) => {
                self.publish(Leaf::ChunkGet, false, bytes);
            }
            Err(error) => tracing::error!(%error, "files cannot be asked for"),
        }
    }

    fn part(&self, payload: &[u8]) {
        if let Err(error) = self.port.answer(payload) {
            tracing::warn!(%error, "a part of a file was not understood");
        }
    }

    async fn desired(&mut self, payload: Bytes) {
        let inbox = Arc::clone(&self.link.inbox);
        match tokio::task::spawn_blocking(move || inbox.take(&payload)).await {
            Ok(Taken::New { serial }) => {
                tracing::info!(serial, "a new desired state");
                self.report_due = true;
            }
            Ok(Taken::Bad(why)) => tracing::warn!(why, "a desired state was not understood"),
            Ok(taken) => tracing::debug!(?taken, "a desired state"),
            Err(error) => tracing::error!(%error, "taking a desired state failed"),
        }
    }

    async fn acknowledged(&mut self, payload: &[u8]) {
        let ids = match decode::<Ack>(payload) {
            Ok(ack) => named(&ack),
            Err(error) => {
                tracing::warn!(%error, "an acknowledgement was not understood");
                return;
            }
        };
        self.flight.acknowledged(&ids);
        self.link.acknowledge(ids).await;
        self.upload().await;
    }

    async fn upload(&mut self) {
        let Some(packet_bytes_max) = self.up else { return };
        let pending = self.link.pending().await;
        for (id, bytes) in self.flight.due(pending, Instant::now()) {
            if bytes.len() + PACKET_HEAD_BYTES > packet_bytes_max {
                tracing::warn!(
                    size_bytes = bytes.len(),
                    packet_bytes_max,
                    "a batch is too large for this server"
                );
            } else if !self.publish(Leaf::Telemetry, false, bytes) {
                self.flight.unsent(id);
            }
        }
    }

    /// Sends a report if one is due; it stays due until it could be handed over.
    fn report(&mut self) {
        if self.report_due && self.up.is_some() {
            let report = self.link.reporter.report(self.link.inbox.serial());
            self.report_due = report.is_some_and(|bytes| !self.publish(Leaf::Report, false, bytes));
        }
    }

    fn publish(&self, leaf: Leaf, retain: bool, bytes: Vec<u8>) -> bool {
        let qos = if leaf == Leaf::ChunkGet { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        self.client
            .try_publish(self.link.topic(leaf), qos, retain, bytes)
            .inspect_err(|error| tracing::debug!(%error, leaf = leaf.as_str(), "not handed over yet"))
            .is_ok()
    }

    /// An orderly end discards the last will, so what it says is said first.
    fn goodbye(&mut self) {
        if self.up.is_some() {
            self.report_due = true;
            self.report();
            self.publish(Leaf::Status, true, self.link.reporter.status(false));
            if let Err(error) = self.client.try_disconnect() {
                tracing::debug!(%error, "no goodbye");
            }
        }
        self.up = None;
    }
}

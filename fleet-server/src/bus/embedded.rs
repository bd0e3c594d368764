//! The broker inside the server: MQTT 5 over TLS, client certificates demanded.
//!
//! The server speaks to it in the same process: its messages enter through the broker's own routing function, and devices'
//! messages leave through the permission check (see [`super::hooks`]). A client connection from the server to itself
//! would bring a second queue whose overflow drops messages after they were confirmed to the device.

use super::{
    Address, Admission, Bus, BusError, Event, Incoming,
    hooks::{Hooks, Online},
    retained::Retained,
    window::{EXPIRY, Room, Window},
};
use async_trait::async_trait;
use bytes::Bytes;
use rmqtt::{
    codec::{
        types::{Publish as Packet, QoS},
        v5::PublishProperties,
    },
    context::ServerContext,
    hook::{Parameter, Type},
    net::Builder,
    server::MqttServer,
    session::SessionState,
    types::{From as Sender, Id, Publish},
};
use std::{
    net::SocketAddr,
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use whimbrel_wire::{
    Message as _, TenantId,
    topic::{Leaf, Topic},
    transfer::Part,
};

/// Largest MQTT packet: the largest message and room for its topic and properties.
const PACKET_BYTES_MAX: u32 = Part::SIZE_BYTES_MAX as u32 + 2048;
/// Most messages that wait for one device.
const QUEUE_LEN_MAX: usize = 64;
/// Messages from devices that wait for the server; when full, their connections wait.
const INCOMING_LEN_MAX: usize = 1024;
/// How long a session outlives its connection at most: what it could still hold is sent again anyway.
const SESSION_EXPIRY_MAX: Duration = Duration::from_secs(300);
/// How often connections that ended without a word are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// Longest time for writing one packet: the largest on a line of 9 kB/s.
const SEND: Duration = Duration::from_secs(30);
const NODE: u64 = 1;
const LISTENER: u16 = 1;

/// What the broker needs.
pub(crate) struct BrokerConfig {
    /// Where to listen; port 0 picks one.
    pub(crate) listen: SocketAddr,
    /// PEM files: the server's chain, its key, the CA that signs devices.
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_ca: PathBuf,
    /// The tenant it serves.
    pub(crate) tenant: TenantId,
    /// Most connections.
    pub(crate) connections_max: usize,
}

/// A running broker; dropping it closes the listener.
pub(crate) struct Embedded {
    context: ServerContext,
    window: Arc<Window>,
    tasks: Vec<JoinHandle<()>>,
    address: SocketAddr,
}

impl Embedded {
    /// Listens, and hands what devices say to the returned receiver.
    ///
    /// # Errors
    /// [`BusError::Listen`]: the address is taken, or a PEM file is unusable.
    pub(crate) async fn start(
        config: BrokerConfig,
        admission: Arc<dyn Admission>,
    ) -> Result<(Self, mpsc::Receiver<Incoming>), BusError> {
        let listen = config.listen;
        let fail = |e: rmqtt::Error| BusError::Listen { address: listen, source: e.into() };
        // The broker's own overload check looks at the machine's load and would refuse devices while a build runs.
        let sessions_max = isize::try_from(config.connections_max).unwrap_or(isize::MAX);
        let context =
            ServerContext::new().busy_check_enable(false).mqtt_max_sessions(sessions_max).build().await;
        *context.extends.retain_mut().await = Box::<Retained>::default();

        let (incoming, receiver) = mpsc::channel(INCOMING_LEN_MAX);
        let online = Online::default();
        let hooks = Hooks {
            admission,
            incoming: incoming.clone(),
            online: Arc::clone(&online),
            tenant: config.tenant.clone(),
        };
        let window = Arc::new(Window::default());
        register(&context, &hooks, &window).await;

        let listener = builder(&config).bind().and_then(|l| l.tls()).map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let server = MqttServer::new(context.clone()).listener_by_id(listener, LISTENER).build();
        let run = tokio::spawn(async move {
            if let Err(error) = server.run().await {
                tracing::error!("the MQTT broker stopped: {error}");
            }
        });
        let sweep = tokio::spawn(sweep(context.clone(), Arc::clone(&online), incoming));
        Ok((Self { context, window, tasks: vec![run, sweep], address }, receiver))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[async_trait]
impl Bus for Embedded {
    async fn publish(&self, to: &Address, leaf: Leaf, body: Bytes, retain: bool) -> Result<(), BusError> {
        let topic = Topic { tenant: to.tenant.clone(), device: to.device.clone(), leaf }.to_string();
        // A device asks again for a part that does not come: keeping it for later would only send it twice.
        let (qos, properties) =
            if is_part(leaf) { (QoS::AtMostOnce, Some(expiring())) } else { (QoS::AtLeastOnce, None) };
        let packet = Packet {
            dup: false,
            retain,
            qos,
            topic: topic.clone().into(),
            packet_id: None,
            payload: body,
            properties,
        };
        let publish = Publish::new(Box::new(packet), None, None, None);
        let from = Sender::from_system(Id::from(NODE, "whimbrel-fleet".into()));
        SessionState::forwards(&self.context, from, publish, false, None)
            .await
            .map_err(|e| BusError::Publish { topic, reason: e.to_string() })
    }

    fn reserve(&self, to: &Address) -> Room {
        self.window.reserve(to, Instant::now())
    }

    fn release(&self, to: &Address) {
        self.window.release(to);
    }

    async fn disconnect(&self, device: &Address) {
        let id = Id::from(NODE, device.device.as_str().to_owned().into());
        let entry = self.context.extends.shared().await.entry(id);
        let kicked = match entry.try_lock().await {
            // Both flags: without them the broker keeps the session and its subscriptions.
            Ok(mut entry) => entry.kick(true, true, true).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = kicked {
            tracing::warn!(device = %device.device, "end its MQTT session: {error}");
        }
    }
}

fn builder(config: &BrokerConfig) -> Builder {
    let path = |p: &PathBuf| Some(p.to_string_lossy().into_owned());
    Builder::new()
        .name("whimbrel")
        .laddr(config.listen)
        .reuseaddr(Some(true))
        .nodelay(true)
        .allow_anonymous(false)
        .tls_cross_certificate(true)
        .tls_client_ca_certs(path(&config.client_ca))
        .tls_cert(path(&config.chain))
        .tls_key(path(&config.key))
        .collect_cert_info(true)
        .handshake_timeout(Duration::from_secs(10))
        .send_timeout(SEND)
        .max_connections(config.connections_max)
        .max_packet_size(PACKET_BYTES_MAX)
        .max_clientid_len(64)
        .max_topic_levels(8)
        .max_subscriptions(8)
        .max_mqueue_len(QUEUE_LEN_MAX)
        .max_inflight(NonZeroU16::MIN.saturating_add(15))
        .allow_zero_keepalive(false)
        .max_keepalive(600)
        .max_session_expiry_interval(SESSION_EXPIRY_MAX)
}

const fn is_part(leaf: Leaf) -> bool {
    matches!(leaf, Leaf::Chunk(_) | Leaf::File)
}

fn expiring() -> PublishProperties {
    let seconds = u32::try_from(EXPIRY.as_secs()).unwrap_or(u32::MAX);
    PublishProperties { message_expiry_interval: NonZeroU32::new(seconds), ..PublishProperties::default() }
}

async fn register(context: &ServerContext, hooks: &Hooks, window: &Arc<Window>) {
    let register = context.extends.hook_mgr().register();
    for typ in [
        Type::ClientAuthenticate,
        Type::ClientConnected,
        Type::ClientDisconnected,
        Type::MessagePublishCheckAcl,
        Type::ClientSubscribeCheckAcl,
    ] {
        register.add(typ, Box::new(hooks.clone())).await;
    }
    for typ in [Type::MessageDelivered, Type::MessageDropped] {
        register.add(typ, Box::new(Departures(Arc::clone(window)))).await;
    }
    register.start().await;
}

/// Sees messages leave the broker: written to a connection, or thrown away, which is to be visible.
struct Departures(Arc<Window>);

#[async_trait]
impl rmqtt::hook::Handler for Departures {
    async fn hook(
        &self,
        parameter: &Parameter,
        before: Option<rmqtt::hook::HookResult>,
    ) -> rmqtt::hook::ReturnType {
        let publish: &Publish = match parameter {
            Parameter::MessageDelivered(_, _, publish) => publish,
            Parameter::MessageDropped(Some(to), _, publish, reason) => {
                tracing::warn!(client = %to.client_id, topic = %publish.topic, "the broker dropped a message: {reason}");
                publish
            }
            _ => return (true, before),
        };
        if let Some(Topic { tenant, device, leaf }) = Topic::parse(&publish.topic)
            && is_part(leaf)
        {
            self.0.release(&Address { tenant, device });
        }
        (true, before)
    }
}

/// A connection that dies between the broker's 'connected' and its first byte never gets a 'disconnected'.
async fn sweep(context: ServerContext, online: Online, incoming: mpsc::Sender<Incoming>) {
    let mut tick = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        tick.tick().await;
        let known: Vec<(Address, i64)> = match online.lock() {
            Ok(online) => online.iter().map(|(who, token)| (who.clone(), *token)).collect(),
            Err(_) => return,
        };
        for (who, token) in known {
            let id = Id::from(NODE, who.device.as_str().to_owned().into());
            let entry = context.extends.shared().await.entry(id);
            let lives = entry.tx().is_some_and(|tx| !tx.is_closed());
            if !lives && forget(&online, &who, token) {
                let _ = incoming.send(Incoming { from: who, event: Event::Down }).await;
            }
        }
    }
}

fn forget(online: &Mutex<std::collections::HashMap<Address, i64>>, who: &Address, token: i64) -> bool {
    online.lock().is_ok_and(|mut online| online.get(who) == Some(&token) && online.remove(who).is_some())
}

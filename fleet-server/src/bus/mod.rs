//! The message bus between the server and its devices, behind a trait, so that an external broker can replace ours.
//!
//! The bus is never the durable store: whatever it holds can be made again from the database, and a device counts a batch
//! as delivered only when the server's own acknowledgement comes back.

pub(crate) mod acl;
pub(crate) mod embedded;
mod hooks;
mod retained;
mod window;

pub(crate) use window::Room;

use async_trait::async_trait;
use bytes::Bytes;
use whimbrel_wire::{DeviceId, TenantId, topic::Leaf};

/// One device, as certificates and topics name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address {
    /// Organisation of its certificate.
    pub(crate) tenant: TenantId,
    /// Common name of its certificate.
    pub(crate) device: DeviceId,
}

/// What comes from the devices.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Who; proven by the certificate.
    pub(crate) from: Address,
    /// What happened.
    pub(crate) event: Event,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// The device connected.
    Up,
    /// Its last connection ended.
    Down,
    /// It published on one of its own topics.
    Message {
        /// Which of them.
        leaf: Leaf,
        /// The bytes, not yet decoded.
        body: Bytes,
    },
}

/// Why something could not be given to the bus.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BusError {
    /// The listener could not be made.
    #[error("start the MQTT listener on {address}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// The broker's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A message could not be handed over.
    #[error("publish on {topic}: {reason}")]
    Publish {
        /// Where.
        topic: String,
        /// The broker's reason.
        reason: String,
    },
}

/// Sends to devices.
#[async_trait]
pub(crate) trait Bus: Send + Sync {
    /// Publishes on one of the server's topics of a device; a retained one replaces the one before. Parts of files are given
    /// up when they do not reach the device soon.
    ///
    /// # Errors
    /// When the broker did not take it.
    async fn publish(&self, to: &Address, leaf: Leaf, body: Bytes, retain: bool) -> Result<(), BusError>;

    /// Counts one more part of a file that is to be published for a device, if there is room.
    fn reserve(&self, to: &Address) -> Room;

    /// Gives back what [`Self::reserve`] counted, for a part that is not published after all. Otherwise that is the bus's
    /// own work, once the part has left.
    fn release(&self, to: &Address);

    /// Ends a device's connection and forgets its session.
    async fn disconnect(&self, device: &Address);
}

/// Decides whether a certificate that the fleet CA has signed may still be used.
#[async_trait]
pub(crate) trait Admission: Send + Sync {
    /// `serial` is lower-case hexadecimal without leading zeros. A failure to find out must answer false.
    async fn admits(&self, who: &Address, serial: &str) -> bool;
}

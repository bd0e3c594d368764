//! Over which way updates come.

use crate::config::Transport as Chosen;
use bytes::Bytes;
use whimbrel_updater::{
    transport::{Https, Mqtt, MqttPort, Switching, Transport, TransportError, mqtt},
    tuf::Source,
};
use whimbrel_wire::Digest;

/// The updater's transport, as configured.
#[derive(Debug)]
pub(crate) enum Updates {
    /// HTTPS alone.
    Https(Https),
    /// The MQTT connection alone.
    Mqtt(Mqtt),
    /// HTTPS, which is faster and can be cached on the way; MQTT while it does not work.
    Auto(Switching<Https, Mqtt>),
}

impl Updates {
    /// The port is for whoever holds the MQTT connection.
    pub(crate) fn new(chosen: Chosen, https: Https) -> (Self, MqttPort) {
        let (mqtt, port) = mqtt();
        let updates = match chosen {
            Chosen::Https => Self::Https(https),
            Chosen::Mqtt => Self::Mqtt(mqtt),
            Chosen::Auto => Self::Auto(Switching::new(https.trying_once(), mqtt)),
        };
        (updates, port)
    }
}

impl Source for Updates {
    async fn metadata(&self, file: &str, size_bytes_max: u64) -> Result<Option<Bytes>, TransportError> {
        match self {
            Self::Https(https) => https.metadata(file, size_bytes_max).await,
            Self::Mqtt(mqtt) => mqtt.metadata(file, size_bytes_max).await,
            Self::Auto(both) => both.metadata(file, size_bytes_max).await,
        }
    }
}

impl Transport for Updates {
    async fn target(&self, file: &str, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        match self {
            Self::Https(https) => https.target(file, size_bytes_max).await,
            Self::Mqtt(mqtt) => mqtt.target(file, size_bytes_max).await,
            Self::Auto(both) => both.target(file, size_bytes_max).await,
        }
    }

    async fn chunk(&self, stored: Digest, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        match self {
            Self::Https(https) => https.chunk(stored, size_bytes_max).await,
            Self::Mqtt(mqtt) => mqtt.chunk(stored, size_bytes_max).await,
            Self::Auto(both) => both.chunk(stored, size_bytes_max).await,
        }
    }
}

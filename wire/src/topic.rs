//! MQTT 5 topic names. A device may publish and subscribe only below its own prefix.

use crate::id::{DeviceId, Digest, TenantId};
use std::fmt;

/// What a topic below a device's prefix carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf {
    /// Server to device, retained: [`crate::desired::DesiredState`].
    Desired,
    /// Server to device: [`crate::telemetry::Ack`].
    Ack,
    /// Device to server, QoS 1: [`crate::report::Report`].
    Report,
    /// Device to server, retained, also the last will: [`crate::report::Status`].
    Status,
    /// Device to server, QoS 1: [`crate::telemetry::Batch`].
    Telemetry,
    /// Device to server, QoS 0: [`crate::transfer::Get`].
    ChunkGet,
    /// Server to device, QoS 0: [`crate::transfer::Part`] with the chunk of this hash.
    Chunk(Digest),
    /// Server to device, QoS 0: [`crate::transfer::Part`] of any other file.
    File,
}

impl Leaf {
    /// Every leaf that is one name.
    const PLAIN: [Self; 6] =
        [Self::Desired, Self::Ack, Self::Report, Self::Status, Self::Telemetry, Self::File];

    /// What it is called: its levels, without the hash that the topic of a chunk ends in.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Desired => "desired",
            Self::Ack => "ack",
            Self::Report => "report",
            Self::Status => "status",
            Self::Telemetry => "telemetry",
            Self::ChunkGet => "chunk/get",
            Self::Chunk(_) => "chunk",
            Self::File => "file",
        }
    }

    /// Whether the device is the one who publishes here; otherwise the server is.
    #[must_use]
    pub const fn from_device(self) -> bool {
        matches!(self, Self::Report | Self::Status | Self::Telemetry | Self::ChunkGet)
    }

    /// Reads the levels after the device's.
    fn parse(levels: &str) -> Option<Self> {
        match levels.strip_prefix("chunk/") {
            Some("get") => Some(Self::ChunkGet),
            Some(hash) => hash.parse().ok().map(Self::Chunk),
            None => Self::PLAIN.into_iter().find(|leaf| leaf.as_str() == levels),
        }
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chunk(hash) => write!(f, "chunk/{hash}"),
            plain => f.write_str(plain.as_str()),
        }
    }
}

/// One device's topic: `whimbrel/v1/{tenant}/{device}/{leaf}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// The tenant level.
    pub tenant: TenantId,
    /// The device level.
    pub device: DeviceId,
    /// The levels after it.
    pub leaf: Leaf,
}

impl Topic {
    /// Reads a topic name; `None` when it is not one of ours.
    #[must_use]
    pub fn parse(topic: &str) -> Option<Self> {
        let mut levels = topic.strip_prefix("whimbrel/v1/")?.splitn(3, '/');
        let tenant = levels.next()?.parse().ok()?;
        let device = levels.next()?.parse().ok()?;
        Some(Self { tenant, device, leaf: Leaf::parse(levels.next()?)? })
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "whimbrel/v1/{}/{}/{}", self.tenant, self.device, self.leaf)
    }
}

/// The filter by which a device hears every chunk that is sent to it: the only one with a wildcard. It also covers the device's
/// own [`Leaf::ChunkGet`], so it is to be subscribed with 'no local'.
#[must_use]
pub fn chunks_filter(tenant: &TenantId, device: &DeviceId) -> String {
    format!("whimbrel/v1/{tenant}/{device}/chunk/+")
}

/// Whether `filter` asks for no more than a device's own chunks.
#[must_use]
pub fn is_chunks_filter(filter: &str, tenant: &TenantId, device: &DeviceId) -> bool {
    filter
        .strip_suffix(['+', '#'])
        .is_some_and(|stem| chunks_filter(tenant, device).strip_suffix('+') == Some(stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_round_trip_and_strangers_are_refused() {
        let topic = Topic {
            tenant: "acme".parse().expect("valid"),
            device: "cam-1".parse().expect("valid"),
            leaf: Leaf::Report,
        };
        assert_eq!(topic.to_string(), "whimbrel/v1/acme/cam-1/report");
        assert_eq!(Topic::parse(&topic.to_string()), Some(topic));
        for bad in [
            "whimbrel/v1/acme/cam-1",
            "whimbrel/v1/acme/cam-1/report/x",
            "whimbrel/v1/+/cam-1/report",
            "whimbrel/v1/acme/../report",
            "whimbrel/v2/acme/cam-1/report",
            "whimbrel/v1/acme/cam-1/other",
            "whimbrel/v1/acme/cam-1/chunk",
            "whimbrel/v1/acme/cam-1/chunk/",
            "whimbrel/v1/acme/cam-1/chunk/+",
            "whimbrel/v1/acme/cam-1/chunk/get/x",
            "whimbrel/v1/acme/cam-1/chunk/00",
        ] {
            assert_eq!(Topic::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn chunks_are_asked_for_and_answered_one_level_deeper() {
        let chunk = Leaf::Chunk(Digest::new([0xab; 32]));
        for leaf in Leaf::PLAIN.into_iter().chain([Leaf::ChunkGet, chunk]) {
            let topic = Topic {
                tenant: "acme".parse().expect("valid"),
                device: "cam-1".parse().expect("valid"),
                leaf,
            };
            assert_eq!(Topic::parse(&topic.to_string()), Some(topic));
        }
        assert_eq!(chunk.to_string(), format!("chunk/{}", "ab".repeat(32)));
        assert!(Leaf::ChunkGet.from_device() && !chunk.from_device());
        let capitals = format!("whimbrel/v1/acme/cam-1/chunk/{}", "AB".repeat(32));
        assert_eq!(Topic::parse(&capitals), None, "a hash has one text form");
    }

    #[test]
    fn the_filter_for_chunks_is_one_device_s_own() {
        let (tenant, device) = ("acme".parse().expect("valid"), "cam-1".parse().expect("valid"));
        assert!(is_chunks_filter(&chunks_filter(&tenant, &device), &tenant, &device));
        assert!(is_chunks_filter("whimbrel/v1/acme/cam-1/chunk/#", &tenant, &device));
        for bad in [
            "whimbrel/v1/acme/cam-1/#",
            "whimbrel/v1/acme/cam-1/+",
            "whimbrel/v1/acme/cam-1/chunk",
            "whimbrel/v1/acme/cam-1/chunk/",
            "whimbrel/v1/acme/cam-1/chunk/+/+",
            "whimbrel/v1/acme/cam-1/chunk/++",
            "whimbrel/v1/acme/cam-12/chunk/+",
            "whimbrel/v1/+/cam-1/chunk/+",
            "whimbrel/v1/acme/+/chunk/+",
            "#",
        ] {
            assert!(!is_chunks_filter(bad, &tenant, &device), "{bad}");
        }
    }
}

//! MQTT 5 topic names. A device may publish and subscribe only below its own prefix.

use crate::id::{DeviceId, TenantId};
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
}

impl Leaf {
    /// Every leaf.
    pub const ALL: [Self; 5] = [Self::Desired, Self::Ack, Self::Report, Self::Status, Self::Telemetry];

    /// The last level of the topic.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Desired => "desired",
            Self::Ack => "ack",
            Self::Report => "report",
            Self::Status => "status",
            Self::Telemetry => "telemetry",
        }
    }

    /// Whether the device is the one who publishes here; otherwise the server is.
    #[must_use]
    pub const fn from_device(self) -> bool {
        matches!(self, Self::Report | Self::Status | Self::Telemetry)
    }
}

/// One device's topic: `whimbrel/v1/{tenant}/{device}/{leaf}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// The tenant level.
    pub tenant: TenantId,
    /// The device level.
    pub device: DeviceId,
    /// The last level.
    pub leaf: Leaf,
}

impl Topic {
    /// Reads a topic name; `None` when it is not one of ours.
    #[must_use]
    pub fn parse(topic: &str) -> Option<Self> {
        let mut levels = topic.strip_prefix("whimbrel/v1/")?.split('/');
        let tenant = levels.next()?.parse().ok()?;
        let device = levels.next()?.parse().ok()?;
        let last = levels.next()?;
        let leaf = Leaf::ALL.into_iter().find(|l| l.as_str() == last)?;
        levels.next().is_none().then_some(Self { tenant, device, leaf })
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "whimbrel/v1/{}/{}/{}", self.tenant, self.device, self.leaf.as_str())
    }
}

/// The filter by which a server hears one leaf of every device: `whimbrel/v1/+/+/{leaf}`.
#[must_use]
pub fn filter_all(leaf: Leaf) -> String {
    format!("whimbrel/v1/+/+/{}", leaf.as_str())
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
        ] {
            assert_eq!(Topic::parse(bad), None, "{bad}");
        }
    }
}

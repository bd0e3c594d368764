//! Who may say and hear what. Pure, and the same whatever broker enforces it.

use super::Address;
use whimbrel_wire::topic::{Leaf, Topic};

/// Where a device may publish: the leaf, when `topic` is one of its own outgoing topics.
pub(crate) fn publish(who: &Address, topic: &str) -> Option<Leaf> {
    own(who, topic).filter(|leaf| leaf.from_device())
}

/// What a device may hear: only the exact topics meant for it; no wildcard, no shared subscription.
pub(crate) fn subscribe(who: &Address, filter: &str) -> Option<Leaf> {
    own(who, filter).filter(|leaf| !leaf.from_device())
}

/// Whether a last will may stand: brokers publish it without asking the publish rule.
pub(crate) fn last_will(who: &Address, topic: &str) -> bool {
    own(who, topic) == Some(Leaf::Status)
}

/// Reads names and serial of a certificate into an address; `None` when the client id is another than the common name.
pub(crate) fn identify(
    client_id: &str,
    common_name: Option<&str>,
    organisation: Option<&str>,
) -> Option<Address> {
    let who = Address { tenant: organisation?.parse().ok()?, device: common_name?.parse().ok()? };
    (client_id == who.device.as_str()).then_some(who)
}

fn own(who: &Address, topic: &str) -> Option<Leaf> {
    let topic = Topic::parse(topic)?;
    (topic.tenant == who.tenant && topic.device == who.device).then_some(topic.leaf)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who() -> Address {
        identify("cam-1", Some("cam-1"), Some("acme")).expect("valid")
    }

    #[test]
    fn a_device_publishes_only_its_own_outgoing_topics() {
        let who = who();
        assert_eq!(publish(&who, "whimbrel/v1/acme/cam-1/report"), Some(Leaf::Report));
        assert_eq!(publish(&who, "whimbrel/v1/acme/cam-1/telemetry"), Some(Leaf::Telemetry));
        for refused in [
            "whimbrel/v1/acme/cam-2/report",
            "whimbrel/v1/other/cam-1/report",
            "whimbrel/v1/acme/cam-1/desired",
            "whimbrel/v1/acme/cam-1/ack",
            "whimbrel/v1/acme/cam-1/report/x",
            "$SYS/brokers",
            "",
        ] {
            assert_eq!(publish(&who, refused), None, "{refused}");
        }
    }

    #[test]
    fn a_device_hears_only_what_is_meant_for_it() {
        let who = who();
        assert_eq!(subscribe(&who, "whimbrel/v1/acme/cam-1/desired"), Some(Leaf::Desired));
        for refused in [
            "whimbrel/v1/acme/cam-2/desired",
            "whimbrel/v1/acme/+/desired",
            "whimbrel/v1/acme/cam-1/#",
            "whimbrel/v1/acme/cam-1/telemetry",
            "$share/g/whimbrel/v1/acme/cam-1/desired",
            "#",
        ] {
            assert_eq!(subscribe(&who, refused), None, "{refused}");
        }
    }

    #[test]
    fn a_last_will_stands_only_on_the_own_status() {
        let who = who();
        assert!(last_will(&who, "whimbrel/v1/acme/cam-1/status"));
        assert!(!last_will(&who, "whimbrel/v1/acme/cam-2/status"));
        assert!(!last_will(&who, "whimbrel/v1/acme/cam-1/telemetry"));
    }

    #[test]
    fn the_client_id_must_be_the_common_name() {
        assert!(identify("cam-2", Some("cam-1"), Some("acme")).is_none());
        assert!(identify("", Some(""), Some("acme")).is_none());
        assert!(identify("cam-1", Some("cam-1"), None).is_none());
        assert!(identify("cam-1", None, Some("acme")).is_none());
    }
}

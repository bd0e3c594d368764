//! Who may say and hear what. Pure, and the same whatever broker enforces it.

use super::Address;
use whimbrel_wire::topic::{Leaf, Topic, is_chunks_filter};

/// Where a device may publish: the leaf, when `topic` is one of its own outgoing topics.
pub(crate) fn publish(who: &Address, topic: &str) -> Option<Leaf> {
    own(who, topic).filter(|leaf| leaf.from_device())
}

/// What a device may hear: only the exact topics meant for it, and all of its chunks; no other wildcard, no shared subscription.
pub(crate) fn subscribe(who: &Address, filter: &str) -> bool {
    own(who, filter).is_some_and(|leaf| !leaf.from_device())
        || is_chunks_filter(filter, &who.tenant, &who.device)
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
        assert_eq!(publish(&who, "whimbrel/v1/acme/cam-1/chunk/get"), Some(Leaf::ChunkGet));
        let chunk = format!("whimbrel/v1/acme/cam-1/chunk/{}", "ab".repeat(32));
        for refused in [
            &chunk,
            "whimbrel/v1/acme/cam-2/chunk/get",
            "whimbrel/v1/acme/cam-1/chunk",
            "whimbrel/v1/acme/cam-1/chunk/get/x",
            "whimbrel/v1/acme/cam-1/file",
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
        let chunk = format!("whimbrel/v1/acme/cam-1/chunk/{}", "ab".repeat(32));
        for heard in ["desired", "ack", "file", "chunk/+", "chunk/#"] {
            assert!(subscribe(&who, &format!("whimbrel/v1/acme/cam-1/{heard}")), "{heard}");
        }
        assert!(subscribe(&who, &chunk));
        for refused in [
            "whimbrel/v1/acme/cam-2/desired",
            "whimbrel/v1/acme/+/desired",
            "whimbrel/v1/acme/cam-1/#",
            "whimbrel/v1/acme/cam-1/+",
            "whimbrel/v1/acme/cam-1/+/get",
            "whimbrel/v1/acme/cam-1/chunk/get",
            "whimbrel/v1/acme/cam-1/chunk/+/+",
            "whimbrel/v1/acme/cam-2/chunk/+",
            "whimbrel/v1/acme/cam-2/chunk/#",
            "whimbrel/v1/acme/+/chunk/+",
            "whimbrel/v1/+/cam-1/chunk/#",
            "$share/g/whimbrel/v1/acme/cam-1/chunk/+",
            "whimbrel/v1/acme/cam-1/telemetry",
            "$share/g/whimbrel/v1/acme/cam-1/desired",
            "#",
        ] {
            assert!(!subscribe(&who, refused), "{refused}");
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

//! Retained messages of the embedded broker, whose own store for them does nothing.
//!
//! Held in memory only: the server publishes every desired state again when it starts. A device can make the broker keep
//! nothing, whatever flags it sends, because only the server's topics are stored; the one subscription with a wildcard (see
//! [`super::acl`]) is for topics that are never retained, so an exact lookup is enough.

use async_trait::async_trait;
use rmqtt::{
    retain::RetainStorage,
    types::{Retain, TopicFilter, TopicName},
};
use std::{collections::HashMap, sync::RwLock, time::Duration};
use whimbrel_wire::topic::Topic;

/// Retained messages by topic.
#[derive(Default)]
pub(super) struct Retained {
    messages: RwLock<HashMap<TopicName, Retain>>,
}

impl Retained {
    fn len(&self) -> isize {
        let len = self.messages.read().map_or(0, |m| m.len());
        isize::try_from(len).unwrap_or(isize::MAX)
    }
}

#[async_trait]
impl RetainStorage for Retained {
    fn enable(&self) -> bool {
        true
    }

    async fn set(&self, topic: &TopicName, retain: Retain, _expiry: Option<Duration>) -> rmqtt::Result<()> {
        if Topic::parse(topic).is_none_or(|t| t.leaf.from_device()) {
            return Ok(());
        }
        let mut messages = self.messages.write().map_err(|_| poisoned())?;
        if retain.publish.payload.is_empty() {
            messages.remove(topic);
        } else {
            messages.insert(topic.clone(), retain);
        }
        Ok(())
    }

    async fn get(&self, filter: &TopicFilter) -> rmqtt::Result<Vec<(TopicName, Retain)>> {
        let messages = self.messages.read().map_err(|_| poisoned())?;
        Ok(messages.get(filter).map(|r| (filter.clone(), r.clone())).into_iter().collect())
    }

    async fn count(&self) -> isize {
        self.len()
    }

    async fn max(&self) -> isize {
        self.len()
    }
}

fn poisoned() -> rmqtt::Error {
    rmqtt::Error::msg("retained messages: a task panicked while it held them")
}

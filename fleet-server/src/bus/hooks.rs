//! What the embedded broker asks us about each connection and message.
//!
//! The broker calls its publish hook *before* it checks permission, so messages are taken over in the permission check
//! itself, after our own rule has allowed them. Waiting there for room in the queue slows down that one connection only.

use super::{Address, Admission, Event, Incoming, acl};
use async_trait::async_trait;
use rmqtt::{
    codec::v5::SubscribeAckReason,
    hook::{Handler, HookResult, Parameter, ReturnType},
    session::Session,
    types::{AuthResult, ConnectInfo, LastWill, Publish, PublishAclResult, Subscribe, SubscribeAclResult},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use tokio::sync::mpsc;
use whimbrel_wire::TenantId;

/// Connections by device. The token tells a connection from the one that took over from it, whose end comes later.
pub(super) type Online = Arc<Mutex<HashMap<Address, i64>>>;

/// One handler for every hook.
#[derive(Clone)]
pub(super) struct Hooks {
    pub(super) admission: Arc<dyn Admission>,
    pub(super) incoming: mpsc::Sender<Incoming>,
    pub(super) online: Online,
    pub(super) tenant: TenantId,
}

#[async_trait]
impl Handler for Hooks {
    async fn hook(&self, parameter: &Parameter, before: Option<HookResult>) -> ReturnType {
        match parameter {
            Parameter::ClientAuthenticate(connect) => {
                let result = if self.authenticate(connect).await {
                    AuthResult::Allow(false, None)
                } else {
                    AuthResult::NotAuthorized
                };
                (false, Some(HookResult::AuthResult(result)))
            }
            Parameter::ClientConnected(session) => {
                self.connected(session).await;
                (true, before)
            }
            Parameter::ClientDisconnected(session, _) => {
                self.disconnected(session).await;
                (true, before)
            }
            Parameter::MessagePublishCheckAcl(session, publish) => {
                let result = self.published(session, publish).await;
                (false, Some(HookResult::PublishAclResult(result)))
            }
            Parameter::ClientSubscribeCheckAcl(session, subscribe) => {
                let result = self.subscribes(session, subscribe);
                (false, Some(HookResult::SubscribeAclResult(result)))
            }
            _ => (true, before),
        }
    }
}

impl Hooks {
    async fn authenticate(&self, connect: &ConnectInfo) -> bool {
        let ConnectInfo::V5(id, _) = connect else { return false };
        let Some(cert) = connect.cert() else { return false };
        let Some(who) =
            acl::identify(&id.client_id, cert.common_name.as_deref(), cert.organization.as_deref())
        else {
            return false;
        };
        let will_allowed = match connect.last_will() {
            None => true,
            Some(LastWill::V5(will)) => acl::last_will(&who, &will.topic),
            Some(LastWill::V3(_)) => false,
        };
        let Some(serial) = &cert.serial else { return false };
        // The broker knows sessions by client id alone, so one broker serves one tenant.
        will_allowed && who.tenant == self.tenant && self.admission.admits(&who, serial).await
    }

    async fn connected(&self, session: &Session) {
        let Some(who) = self.address(session) else { return };
        if let Ok(mut online) = self.online.lock() {
            online.insert(who.clone(), session.id.create_time);
        }
        self.hand_over(who, Event::Up).await;
    }

    async fn disconnected(&self, session: &Session) {
        let Some(who) = self.address(session) else { return };
        let was_last = self.online.lock().is_ok_and(|mut online| {
            let last = online.get(&who) == Some(&session.id.create_time);
            if last {
                online.remove(&who);
            }
            last
        });
        if was_last {
            self.hand_over(who, Event::Down).await;
        }
    }

    async fn published(&self, session: &Session, publish: &Publish) -> PublishAclResult {
        let Some(who) = self.address(session) else { return PublishAclResult::rejected(true, None) };
        let Some(leaf) = acl::publish(&who, &publish.topic) else {
            let reason =
                "a device publishes report, status, telemetry and chunk/get below its own prefix only";
            return PublishAclResult::rejected(false, Some(reason.into()));
        };
        self.hand_over(who, Event::Message { leaf, body: publish.payload.clone() }).await;
        PublishAclResult::allow()
    }

    fn subscribes(&self, session: &Session, subscribe: &Subscribe) -> SubscribeAclResult {
        let allowed = self.address(session).is_some_and(|who| acl::subscribe(&who, &subscribe.topic_filter));
        if allowed && subscribe.opts.shared_group().is_none() {
            SubscribeAclResult::new_success(subscribe.opts.qos(), None)
        } else {
            SubscribeAclResult::new_failure(SubscribeAckReason::NotAuthorized)
        }
    }

    /// The client id was checked against the certificate when the connection was made.
    fn address(&self, session: &Session) -> Option<Address> {
        let device = session.id.client_id.parse().ok()?;
        Some(Address { tenant: self.tenant.clone(), device })
    }

    async fn hand_over(&self, from: Address, event: Event) {
        // An error means that the server is stopping.
        let _ = self.incoming.send(Incoming { from, event }).await;
    }
}

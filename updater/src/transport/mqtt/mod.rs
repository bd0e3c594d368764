//! Files over the MQTT connection that the device has anyway, where HTTPS is blocked.
//!
//! This crate knows no MQTT client: whoever holds the connection publishes what [`MqttPort::next`] gives, and hands in what
//! comes back. Everything is decided in [`exchange`].

mod exchange;
mod request;

use super::{Transport, TransportError, backoff::random_share};
use crate::tuf::Source;
use bytes::Bytes;
use exchange::{Ended, Exchange};
use request::Outcome;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};
use whimbrel_wire::{
    DecodeError, Digest, decode,
    transfer::{Get, Item, Part},
};

/// A transport, and the port through which it is connected.
#[must_use]
pub fn mqtt() -> (Mqtt, MqttPort) {
    // Without randomness an answer to an earlier process could be taken for one to this: it would be found to be wrong.
    let first_id = getrandom::u64().unwrap_or_default();
    let exchange = Exchange::new(first_id, random_share, Instant::now());
    let state = State { exchange, waiting: HashMap::new(), closed: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() });
    (Mqtt(Arc::clone(&shared)), MqttPort(shared))
}

/// Fetches over MQTT: a window of pieces at a time, each asked for again a few times where it does not come.
#[derive(Clone)]
pub struct Mqtt(Arc<Shared>);

/// The other end of a [`Mqtt`]: for whoever holds the connection. Without it nothing is fetched.
pub struct MqttPort(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// There may be something to send, or another time to wait for.
    changed: Notify,
}

struct State {
    exchange: Exchange,
    waiting: HashMap<u64, oneshot::Sender<Outcome>>,
    /// The port is gone.
    closed: bool,
}

impl MqttPort {
    /// The connection is there, and subscribed to what the server sends.
    pub fn connected(&self) {
        self.0.change(Exchange::connected);
    }

    /// The connection broke.
    pub fn disconnected(&self) {
        self.0.change(Exchange::disconnected);
    }

    /// Hands in the body of a message that came for the transport.
    ///
    /// # Errors
    /// When it is none: it was ignored.
    pub fn answer(&self, body: &[u8]) -> Result<(), DecodeError> {
        let part: Part = decode(body)?;
        self.0.change(|exchange, now| exchange.answer(part, now));
        Ok(())
    }

    /// What to publish next. May be given up at any time and called again: while it is not awaited nothing is asked for, and
    /// no request times out.
    pub async fn next(&self) -> Get {
        loop {
            let deadline = {
                let (mut state, now) = (self.0.lock(), Instant::now());
                let ended = state.exchange.tick(now);
                state.settle(ended);
                if let Some(get) = state.exchange.take_due(now) {
                    return get;
                }
                state.exchange.deadline(now)
            };
            let late = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = late => {}
            }
        }
    }
}

impl Drop for MqttPort {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        // Their requests see that there is no answer to come.
        state.waiting.clear();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets something happen, tells those whose requests it ended, and has it looked at what is to be sent now.
    fn change(&self, happen: impl FnOnce(&mut Exchange, Instant) -> Ended) {
        let mut state = self.lock();
        let ended = happen(&mut state.exchange, Instant::now());
        state.settle(ended);
        drop(state);
        self.changed.notify_one();
    }
}

impl State {
    fn settle(&mut self, ended: Ended) {
        for (id, outcome) in ended {
            if let Some(waiting) = self.waiting.remove(&id) {
                // One that was given up in this moment needs no answer.
                let _ = waiting.send(outcome);
            }
        }
    }
}

impl Mqtt {
    async fn get(&self, item: Item, size_bytes_max: u64) -> Outcome {
        let (answer, _begun) = self.begin(item, size_bytes_max)?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    fn begin(
        &self,
        item: Item,
        size_bytes_max: u64,
    ) -> Result<(oneshot::Receiver<Outcome>, Begun<'_>), TransportError> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(closed());
        }
        let id = state.exchange.begin(item, size_bytes_max, Instant::now())?;
        let (waiting, answer) = oneshot::channel();
        state.waiting.insert(id, waiting);
        drop(state);
        self.0.changed.notify_one();
        Ok((answer, Begun { shared: &self.0, id }))
    }
}

/// A request under way; dropped early, it is given up and makes room for others.
struct Begun<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.exchange.cancel(self.id);
        state.waiting.remove(&self.id);
        drop(state);
        self.shared.changed.notify_one();
    }
}

impl Source for Mqtt {
    async fn metadata(&self, file: &str, size_bytes_max: u64) -> Result<Option<Bytes>, TransportError> {
        match self.get(Item::Metadata { file: file.to_owned() }, size_bytes_max).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(TransportError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl Transport for Mqtt {
    async fn target(&self, file: &str, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        self.get(Item::Target { file: file.to_owned() }, size_bytes_max).await
    }

    async fn chunk(&self, stored: Digest, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        self.get(Item::Chunk { stored }, size_bytes_max).await
    }
}

fn closed() -> TransportError {
    TransportError::Unavailable {
        what: "over MQTT".into(),
        why: "the connection to the fleet was ended".into(),
        retry_after: None,
    }
}

impl fmt::Debug for Mqtt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mqtt").finish_non_exhaustive()
    }
}

impl fmt::Debug for MqttPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MqttPort").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

//! HTTPS polling: the same messages where MQTT is blocked, broken or not wanted.

use super::{Link, MqttState, desired::Taken, stopped, upload::named};
use crate::{config::Transport, failure::chain};
use reqwest::{
    Client, RequestBuilder, Response, StatusCode,
    header::{CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use whimbrel_updater::transport::Backoff;
use whimbrel_wire::{Message, decode, desired::DesiredState, telemetry::Ack};

/// Longest time for one call.
const CALL: Duration = Duration::from_secs(60);
/// Time between polls before the server has said how long it is to be.
const POLL_FIRST: Duration = Duration::from_secs(10);
/// Shortest time between two rounds, whatever there is to tell.
const ROUND_MIN: Duration = Duration::from_secs(1);
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(60) };

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("no answer")]
    Network(#[from] reqwest::Error),
    #[error("the server answered {status}: {text}")]
    Status { status: StatusCode, text: String },
    #[error("the answer is longer than the {0} bytes accepted")]
    TooLarge(usize),
    #[error("the answer was not understood")]
    Decode(#[from] whimbrel_wire::DecodeError),
}

/// Polls, where polling is wanted, until `stop` turns true.
pub(super) async fn run(link: Arc<Link>, client: Client, mut stop: watch::Receiver<bool>) {
    let mut poller = Poller { link: Arc::clone(&link), client, etag: None, reported: None };
    let mut mqtt = link.mqtt.subscribe();
    let mut changes = link.reporter.changes();
    let mut failures = 0u32;
    loop {
        tokio::select! {
            () = wanted(link.settings.transport, &mut mqtt) => {}
            () = stopped(&mut stop) => return,
        }
        let changed = changes.has_changed().unwrap_or(false) || failures > 0;
        changes.mark_unchanged();
        let round = tokio::select! {
            round = poller.round(changed) => round,
            () = stopped(&mut stop) => return,
        };
        let pause = match round {
            Ok(()) => {
                failures = 0;
                poller.pause()
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::debug!(error = %chain(&error), failures, "polling failed");
                BACKOFF.jittered(failures).max(ROUND_MIN)
            }
        };
        let news = async {
            tokio::time::sleep(ROUND_MIN).await;
            tokio::select! {
                Ok(()) = changes.changed() => {}
                () = link.stored() => {}
            }
            // `changed` takes note of the change; the round must still see it.
            changes.mark_changed();
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = news, if failures == 0 => {}
            () = stopped(&mut stop) => return,
        }
    }
}

/// Waits until polling is wanted: always, or while MQTT is down.
async fn wanted(transport: Transport, mqtt: &mut watch::Receiver<MqttState>) {
    if transport == Transport::Auto {
        // The sender lives in the link, as long as this.
        let _ = mqtt.wait_for(|state| *state == MqttState::Down).await;
    }
}

struct Poller {
    link: Arc<Link>,
    client: Client,
    /// Of the desired state that was taken last.
    etag: Option<HeaderValue>,
    /// When a report was taken last.
    reported: Option<Instant>,
}

impl Poller {
    /// Says and asks everything once.
    async fn round(&mut self, changed: bool) -> Result<(), CallError> {
        self.desired().await?;
        let due = self.reported.is_none_or(|at| at.elapsed() >= self.link.settings.report_every);
        if changed || due {
            self.report().await?;
        }
        self.upload().await
    }

    fn pause(&self) -> Duration {
        let asked = self.link.inbox.poll_s().map_or(POLL_FIRST, |s| Duration::from_secs(s.into()));
        asked.min(self.link.settings.poll_max).max(ROUND_MIN)
    }

    async fn desired(&mut self) -> Result<(), CallError> {
        let mut request = self.client.get(self.url("desired"));
        if let Some(etag) = &self.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let response = match send(request).await {
            Err(CallError::Status { status: StatusCode::NOT_FOUND, .. }) => return Ok(()),
            other => other?,
        };
        if response.status() == StatusCode::NOT_MODIFIED || response.status() == StatusCode::NO_CONTENT {
            return Ok(());
        }
        let etag = response.headers().get(ETAG).cloned();
        let bytes = body(response, DesiredState::SIZE_BYTES_MAX).await?;
        let inbox = Arc::clone(&self.link.inbox);
        match tokio::task::spawn_blocking(move || inbox.take(&bytes)).await {
            Ok(Taken::Bad(why)) => {
                tracing::warn!(why, "a desired state was not understood");
                return Ok(());
            }
            Ok(Taken::New { serial }) => {
                tracing::info!(serial, "a new desired state, by polling");
                self.reported = None;
            }
            Ok(taken) => tracing::debug!(?taken, "a desired state"),
            Err(error) => tracing::error!(%error, "taking a desired state failed"),
        }
        self.etag = etag;
        Ok(())
    }

    async fn report(&mut self) -> Result<(), CallError> {
        if let Some(bytes) = self.link.reporter.report(self.link.inbox.serial()) {
            self.post("report", bytes).await?;
        }
        self.reported = Some(Instant::now());
        Ok(())
    }

    /// Sends batches, oldest first, one at a time, until none is left.
    async fn upload(&self) -> Result<(), CallError> {
        let mut first = None;
        loop {
            let pending = self.link.pending().await;
            // The same ones again: they could not be removed, and are not to be sent in circles.
            let next = pending.first().map(|(id, _)| *id);
            if next.is_none() || next == first {
                return Ok(());
            }
            first = next;
            for (id, bytes) in pending {
                let answer = body(self.post("telemetry", bytes).await?, Ack::SIZE_BYTES_MAX).await?;
                let ids = named(&decode::<Ack>(&answer)?);
                if !ids.contains(&id) {
                    // Asking again at once would ask for ever.
                    tracing::warn!(
                        boot = id.boot,
                        sequence = id.sequence,
                        "the server did not store a batch"
                    );
                    return Ok(());
                }
                self.link.acknowledge(ids).await;
            }
        }
    }

    async fn post(&self, leaf: &str, bytes: Vec<u8>) -> Result<Response, CallError> {
        send(self.client.post(self.url(leaf)).header(CONTENT_TYPE, "application/cbor").body(bytes)).await
    }

    fn url(&self, leaf: &str) -> String {
        format!("{}/api/v1/device/{leaf}", self.link.settings.url)
    }
}

async fn send(request: RequestBuilder) -> Result<Response, CallError> {
    let response = request.timeout(CALL).send().await?;
    let status = response.status();
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        return Ok(response);
    }
    let text = body(response, 4096).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).chars().filter(|c| !c.is_control()).take(300).collect();
    Err(CallError::Status { status, text })
}

async fn body(mut response: Response, size_bytes_max: usize) -> Result<Vec<u8>, CallError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if bytes.len() + chunk.len() > size_bytes_max {
            return Err(CallError::TooLarge(size_bytes_max));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

//! The fleet server's HTTPS paths.

use super::{Backoff, Transport, TransportError};
use crate::tuf::Source;
use bytes::{Bytes, BytesMut};
use reqwest::{Client, Response, StatusCode, header::RETRY_AFTER};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use whimbrel_wire::Digest;

/// Tries of one file before the failure is passed on.
const TRIES_MAX: u32 = 3;
/// Longest wait for an answer to begin.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest wait for a whole body: this, and a second for each [`SLOWEST_BYTES_PER_S`] that may come.
const BODY: Duration = Duration::from_secs(60);
/// A connection slower than this is given up.
const SLOWEST_BYTES_PER_S: u64 = 1024;
/// Longest wait that a server can ask for within one call.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// Fetches metadata, targets and chunks below three addresses.
#[derive(Debug, Clone)]
pub struct Https {
    client: Client,
    metadata: String,
    targets: String,
    chunks: String,
    backoff: Backoff,
}

impl Https {
    /// `base` is the server's address, e.g. `https://fleet.example:8443`. The client brings its own TLS settings.
    #[must_use]
    pub fn new(client: Client, base: &str) -> Self {
        let base = base.trim_end_matches('/');
        Self {
            chunks: format!("{base}/chunks"),
            ..Self::plain(client, &format!("{base}/tuf"), &format!("{base}/tuf/targets"))
        }
    }

    /// A plain TUF repository: metadata below one address, targets below another, no chunks.
    #[must_use]
    pub fn plain(client: Client, metadata: &str, targets: &str) -> Self {
        let backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(10) };
        let base = |text: &str| text.trim_end_matches('/').to_owned();
        Self { client, metadata: base(metadata), targets: base(targets), chunks: String::new(), backoff }
    }

    /// Fetches `what`, again a few times while that may help.
    async fn get(&self, what: &str, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        let mut tries = 1;
        loop {
            let failure = match self.get_once(what, size_bytes_max).await {
                Ok(bytes) => return Ok(bytes),
                Err(e) if !e.is_temporary() || tries == TRIES_MAX => return Err(e),
                Err(e) => e,
            };
            let asked = match &failure {
                TransportError::Unavailable { retry_after, .. } => retry_after.unwrap_or_default(),
                _ => Duration::ZERO,
            };
            tracing::debug!(%failure, tries, "will try again");
            sleep(self.backoff.jittered(tries).max(asked.min(RETRY_AFTER_MAX))).await;
            tries += 1;
        }
    }

    async fn get_once(&self, what: &str, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        let late = |why: &str| unavailable(what, why, None);
        let sent = timeout(ANSWER, self.client.get(what).send());
        let answer = sent.await.map_err(|_| late("no answer in time"))?;
        let answer = answer.map_err(|e| unavailable(what, &chain(&e), None))?;
        let answer = accepted(what, answer)?;
        let limit = BODY + Duration::from_secs(size_bytes_max / SLOWEST_BYTES_PER_S);
        timeout(limit, body(what, answer, size_bytes_max)).await.map_err(|_| late("too slow"))?
    }
}

impl Source for Https {
    async fn metadata(&self, file: &str, size_bytes_max: u64) -> Result<Option<Bytes>, TransportError> {
        match self.get(&format!("{}/{file}", self.metadata), size_bytes_max).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(TransportError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl Transport for Https {
    async fn target(&self, file: &str, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        self.get(&format!("{}/{}", self.targets, escaped(file)), size_bytes_max).await
    }

    async fn chunk(&self, stored: Digest, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        self.get(&format!("{}/{stored}", self.chunks), size_bytes_max).await
    }
}

/// The answer, if its status says that the file follows.
fn accepted(what: &str, answer: Response) -> Result<Response, TransportError> {
    let status = answer.status();
    let what = what.to_owned();
    match status {
        StatusCode::OK => Ok(answer),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(TransportError::NotFound { what }),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            Err(unavailable(&what, &format!("status {status}"), retry_after(&answer)))
        }
        _ if status.is_server_error() => {
            Err(unavailable(&what, &format!("status {status}"), retry_after(&answer)))
        }
        _ => Err(TransportError::Refused { what, why: format!("status {status}") }),
    }
}

/// Reads the body, never holding more than is accepted.
async fn body(what: &str, mut answer: Response, size_bytes_max: u64) -> Result<Bytes, TransportError> {
    let too_large = || TransportError::TooLarge { what: what.to_owned(), size_bytes_max };
    if answer.content_length().is_some_and(|length| length > size_bytes_max) {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    while let Some(part) = answer.chunk().await.map_err(|e| unavailable(what, &chain(&e), None))? {
        if (whole.len() + part.len()) as u64 > size_bytes_max {
            return Err(too_large());
        }
        whole.extend_from_slice(&part);
    }
    Ok(whole.freeze())
}

fn unavailable(what: &str, why: &str, retry_after: Option<Duration>) -> TransportError {
    TransportError::Unavailable { what: what.to_owned(), why: why.to_owned(), retry_after }
}

fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// An error with its causes in one line; reqwest itself names only the outermost.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Percent-encodes all that is not plain in a path; slashes stay.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests;

//! The fleet server's HTTPS paths.

mod answer;
mod failure;
mod pace;
mod sink;

pub use sink::{FetchError, Sink};

use super::{Backoff, Transport, TransportError};
use crate::tuf::Source;
use answer::{Verdict, judge};
use bytes::{Bytes, BytesMut};
use failure::{failed, unavailable};
use pace::{Pace, Watch};
use reqwest::{Client, Response, Url, header::RANGE};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};
use whimbrel_wire::Digest;

/// Tries of one file before the failure is passed on.
const TRIES_MAX: u32 = 3;
/// Longest wait for an answer to begin.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest wait that is sat out within one call. A server that asks for more is left alone so long, and calls fail meanwhile.
const SAT_OUT_MAX: Duration = Duration::from_secs(30);
/// Longest time that a server can ask to be left alone for.
const QUIET_MAX: Duration = Duration::from_secs(3600);

/// Fetches metadata, targets and chunks below three addresses.
///
/// What comes from another scheme, host or port than was asked is not taken, whatever the client does about redirects: no file of ours
/// is elsewhere, and a network that wants a login first answers with one.
#[derive(Debug, Clone)]
pub struct Https {
    client: Client,
    metadata: String,
    targets: String,
    chunks: String,
    backoff: Backoff,
    tries_max: u32,
    pace: Pace,
    /// Until when the server asked to be left alone.
    quiet: Arc<Mutex<Option<Instant>>>,
}

/// Whether a file may be asked for in parts: one that is named by its hash is the same each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Immutable,
    Changing,
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

    /// Passes the first failure on: for use where another transport takes over (see [`super::Switching`]).
    #[must_use]
    pub const fn trying_once(mut self) -> Self {
        self.tries_max = 1;
        self
    }

    /// A plain TUF repository: metadata below one address, targets below another, no chunks.
    #[must_use]
    pub fn plain(client: Client, metadata: &str, targets: &str) -> Self {
        let backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(10) };
        let base = |text: &str| text.trim_end_matches('/').to_owned();
        Self {
            client,
            metadata: base(metadata),
            targets: base(targets),
            chunks: String::new(),
            backoff,
            tries_max: TRIES_MAX,
            pace: Pace::SLOWEST,
            quiet: Arc::default(),
        }
    }

    /// With another pace, and hardly a pause between tries.
    #[cfg(test)]
    pub(crate) fn for_test(self, window: Duration, bytes_min: u64) -> Self {
        let backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(1) };
        Self { pace: Pace { window, bytes_min }, backoff, ..self }
    }

    /// Fetches a target into a sink. Where a connection breaks, the rest alone is asked for: that the whole is one file, its signed
    /// hash has to say, as always.
    ///
    /// # Errors
    /// When it could not be had whole, is longer than `size_bytes_max`, or the sink does not take it.
    pub async fn target_into<S: Sink>(
        &self,
        file: &str,
        size_bytes_max: u64,
        sink: &mut S,
    ) -> Result<(), FetchError<S::Error>> {
        self.fetch(&self.target_address(file), size_bytes_max, Kind::Immutable, sink).await
    }

    fn target_address(&self, file: &str) -> String {
        format!("{}/{}", self.targets, escaped(file))
    }

    /// Fetches `what` into memory.
    async fn get(&self, what: &str, size_bytes_max: u64, kind: Kind) -> Result<Bytes, TransportError> {
        let mut have = BytesMut::new();
        match self.fetch(what, size_bytes_max, kind, &mut have).await {
            Ok(()) => Ok(have.freeze()),
            Err(FetchError::Transport(e)) => Err(e),
            Err(FetchError::Sink(never)) => match never {},
        }
    }

    /// Fetches `what`, again a few times while that may help. What came before a connection broke is not asked for again.
    async fn fetch<S: Sink>(
        &self,
        what: &str,
        size_bytes_max: u64,
        kind: Kind,
        sink: &mut S,
    ) -> Result<(), FetchError<S::Error>> {
        let mut tries = 1;
        loop {
            self.is_welcome(what)?;
            let failure = match self.fetch_once(what, size_bytes_max, sink).await {
                Err(FetchError::Transport(e)) if e.is_temporary() && tries < self.tries_max => e,
                end => return end,
            };
            if kind == Kind::Changing {
                sink.clear();
            }
            let asked = match &failure {
                TransportError::Unavailable { retry_after, .. } => retry_after.unwrap_or_default(),
                _ => Duration::ZERO,
            };
            if asked > SAT_OUT_MAX {
                self.leave_alone(asked.min(QUIET_MAX));
                return Err(failure.into());
            }
            tracing::debug!(%failure, tries, "will try again");
            sleep(self.backoff.jittered(tries).max(asked)).await;
            tries += 1;
        }
    }

    /// Adds to the sink what is missing of the file.
    async fn fetch_once<S: Sink>(
        &self,
        what: &str,
        size_bytes_max: u64,
        sink: &mut S,
    ) -> Result<(), FetchError<S::Error>> {
        let from = sink.has_bytes();
        let answer = self.ask(what, from).await?;
        match judge(answer.status(), answer.headers(), from) {
            Verdict::Rest => {}
            Verdict::Whole => sink.clear(),
            Verdict::Again => {
                sink.clear();
                return Err(unavailable(what, "the server does not give the rest", None).into());
            }
            Verdict::Absent => return Err(TransportError::NotFound { what: what.to_owned() }.into()),
            Verdict::Later { why, retry_after } => return Err(unavailable(what, &why, retry_after).into()),
            Verdict::Refused { why } => {
                return Err(TransportError::Refused { what: what.to_owned(), why }.into());
            }
        }
        self.body(what, answer, size_bytes_max, sink).await
    }

    /// The head of the answer to a request for all from a byte on.
    async fn ask(&self, what: &str, from: u64) -> Result<Response, TransportError> {
        let mut request = self.client.get(what);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let answer = timeout(ANSWER, request.send()).await;
        let answer = answer.map_err(|_| unavailable(what, "no answer in time", None))?;
        let answer = answer.map_err(|e| failed(what, &e))?;
        if !is_same_origin(what, answer.url()) {
            let why = format!("the answer came from {}, which is another place", answer.url());
            return Err(unavailable(what, &why, None));
        }
        Ok(answer)
    }

    /// Reads the body, never passing on more than is accepted, and no longer than its pace is.
    async fn body<S: Sink>(
        &self,
        what: &str,
        mut answer: Response,
        size_bytes_max: u64,
        sink: &mut S,
    ) -> Result<(), FetchError<S::Error>> {
        let too_large = || TransportError::TooLarge { what: what.to_owned(), size_bytes_max };
        let mut room_bytes = size_bytes_max.saturating_sub(sink.has_bytes());
        match answer.content_length() {
            Some(length) if length > room_bytes => return Err(too_large().into()),
            Some(length) => sink.expect(length).map_err(FetchError::Sink)?,
            None => {}
        }
        let (begun, mut watch) = (Instant::now(), Watch::new(self.pace));
        loop {
            let patience = watch.patience(begun.elapsed());
            let patience = patience.ok_or_else(|| unavailable(what, "it comes too slowly", None))?;
            let Ok(part) = timeout(patience, answer.chunk()).await else { continue };
            let Some(part) = part.map_err(|e| failed(what, &e))? else { return Ok(()) };
            room_bytes = room_bytes.checked_sub(part.len() as u64).ok_or_else(too_large)?;
            watch.came(part.len() as u64);
            sink.add(&part).map_err(FetchError::Sink)?;
        }
    }

    fn is_welcome(&self, what: &str) -> Result<(), TransportError> {
        let until = *self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(left) if !left.is_zero() => {
                let why = format!("the server asked to be left alone for {} s more", left.as_secs() + 1);
                Err(unavailable(what, &why, Some(left)))
            }
            _ => Ok(()),
        }
    }

    fn leave_alone(&self, so_long: Duration) {
        let until = Instant::now() + so_long;
        *self.quiet.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }
}

impl Source for Https {
    async fn metadata(&self, file: &str, size_bytes_max: u64) -> Result<Option<Bytes>, TransportError> {
        match self.get(&format!("{}/{file}", self.metadata), size_bytes_max, Kind::Changing).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(TransportError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl Transport for Https {
    async fn target(&self, file: &str, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        self.get(&self.target_address(file), size_bytes_max, Kind::Changing).await
    }

    async fn chunk(&self, stored: Digest, size_bytes_max: u64) -> Result<Bytes, TransportError> {
        self.get(&format!("{}/{stored}", self.chunks), size_bytes_max, Kind::Immutable).await
    }
}

/// Whether an answer came from where it was asked for.
fn is_same_origin(asked: &str, answered: &Url) -> bool {
    Url::parse(asked).is_ok_and(|asked| asked.origin() == answered.origin())
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

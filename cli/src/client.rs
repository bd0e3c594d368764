//! The fleet server's API as typed calls. Only HTTPS, only with the fleet's own CA.

use crate::{
    error::{Exit, Failure, chain},
    files,
};
use reqwest::{Method, StatusCode, Url};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{path::PathBuf, time::Duration};
use whimbrel_updater::repo::file_name;
use whimbrel_wire::{
    DeviceId, Digest,
    api::{
        DeviceView, Hashes, ModelView, NewRollout, NewToken, Problem, RepositoryView, RolloutPlan,
        RolloutView, TelemetrySummary, TokenCreated,
    },
};

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Longest operator's token.
const TOKEN_BYTES_MAX: u64 = 4096;
/// Longest time without a byte from the server.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Which fleet server, and as whom.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Connection {
    /// Address of the fleet server, `https://HOST:PORT`
    #[arg(long, env = "WHIMBREL_SERVER", value_name = "URL")]
    server: Option<String>,
    /// File with the operator's token
    #[arg(long, env = "WHIMBREL_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Certificate of the fleet's CA (PEM); no other CA is trusted
    #[arg(long, env = "WHIMBREL_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Connection {
    /// A client for this server; nothing is sent yet.
    ///
    /// # Errors
    /// Bad input when the address, the token file or the CA file is not usable.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let server = given(self.server.as_ref(), "--server", "WHIMBREL_SERVER")?;
        let token_file = given(self.token_file.as_ref(), "--token-file", "WHIMBREL_TOKEN_FILE")?;
        let ca = given(self.ca.as_ref(), "--ca", "WHIMBREL_CA")?;
        let token = String::from_utf8(files::read(token_file, TOKEN_BYTES_MAX)?)
            .map_err(|e| Failure::usage(format!("reading {}", token_file.display()), e))?;
        Client::new(server, token.trim().to_owned(), &files::read(ca, files::FILE_BYTES_MAX)?)
    }

    /// Whether a server was named.
    pub(crate) const fn is_given(&self) -> bool {
        self.server.is_some()
    }
}

fn given<'a, T>(value: Option<&'a T>, flag: &str, variable: &str) -> Result<&'a T, Failure> {
    value.ok_or_else(|| {
        Failure::usage("connecting to the fleet server", format!("{flag} was not given"))
            .hint(format!("give {flag}, or set {variable}"))
    })
}

/// A connection to one fleet server as one operator.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: String,
}

/// What an operator can do to a rollout that exists.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RolloutAction {
    Pause,
    Resume,
    Abort,
    Rollback,
}

impl RolloutAction {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Rollback => "rollback",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Devices {
    devices: Vec<DeviceView>,
}
#[derive(Serialize, Deserialize)]
struct Models {
    models: Vec<ModelView>,
}
#[derive(Serialize, Deserialize)]
struct Rollouts {
    rollouts: Vec<RolloutView>,
}
#[derive(Serialize, Deserialize)]
struct Summary {
    summary: Vec<TelemetrySummary>,
}

/// A request's body.
enum Body {
    Empty,
    Json(Vec<u8>),
    Bytes(Vec<u8>),
}

impl Client {
    /// A client for the server at `server` that trusts only the CA given.
    ///
    /// # Errors
    /// Bad input when the address is not `https://…` or the CA is no certificate.
    pub(crate) fn new(server: &str, token: String, ca_pem: &[u8]) -> Result<Self, Failure> {
        let attempted = || format!("using the server address {server:?}");
        let base = Url::parse(server).map_err(|e| Failure::usage(attempted(), e))?;
        if base.scheme() != "https" || base.host_str().is_none() {
            return Err(Failure::usage(attempted(), "not an https:// address")
                .hint("the operator's token only travels over TLS; give e.g. https://127.0.0.1:8443"));
        }
        let certificates = reqwest::Certificate::from_pem_bundle(ca_pem)
            .map_err(|e| Failure::usage("reading the CA certificate", chain(&e)))?;
        if certificates.is_empty() {
            return Err(Failure::usage("reading the CA certificate", "no certificate in the file"));
        }
        let http = reqwest::Client::builder()
            .tls_certs_only(certificates)
            .https_only(true)
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(SILENCE_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| Failure::usage("preparing TLS with the CA certificate", chain(&e)))?;
        Ok(Self { http, base, token })
    }

    /// State of the metadata repository.
    pub(crate) async fn repository(&self) -> Result<RepositoryView, Failure> {
        self.json(Method::GET, "/api/v1/repository", Body::Empty).await
    }

    /// Publishes `N.root.json`.
    pub(crate) async fn push_root(&self, root: Vec<u8>) -> Result<(), Failure> {
        self.call(Method::POST, "/api/v1/repository/root", Body::Bytes(root)).await.map(drop)
    }

    /// Publishes `N.targets.json`.
    pub(crate) async fn push_targets(&self, targets: Vec<u8>) -> Result<(), Failure> {
        self.call(Method::POST, "/api/v1/repository/targets", Body::Bytes(targets)).await.map(drop)
    }

    /// Publishes the metadata of a delegated role.
    pub(crate) async fn push_delegated(&self, role: &str, metadata: Vec<u8>) -> Result<(), Failure> {
        // One segment of the path, whatever is in the name.
        let path = format!("/api/v1/repository/delegated/{}", file_name(role, None));
        self.call(Method::POST, &path, Body::Bytes(metadata)).await.map(drop)
    }

    /// Uploads a bundle's index.
    pub(crate) async fn put_index(&self, sha256: &Digest, index: Vec<u8>) -> Result<(), Failure> {
        let path = format!("/api/v1/repository/targets/{sha256}");
        self.call(Method::PUT, &path, Body::Bytes(index)).await.map(drop)
    }

    /// Those of at most 10,000 chunks that the server lacks.
    pub(crate) async fn missing_chunks(&self, hashes: Vec<Digest>) -> Result<Vec<Digest>, Failure> {
        let body = json_body(&Hashes { hashes })?;
        let answer: Hashes = self.json(Method::POST, "/api/v1/repository/chunks/missing", body).await?;
        Ok(answer.hashes)
    }

    /// Uploads one chunk.
    pub(crate) async fn put_chunk(&self, sha256: &Digest, chunk: Vec<u8>) -> Result<(), Failure> {
        let path = format!("/api/v1/repository/chunks/{sha256}");
        self.call(Method::PUT, &path, Body::Bytes(chunk)).await.map(drop)
    }

    /// A public metadata file; `None` where the server has none of that name.
    pub(crate) async fn metadata(&self, file: &str) -> Result<Option<Vec<u8>>, Failure> {
        let (status, bytes) = self.send(Method::GET, &format!("/tuf/{file}"), Body::Empty).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(bytes)),
            status => Err(answer_failure(&format!("GET /tuf/{file}"), status, &bytes)),
        }
    }

    /// Every published model version.
    pub(crate) async fn models(&self) -> Result<Vec<ModelView>, Failure> {
        let answer: Models = self.json(Method::GET, "/api/v1/models", Body::Empty).await?;
        Ok(answer.models)
    }

    /// Makes a one-time enrolment token.
    pub(crate) async fn create_token(&self, new: &NewToken) -> Result<TokenCreated, Failure> {
        self.json(Method::POST, "/api/v1/enrollment-tokens", json_body(new)?).await
    }

    /// Every device.
    pub(crate) async fn devices(&self) -> Result<Vec<DeviceView>, Failure> {
        let answer: Devices = self.json(Method::GET, "/api/v1/devices", Body::Empty).await?;
        Ok(answer.devices)
    }

    /// One device.
    pub(crate) async fn device(&self, id: &DeviceId) -> Result<DeviceView, Failure> {
        self.json(Method::GET, &format!("/api/v1/devices/{id}"), Body::Empty).await
    }

    /// What a rollout would do; nothing is started.
    pub(crate) async fn plan_rollout(&self, new: &NewRollout) -> Result<RolloutPlan, Failure> {
        self.json(Method::POST, "/api/v1/rollouts/plan", json_body(new)?).await
    }

    /// Starts a rollout.
    pub(crate) async fn start_rollout(&self, new: &NewRollout) -> Result<RolloutView, Failure> {
        self.json(Method::POST, "/api/v1/rollouts", json_body(new)?).await
    }

    /// Every rollout, newest first.
    pub(crate) async fn rollouts(&self) -> Result<Vec<RolloutView>, Failure> {
        let answer: Rollouts = self.json(Method::GET, "/api/v1/rollouts", Body::Empty).await?;
        let mut rollouts = answer.rollouts;
        rollouts.sort_by_key(|r| std::cmp::Reverse(r.created_ms));
        Ok(rollouts)
    }

    /// One rollout.
    pub(crate) async fn rollout(&self, id: &str) -> Result<RolloutView, Failure> {
        let path = format!("/api/v1/rollouts/{}", rollout_id(id)?);
        self.json(Method::GET, &path, Body::Empty).await
    }

    /// Pauses, resumes, aborts or takes back a rollout.
    pub(crate) async fn act_on_rollout(
        &self,
        id: &str,
        action: RolloutAction,
    ) -> Result<RolloutView, Failure> {
        let path = format!("/api/v1/rollouts/{}/{}", rollout_id(id)?, action.as_str());
        self.json(Method::POST, &path, Body::Empty).await
    }

    /// What devices have reported of their requests, per model version.
    pub(crate) async fn telemetry_summary(&self) -> Result<Vec<TelemetrySummary>, Failure> {
        let answer: Summary = self.json(Method::GET, "/api/v1/telemetry/summary", Body::Empty).await?;
        Ok(answer.summary)
    }

    async fn json<T: DeserializeOwned>(&self, method: Method, path: &str, body: Body) -> Result<T, Failure> {
        let attempted = format!("{method} {path}");
        let bytes = self.call(method, path, body).await?;
        serde_json::from_slice(&bytes).map_err(|e| {
            Failure::failed(attempted, format!("the answer is not what this version understands: {e}"))
                .hint("check that `whimbrel` and the fleet server are of the same release")
        })
    }

    async fn call(&self, method: Method, path: &str, body: Body) -> Result<Vec<u8>, Failure> {
        let attempted = format!("{method} {path}");
        let (status, bytes) = self.send(method, path, body).await?;
        if status.is_success() { Ok(bytes) } else { Err(answer_failure(&attempted, status, &bytes)) }
    }

    async fn send(&self, method: Method, path: &str, body: Body) -> Result<(StatusCode, Vec<u8>), Failure> {
        let attempted = format!("{method} {path} at {}", self.base);
        let url = self.base.join(path).map_err(|e| Failure::usage(attempted.as_str(), e))?;
        let request = self.http.request(method, url).bearer_auth(&self.token);
        let request = match body {
            Body::Empty => request,
            Body::Json(bytes) => request.header("content-type", "application/json").body(bytes),
            Body::Bytes(bytes) => request.header("content-type", "application/octet-stream").body(bytes),
        };
        let unreachable = |e: &reqwest::Error| {
            Failure::failed(attempted.as_str(), chain(e))
                .hint("check the address with --server, the CA with --ca, and that the server runs")
        };
        let mut response = request.send().await.map_err(|e| unreachable(&e))?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|e| unreachable(&e))? {
            if bytes.len() + part.len() > ANSWER_BYTES_MAX {
                let why = format!("the answer is longer than {ANSWER_BYTES_MAX} bytes");
                return Err(Failure::failed(attempted, why));
            }
            bytes.extend_from_slice(&part);
        }
        Ok((status, bytes))
    }
}

fn json_body<T: Serialize>(value: &T) -> Result<Body, Failure> {
    serde_json::to_vec(value).map(Body::Json).map_err(|e| Failure::failed("writing the request", e))
}

/// A rollout's id as it may stand in a path.
fn rollout_id(id: &str) -> Result<&str, Failure> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !id.is_empty() && id.len() <= 64 && id.bytes().all(plain) {
        Ok(id)
    } else {
        Err(Failure::usage(format!("using the rollout id {id:?}"), "not a rollout id")
            .hint("`whimbrel rollout list` shows them"))
    }
}

/// The failure that an answer other than 2xx stands for.
fn answer_failure(attempted: &str, status: StatusCode, body: &[u8]) -> Failure {
    let exit = exit_of(status);
    let why = match serde_json::from_slice::<Problem>(body) {
        Ok(problem) if problem.detail.is_empty() => problem.title,
        Ok(problem) => problem.detail,
        Err(_) => format!("the server answered {status}"),
    };
    let failure = Failure::new(attempted, why, exit);
    match status {
        StatusCode::UNAUTHORIZED => failure.hint("check the operator's token with --token-file"),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            failure.hint("the server is busy; try again in a moment")
        }
        _ => failure,
    }
}

/// Which exit code an HTTP status means.
fn exit_of(status: StatusCode) -> Exit {
    match status.as_u16() {
        401 | 403 => Exit::Refused,
        501 => Exit::NotSupported,
        400 | 404 | 405 | 413 | 415 | 422 => Exit::Usage,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).expect("a status")
    }

    #[test]
    fn statuses_become_exit_codes() {
        for (code, exit) in [
            (400, Exit::Usage),
            (401, Exit::Refused),
            (403, Exit::Refused),
            (404, Exit::Usage),
            (409, Exit::Failed),
            (422, Exit::Usage),
            (500, Exit::Failed),
            (501, Exit::NotSupported),
            (503, Exit::Failed),
        ] {
            assert_eq!(exit_of(status(code)), exit, "{code}");
        }
    }

    #[test]
    fn problem_details_are_shown_and_other_bodies_are_not() {
        let problem = br#"{"type":"not_found","title":"No such device","status":404,
            "detail":"looking up device cam-1: there is none"}"#;
        let failure = answer_failure("GET /api/v1/devices/cam-1", status(404), problem);
        assert_eq!(failure.why, "looking up device cam-1: there is none");
        let failure = answer_failure("GET /x", status(502), b"<html>captive portal</html>");
        assert_eq!(failure.why, "the server answered 502 Bad Gateway");
        assert!(answer_failure("GET /x", status(401), b"").hint.is_some());
    }

    #[test]
    fn what_is_not_given_is_named() {
        let connection = Connection { server: Some("https://h:1".into()), token_file: None, ca: None };
        let failure = connection.client().expect_err("no token");
        assert_eq!((failure.exit, failure.why.as_str()), (Exit::Usage, "--token-file was not given"));
        assert!(failure.hint.expect("a hint").contains("WHIMBREL_TOKEN_FILE"));
    }

    #[test]
    fn only_https_addresses_are_used() {
        for bad in ["http://127.0.0.1:1", "fleet.example", "https://", "file:///etc/passwd"] {
            let failure = Client::new(bad, String::new(), b"").expect_err("refused");
            assert_eq!(failure.exit, Exit::Usage, "{bad}");
        }
        let failure = Client::new("https://127.0.0.1:1", String::new(), b"not a certificate");
        assert_eq!(failure.expect_err("no CA").exit, Exit::Usage);
    }

    #[test]
    fn rollout_ids_cannot_leave_their_path() {
        assert!(rollout_id("r-1_A").is_ok());
        for bad in ["", "..", "a/b", "a?b", "a b"] {
            assert!(rollout_id(bad).is_err(), "{bad:?}");
        }
    }
}

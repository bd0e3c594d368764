//! The two calls of an enrolment, with their limits.

use super::verifier::{ChainError, TokenVerifier};
use crate::failure::{Failure, chain};
use reqwest::{RequestBuilder, Response, StatusCode, Url, redirect::Policy};
use rustls::ClientConfig;
use std::{sync::Arc, time::Duration};
use whimbrel_updater::{
    hash::sha256,
    tuf::{Role as _, Root},
};
use whimbrel_wire::{
    Digest,
    api::{EnrollRequest, EnrollResponse, Problem},
};

const CONNECT_MAX: Duration = Duration::from_secs(15);
const CALL_MAX: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: u64 = 256 << 10;

/// Talks to the server of one token.
pub(super) struct Client {
    http: reqwest::Client,
    server: Url,
    verifier: Arc<TokenVerifier>,
}

impl Client {
    /// A client that talks to no server but the one whose CA has this fingerprint.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub(super) fn new(server: &Url, ca: Digest) -> Result<Self, Failure> {
        let fail = |e: &dyn std::error::Error| Failure::failed("setting up TLS", chain(e));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(TokenVerifier::new(ca, Arc::clone(&provider)));
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| fail(&e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::<TokenVerifier>::clone(&verifier))
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .http1_only()
            // Proxies that the environment names are for other programs.
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_MAX)
            .timeout(CALL_MAX)
            .build()
            .map_err(|e| fail(&e))?;
        Ok(Self { http, server: server.clone(), verifier })
    }

    /// The operator's first root, which has this hash.
    ///
    /// # Errors
    /// It cannot be fetched, or has another hash.
    pub(super) async fn root(&self, expected: Digest) -> Result<Vec<u8>, Failure> {
        let url = self.url("tuf/1.root.json");
        let attempted = format!("fetching {url}");
        let response = self.send(&attempted, self.http.get(url)).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                return Err(Failure::failed(attempted, "the server has no root metadata yet")
                    .hint("an operator publishes it with `whimbrel repo init`; the token is still unused"));
            }
            _ => return Err(refusal(attempted, response).await),
        }
        let bytes = body(&attempted, response, Root::SIZE_BYTES_MAX).await?;
        let found = sha256(&bytes);
        if found != expected {
            let why = format!("its SHA-256 is {found}, the token says {expected}");
            return Err(Failure::refused(attempted, why).hint(
                "the server offers another root than the operator's: ask the operator; the token is still unused",
            ));
        }
        Ok(bytes)
    }

    /// Uses up the token.
    ///
    /// # Errors
    /// The server cannot be reached, refuses, or gives no sensible answer.
    pub(super) async fn enroll(&self, request: &EnrollRequest) -> Result<EnrollResponse, Failure> {
        let attempted = format!("enrolling {} at {}", request.device, self.server);
        let response = self.send(&attempted, self.http.post(self.url("enroll")).json(request)).await?;
        if !response.status().is_success() {
            return Err(refusal(attempted, response).await);
        }
        let bytes = body(&attempted, response, ANSWER_BYTES_MAX).await?;
        serde_json::from_slice(&bytes)
            .map_err(|e| Failure::failed(attempted, format!("the server's answer is not one: {e}")))
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.server.clone();
        url.set_path(path);
        url
    }

    async fn send(&self, attempted: &str, request: RequestBuilder) -> Result<Response, Failure> {
        match (request.send().await, self.verifier.refused()) {
            (Ok(response), _) => Ok(response),
            (Err(_), Some(refused)) => Err(untrusted(attempted, &refused)),
            (Err(error), None) => Err(unreachable(attempted, error)),
        }
    }
}

fn untrusted(attempted: &str, refused: &ChainError) -> Failure {
    let hint = match refused {
        ChainError::Fingerprint { .. } => "check --server, and that the token is of this fleet",
        ChainError::Chain(_) => {
            "call the server by a name in its certificate (`whimbrel-fleet serve --hostname NAME` adds one), and check \
             this device's clock"
        }
    };
    Failure::refused(attempted, refused).hint(hint)
}

fn unreachable(attempted: &str, error: reqwest::Error) -> Failure {
    Failure::failed(attempted, chain(&error.without_url()))
        .hint("check the address and port, that the server runs, and that nothing on the way blocks it")
}

/// What the server says against it.
async fn refusal(attempted: String, response: Response) -> Failure {
    let status = response.status();
    let said = match body(&attempted, response, ANSWER_BYTES_MAX).await {
        Ok(bytes) => serde_json::from_slice::<Problem>(&bytes).ok().map(|problem| problem.detail),
        Err(_) => None,
    };
    let said = said.map(|detail| detail.chars().take(500).collect::<String>());
    let why = said.map_or_else(|| format!("the server answered {status}"), |s| format!("{s} ({status})"));
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::refused(attempted, why).hint(
            "a token is good once and for a while; an operator makes one with `whimbrel enroll create`",
        ),
        StatusCode::CONFLICT => {
            Failure::failed(attempted, why).hint("--device asks for another name; the token is still unused")
        }
        _ => Failure::failed(attempted, why).hint("see the server's log"),
    }
}

/// The whole body, or an error where it is longer than accepted.
async fn body(attempted: &str, mut response: Response, size_bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|e| unreachable(attempted, e))? {
        bytes.extend_from_slice(&part);
        if bytes.len() as u64 > size_bytes_max {
            return Err(Failure::failed(
                attempted,
                format!("the answer is longer than {size_bytes_max} bytes"),
            ));
        }
    }
    Ok(bytes)
}

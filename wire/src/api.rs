//! Bodies of the JSON API under `/api/v1`, of `/enroll`, and the enrolment token's text form.
//!
//! Errors are `application/problem+json` (RFC 9457): see [`Problem`].

mod rollout_plan;

pub use rollout_plan::{FetchPlan, RolloutPlan, SourcePlan, StagePlan};

use crate::{
    id::{DeviceId, Digest, IdError, ModelName, TenantId},
    report::{Platform, Report},
};
use semver::Version;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// RFC 9457 problem details.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable name of the kind of problem, e.g. `not_found`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One line for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was attempted, on what, why it failed, what to do.
    pub detail: String,
}

/// `POST /api/v1/enrollment-tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// How long it is good for.
    pub ttl_s: u32,
    /// The only device id it enrols; any when absent.
    #[serde(default)]
    pub device: Option<DeviceId>,
    /// Free tags that the device gets.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// Answer to [`NewToken`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCreated {
    /// Shown once; the server keeps its hash.
    pub secret: String,
    /// SHA-256 of the fleet CA certificate (DER).
    pub ca: Digest,
    /// End of its life, milliseconds since 1970 UTC.
    pub expires_ms: i64,
}

/// What an operator hands to a device: the secret, the fingerprint of the CA that the device must meet, and the hash of
/// the root metadata it must start its trust from. Text form `whimbrel1.{secret}.{ca}.{root}`.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrollToken {
    /// The one-time secret.
    pub secret: String,
    /// SHA-256 of the fleet CA certificate (DER).
    pub ca: Digest,
    /// SHA-256 of the root metadata file.
    pub root: Digest,
}
impl fmt::Display for EnrollToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "whimbrel1.{}.{}.{}", self.secret, self.ca, self.root)
    }
}
impl fmt::Debug for EnrollToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnrollToken(…)")
    }
}

/// Why a text is no enrolment token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not four parts, or another prefix, or a secret of another form.
    #[error(
        "not an enrolment token: expected whimbrel1.SECRET.CA.ROOT as `whimbrel enroll create` prints it"
    )]
    Form,
    /// One of the two digests is not one.
    #[error("not an enrolment token: {0}")]
    Digest(#[from] IdError),
}
impl FromStr for EnrollToken {
    type Err = TokenError;
    fn from_str(s: &str) -> Result<Self, TokenError> {
        let parts: Vec<&str> = s.trim().split('.').collect();
        let ["whimbrel1", secret, ca, root] = parts[..] else { return Err(TokenError::Form) };
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if secret.len() < 16 || secret.len() > 128 || !secret.bytes().all(plain) {
            return Err(TokenError::Form);
        }
        Ok(Self { secret: secret.to_owned(), ca: ca.parse()?, root: root.parse()? })
    }
}

/// `POST /enroll`. The key never leaves the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// The secret of an enrolment token.
    pub secret: String,
    /// The name the device asks for.
    pub device: DeviceId,
    /// PKCS#10 certificate request, PEM. Its subject is ignored; its key is certified.
    pub csr_pem: String,
    /// What the device is.
    pub platform: Platform,
}

/// Answer to [`EnrollRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollResponse {
    /// The name it got.
    pub device: DeviceId,
    /// The tenant it is in.
    pub tenant: TenantId,
    /// Its certificate, PEM.
    pub certificate_pem: String,
    /// The fleet CA, PEM.
    pub ca_pem: String,
    /// Port of the MQTT listener on the same host.
    pub mqtt_port: u16,
}

/// `GET /api/v1/repository`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RepositoryView {
    /// Public key (TUF key object) with which the server signs snapshot and timestamp.
    pub online_key: serde_json::Value,
    /// Version of the trusted root; 0 before the first.
    pub root_version: u32,
    /// Version of the published targets; 0 before the first.
    pub targets_version: u32,
}

/// `POST /api/v1/repository/chunks/missing`, and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashes {
    /// Names of chunks; at most 10,000.
    pub hashes: Vec<Digest>,
}

/// One published model version: an element of `GET /api/v1/models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelView {
    /// Which model.
    pub name: ModelName,
    /// Which version.
    pub version: Version,
    /// Its target path.
    pub target: String,
    /// SHA-256 of its index.
    pub bundle: Digest,
    /// Size of its files.
    pub size_bytes: u64,
    /// One sentence.
    pub description: String,
    /// Devices on which it is active.
    pub devices_active: u64,
}

/// One device: an element of `GET /api/v1/devices`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    /// Its name.
    pub id: DeviceId,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether it is connected over MQTT now.
    pub online: bool,
    /// Last sign of life, milliseconds since 1970 UTC.
    pub seen_ms: Option<i64>,
    /// Its last report.
    pub report: Option<Report>,
    /// Why it runs what it runs, one sentence per model.
    pub why: Vec<String>,
}

/// `POST /api/v1/rollouts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRollout {
    /// Which model.
    pub model: ModelName,
    /// Which version, published before.
    pub version: Version,
    /// Share of the fleet after each stage, in percent, ascending, the last 100.
    pub stages: Vec<u8>,
    /// Only devices with all of these tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Share of a stage's devices that must confirm before the next, in percent.
    pub success_percent_min: u8,
    /// What happens when more fail than the gate allows.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Seconds between a passed gate and the next stage.
    #[serde(default)]
    pub soak_s: u32,
}

/// What a failed gate does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// No new device is asked; those asked stay.
    #[default]
    Pause,
    /// Devices of this rollout are asked to go back.
    RollBack,
}

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// Stages go on.
    Running,
    /// Stopped by an operator or a gate; can resume.
    Paused,
    /// Every stage passed.
    Done,
    /// Given up: no new device; those updated stay.
    Aborted,
    /// Given up: devices are asked to go back.
    RolledBack,
}

/// A rollout: `GET /api/v1/rollouts[/{id}]` and the answer to every call on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutView {
    /// Its name.
    pub id: String,
    /// What was asked for.
    pub spec: NewRollout,
    /// Where it stands.
    pub state: RolloutState,
    /// Who or what put it there, and why.
    pub state_reason: String,
    /// The stage that runs, from 0.
    pub stage: u32,
    /// Devices by what became of them.
    pub counts: RolloutCounts,
    /// When it was made, milliseconds since 1970 UTC.
    pub created_ms: i64,
}

/// Devices of a rollout by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutCounts {
    /// Devices that match.
    pub matched: u64,
    /// Asked to update so far.
    pub asked: u64,
    /// Confirmed.
    pub active: u64,
    /// Refused it.
    pub rejected: u64,
    /// Took it back.
    pub rolled_back: u64,
}

/// One line of `GET /api/v1/telemetry/summary`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TelemetrySummary {
    /// Which model.
    pub model: ModelName,
    /// Which version.
    pub version: Version,
    /// Devices that sent something.
    pub devices: u64,
    /// Batches stored.
    pub batches: u64,
    /// Requests counted.
    pub requests: u64,
    /// Failed ones among them.
    pub errors: u64,
    /// Median latency, milliseconds.
    pub latency_p50_ms: Option<f64>,
    /// 95th percentile.
    pub latency_p95_ms: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_damaged_ones_are_refused() {
        let token = EnrollToken {
            secret: "abcDEF012_-abcDEF012".into(),
            ca: Digest::new([1; 32]),
            root: Digest::new([2; 32]),
        };
        let text = token.to_string();
        assert_eq!(text.parse::<EnrollToken>().expect("parses"), token);
        assert!(text.replace("whimbrel1", "whimbrel2").parse::<EnrollToken>().is_err());
        assert!(text[..text.len() - 1].parse::<EnrollToken>().is_err());
        assert!("whimbrel1.short.x.y".parse::<EnrollToken>().is_err());
    }
}

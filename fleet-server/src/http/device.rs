//! What devices ask and tell over HTTPS: the same as over MQTT.

use super::{
    Shared,
    extract::{Cbor, Device, Json},
    problem::problem,
};
use crate::service::Fault;
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use sha2::{Digest as _, Sha256};
use whimbrel_wire::{Message, api::EnrollRequest, encode, report::Report, telemetry::Batch};

/// Largest enrolment: a certificate request and a few names.
const ENROL_BYTES_MAX: usize = 16 << 10;

/// `POST /enroll`.
pub(crate) async fn enrol(
    State(state): State<Shared>,
    Json(request): Json<EnrollRequest, ENROL_BYTES_MAX>,
) -> Result<Response, Fault> {
    Ok(axum::Json(state.fleet.enrol(&request).await?).into_response())
}

/// `GET /api/v1/device/desired`.
pub(crate) async fn desired(
    State(state): State<Shared>,
    Device(who): Device,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let fleet = &state.fleet;
    fleet.note_seen(&who);
    let desired = fleet.store().desired(&who, fleet.settings().poll_s).await;
    let desired = desired.map_err(|e| Fault::from(e).into_response())?;
    let desired =
        desired.ok_or_else(|| problem(StatusCode::NOT_FOUND, "not_found", "there is no such device"))?;
    let bytes = encode(&desired).map_err(|e| Fault::internal(&e).into_response())?;
    let etag = format!("\"{}\"", hex::encode(&Sha256::digest(&bytes)[..16]));
    let asked = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let is_known =
        asked.is_some_and(|tags| tags.split(',').any(|t| t.trim().trim_start_matches("W/") == etag));
    let mut response = if is_known { StatusCode::NOT_MODIFIED.into_response() } else { cbor(bytes) };
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

/// `POST /api/v1/device/report`.
pub(crate) async fn report(
    State(state): State<Shared>,
    Device(who): Device,
    Cbor(report): Cbor<Report>,
) -> Result<StatusCode, Fault> {
    state.fleet.take_report(&who, &report).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/v1/device/telemetry`.
pub(crate) async fn telemetry(
    State(state): State<Shared>,
    Device(who): Device,
    Cbor(batch): Cbor<Batch>,
) -> Result<Response, Fault> {
    message(&state.fleet.take_batch(&who, batch).await?)
}

fn message<M: Message>(message: &M) -> Result<Response, Fault> {
    encode(message).map(cbor).map_err(|e| Fault::internal(&e))
}

fn cbor(bytes: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/cbor"));
    response
}

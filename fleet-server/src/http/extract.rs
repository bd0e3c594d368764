//! Who asks, and what they send.

use super::{Shared, problem::problem};
use crate::{
    bus::Address,
    service::{Fault, Fleet, Kind},
    store::operators::{Operator, Role},
};
use axum::{
    body::{Bytes, HttpBody as _},
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use whimbrel_wire::{Message, decode};

/// Largest JSON body of an operator: 10,000 hashes.
const JSON_BYTES_MAX: usize = 1 << 20;
/// Memory set aside for a body before any of it came.
const READY_BYTES_MAX: usize = 64 << 10;

/// The client certificate of a connection, where one was shown; signed by the fleet CA.
#[derive(Debug, Clone)]
pub(crate) struct Peer(pub(crate) Option<(Address, String)>);

/// Whether a connection is TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OverTls(pub(crate) bool);

/// A device with a certificate that stands.
pub(crate) struct Device(pub(crate) Address);

impl FromRequestParts<Shared> for Device {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Response> {
        let Some((who, serial)) = parts.extensions.get::<Peer>().and_then(|p| p.0.clone()) else {
            let detail = "this path demands a device certificate; enrol first";
            return Err(problem(StatusCode::UNAUTHORIZED, "certificate_required", detail));
        };
        match state.fleet.store().certificate_stands(&who, &serial).await {
            Ok(true) => Ok(Self(who)),
            Ok(false) => {
                let detail =
                    format!("the certificate of {} was revoked or replaced; enrol again", who.device);
                Err(problem(StatusCode::FORBIDDEN, "certificate_revoked", detail))
            }
            Err(error) => Err(Fault::from(error).into_response()),
        }
    }
}

/// An operator who may do at least what the number stands for; see the names below.
pub(crate) struct By<const ROLE: u8>(pub(crate) Operator);
/// May look.
pub(crate) type Viewer = By<{ Role::Viewer as u8 }>;
/// May enrol and revoke devices.
pub(crate) type DeviceOperator = By<{ Role::Operator as u8 }>;
/// May publish and roll out.
pub(crate) type Releaser = By<{ Role::Releaser as u8 }>;

impl<const ROLE: u8> FromRequestParts<Shared> for By<ROLE> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Response> {
        let operator = bearer(&state.fleet, &parts.headers)
            .await
            .map_err(axum::response::IntoResponse::into_response)?;
        if operator.role as u8 >= ROLE {
            return Ok(Self(operator));
        }
        let detail = format!("{} is {}, which does not allow this", operator.name, operator.role.as_str());
        Err(problem(StatusCode::FORBIDDEN, "role", detail))
    }
}

async fn bearer(fleet: &Fleet, headers: &HeaderMap) -> Result<Operator, Fault> {
    let given = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let token = given.and_then(|v| v.strip_prefix("Bearer ")).map(str::trim).filter(|t| !t.is_empty());
    let Some(token) = token else {
        return Err(Fault::new(
            Kind::Unauthorised,
            "send `Authorization: Bearer TOKEN` with an operator's token",
        ));
    };
    let unknown = || Fault::new(Kind::Unauthorised, "the operator token is not known here");
    fleet.store().operator(token).await?.ok_or_else(unknown)
}

/// A body of at most `MAX` bytes.
pub(crate) struct Raw<const MAX: usize>(pub(crate) Bytes);

impl<const MAX: usize> FromRequest<Shared> for Raw<MAX> {
    type Rejection = Response;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, Response> {
        read(request, MAX).await.map(Self)
    }
}

/// A JSON body of at most `MAX` bytes.
pub(crate) struct Json<T, const MAX: usize = JSON_BYTES_MAX>(pub(crate) T);

impl<T: DeserializeOwned, const MAX: usize> FromRequest<Shared> for Json<T, MAX> {
    type Rejection = Response;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, Response> {
        let bytes = read(request, MAX).await?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|e| problem(StatusCode::BAD_REQUEST, "invalid", format!("body: {e}")))
    }
}

/// A message of a device.
pub(crate) struct Cbor<M>(pub(crate) M);

impl<M: Message> FromRequest<Shared> for Cbor<M> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &Shared) -> Result<Self, Response> {
        let bytes = read(request, M::SIZE_BYTES_MAX).await?;
        decode(&bytes).map(Self).map_err(|e| {
            crate::service::count(&state.fleet.counters().messages_refused);
            problem(StatusCode::BAD_REQUEST, "invalid", e.to_string())
        })
    }
}

/// Reads a body. One that is too long is still read to its end, within reason, and thrown away: a client that is cut off
/// while it sends never sees the answer.
async fn read(request: Request, size_bytes_max: usize) -> Result<Bytes, Response> {
    const DISCARDED_BYTES_MAX: usize = 16 << 20;
    let mut body = request.into_body();
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut bytes = BytesMut::with_capacity(announced.min(size_bytes_max).min(READY_BYTES_MAX));
    let mut size_bytes = 0usize;
    while let Some(frame) = body.frame().await {
        let cut = |_| problem(StatusCode::BAD_REQUEST, "invalid", "the body ended early");
        let Ok(data) = frame.map_err(cut)?.into_data() else { continue };
        size_bytes = size_bytes.saturating_add(data.len());
        if size_bytes <= size_bytes_max {
            bytes.extend_from_slice(&data);
        } else if size_bytes > DISCARDED_BYTES_MAX.max(size_bytes_max) {
            break;
        }
    }
    if size_bytes <= size_bytes_max {
        return Ok(bytes.freeze());
    }
    let detail = format!("the body is longer than {size_bytes_max} bytes");
    Err(problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail))
}

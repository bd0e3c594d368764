//! Reading a request's body within its limits.

use super::{App, error::ApiError};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use std::sync::Arc;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// A body, and its share of what all bodies together may take.
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

/// Reads a whole body.
///
/// # Errors
/// It is too large (413), does not come in time (408), breaks off (400), or all bodies together take too much (429).
pub(crate) async fn read(app: &App, body: Body) -> Result<Held, ApiError> {
    match timeout(app.limits.body_read_max, read_all(app, body)).await {
        Ok(result) => result,
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            format!("the body did not arrive within {} s", app.limits.body_read_max.as_secs()),
        )),
    }
}

async fn read_all(app: &App, mut body: Body) -> Result<Held, ApiError> {
    let max = app.limits.body_size_bytes_max;
    let too_large = || {
        let message = format!("the body is larger than {max} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    let mut share = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::bad_request("the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > max.saturating_sub(bytes.len()) {
            return Err(too_large());
        }
        take_share(&app.bodies, &mut share, data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(Held { bytes: bytes.freeze(), _share: share })
}

fn take_share(
    bodies: &Arc<Semaphore>,
    share: &mut Option<OwnedSemaphorePermit>,
    len: usize,
) -> Result<(), ApiError> {
    let busy = |_| {
        ApiError::busy(StatusCode::TOO_MANY_REQUESTS, "bodies_full", "too many large requests are being read")
    };
    let kib = u32::try_from(len.div_ceil(1024)).unwrap_or(u32::MAX);
    let more = Arc::clone(bodies).try_acquire_many_owned(kib).map_err(busy)?;
    match share {
        Some(share) => share.merge(more),
        None => *share = Some(more),
    }
    Ok(())
}

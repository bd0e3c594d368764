//! A refusal as a response.

use crate::{loaded::InferError, pool::PoolError};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use serde::Serialize;

/// Why a request is not answered, and the status that says so.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// For metrics; stable.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) message: String,
    /// Seconds after which trying again makes sense.
    retry_after_s: Option<u16>,
}

#[derive(Serialize)]
struct ErrorBody {
    error: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into(), retry_after_s: None }
    }

    /// The request is wrong.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    /// There is too much to do now.
    pub(crate) fn busy(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { retry_after_s: Some(1), ..Self::new(status, reason, message) }
    }
}

impl From<InferError> for ApiError {
    fn from(error: InferError) -> Self {
        if error.is_bad_input() {
            Self::new(StatusCode::BAD_REQUEST, "bad_input", error.to_string())
        } else {
            Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.kind(), error.to_string())
        }
    }
}

impl From<PoolError> for ApiError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::QueueFull => {
                Self::busy(StatusCode::TOO_MANY_REQUESTS, "queue_full", "too many requests are waiting")
            }
            PoolError::QueueTimeout => {
                Self::busy(StatusCode::SERVICE_UNAVAILABLE, "queue_timeout", "no worker became free in time")
            }
            PoolError::Panicked => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the request could not be worked on")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.message })).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

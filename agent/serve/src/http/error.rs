//! A refusal as a response.

use crate::{loaded::InferError, pool::PoolError};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use serde::Serialize;
use whimbrel_infer::RunError;

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
        match &error {
            InferError::Run(RunError::Memory(memory)) if memory.fits_alone() => {
                return Self::busy(StatusCode::SERVICE_UNAVAILABLE, "memory", error.to_string());
            }
            InferError::Run(RunError::Memory(_) | RunError::InputTooLarge { .. }) => {
                return Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", error.to_string());
            }
            _ => {}
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_infer::{MemoryError, memory::Purpose};

    #[test]
    fn what_never_fits_is_too_large_and_what_fits_later_may_come_again() {
        let of = |needed_bytes| {
            let error =
                MemoryError { purpose: Purpose::Run, needed_bytes, taken_bytes: 10, budget_bytes: 100 };
            ApiError::from(InferError::Run(RunError::Memory(error)))
        };
        let (never, later) = (of(101), of(95));
        assert_eq!((never.status, never.retry_after_s), (StatusCode::PAYLOAD_TOO_LARGE, None));
        assert_eq!((later.status, later.retry_after_s), (StatusCode::SERVICE_UNAVAILABLE, Some(1)));
        assert!(
            never.message.contains("101 bytes") && never.message.contains("100 bytes"),
            "{}",
            never.message
        );
        let large = RunError::InputTooLarge { input: "x".into(), found: 9, max: 8 };
        assert_eq!(ApiError::from(InferError::Run(large)).status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}

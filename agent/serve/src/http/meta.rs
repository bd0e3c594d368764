//! Metadata, health, metrics.

use super::{App, error::ApiError, path::ModelPath};
use crate::oip::metadata::{ModelMetadata, ServerMetadata};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header::CONTENT_TYPE};
use std::sync::{Arc, atomic::Ordering};

/// `GET /v2`.
pub(crate) async fn server() -> Json<ServerMetadata> {
    Json(ServerMetadata::new())
}

/// `GET /livez`, `GET /v2/health/live`: the process answers.
pub(crate) async fn live() -> StatusCode {
    StatusCode::OK
}

/// `GET /readyz`, `GET /v2/health/ready`: requests are taken. Which models serve is said by each model's own path.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<StatusCode, ApiError> {
    if app.draining.load(Ordering::Acquire) {
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            "the server is shutting down",
        ));
    }
    Ok(StatusCode::OK)
}

/// `GET /v2/models/{model}`, `GET /v2/models/{model}/versions/{version}`.
pub(crate) async fn model(State(app): State<Arc<App>>, path: ModelPath) -> Result<Response, ApiError> {
    let serving = path.find(&app)?;
    Ok(Json(ModelMetadata::of(serving.primary())).into_response())
}

/// `GET /v2/models/{model}/ready`, `GET /v2/models/{model}/versions/{version}/ready`.
pub(crate) async fn model_ready(
    State(app): State<Arc<App>>,
    path: ModelPath,
) -> Result<StatusCode, ApiError> {
    path.find(&app).map(|_| StatusCode::OK)
}

/// `GET /metrics`.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let text = app.metrics.encode().map_err(|_| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the metrics could not be written")
    })?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, content_type)], text).into_response())
}

/// Anything that is no route.
pub(crate) async fn no_route() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "no_route", "there is nothing at this path")
}

/// A route, but not with this method.
pub(crate) async fn wrong_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", "this path does not take this method")
}

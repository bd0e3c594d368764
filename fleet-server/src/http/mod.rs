//! HTTP: routes, limits, TLS.

mod activity;
mod device;
pub(crate) mod extract;
mod files;
mod health;
pub(crate) mod listen;
pub(crate) mod operator;
pub(crate) mod problem;

use crate::service::{Fleet, count};
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::Response,
    routing::{get, post, put},
};
use problem::problem;
use std::{sync::Arc, time::Duration};

/// Longest time between the head of a request and the head of its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// What every handler gets.
#[derive(Clone)]
pub(crate) struct Shared {
    /// The service layer.
    pub(crate) fleet: Arc<Fleet>,
    /// Sessions of the web UI.
    pub(crate) sessions: Arc<crate::ui::Sessions>,
}

/// Everything that is served over HTTPS.
pub(crate) fn router(shared: &Shared) -> Router {
    let router = Router::new()
        .route("/tuf/{file}", get(files::metadata))
        .route("/tuf/targets/{*path}", get(files::target))
        .route("/chunks/{sha256}", get(files::chunk))
        .route("/enroll", post(device::enrol))
        .route("/api/v1/device/desired", get(device::desired))
        .route("/api/v1/device/report", post(device::report))
        .route("/api/v1/device/telemetry", post(device::telemetry))
        .route("/api/v1/enrollment-tokens", post(operator::create_token))
        .route("/api/v1/devices", get(operator::devices))
        .route("/api/v1/devices/{id}", get(operator::device))
        .route("/api/v1/devices/{id}/revoke", post(operator::revoke))
        .route("/api/v1/repository", get(operator::repository))
        .route("/api/v1/repository/root", post(operator::put_root))
        .route("/api/v1/repository/targets", post(operator::put_targets))
        .route("/api/v1/repository/delegated/{file}", post(operator::put_delegated))
        .route("/api/v1/repository/targets/{sha256}", put(operator::put_target))
        .route("/api/v1/repository/chunks/missing", post(operator::missing_chunks))
        .route("/api/v1/repository/chunks/{sha256}", put(operator::put_chunk))
        .route("/api/v1/models", get(operator::models))
        .route("/api/v1/rollouts", get(operator::rollouts).post(operator::start_rollout))
        .route("/api/v1/rollouts/plan", post(operator::plan_rollout))
        .route("/api/v1/rollouts/{id}", get(operator::rollout))
        .route("/api/v1/rollouts/{id}/{command}", post(operator::command))
        .route("/api/v1/telemetry/summary", get(operator::telemetry))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .merge(crate::ui::routes());
    finish(router, shared)
}

/// What the plain listener serves: the web UI only.
pub(crate) fn ui_router(shared: &Shared) -> Router {
    let router = crate::ui::routes().layer(middleware::from_fn(crate::ui::only_local_names));
    finish(router, shared)
}

fn finish(router: Router<Shared>, shared: &Shared) -> Router {
    router
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            problem(StatusCode::METHOD_NOT_ALLOWED, "method", "this path does not know that method")
        })
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
        .with_state(shared.clone())
}

/// Around every request: the time limit, the counters, headers that every answer carries.
async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let mut response = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await.unwrap_or_else(|_| {
        problem(StatusCode::REQUEST_TIMEOUT, "timeout", "the request was not complete within 60 s")
    });
    let counters = shared.fleet.counters();
    count(&counters.http_requests);
    if response.status().is_server_error() {
        count(&counters.http_failures);
    }
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

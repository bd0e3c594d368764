//! Routes and handlers.
//!
//! | module | holds |
//! |---|---|
//! | `error` | a refusal as a response |
//! | `body` | reading a request's body within its limits |
//! | `infer` | inference |
//! | `meta` | metadata, health, metrics |
//! | `path` | which model and version a path names |

mod body;
mod error;
mod infer;
mod meta;
mod path;

use crate::{config::Limits, metrics::Metrics, observer::Observer, pool::Pool, registry::Registry};
use axum::{
    Router,
    routing::{get, post},
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64},
};
use tokio::sync::Semaphore;

/// What all handlers share.
pub(crate) struct App {
    pub(crate) registry: Arc<Registry>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) limits: Limits,
    pub(crate) pool: Pool,
    pub(crate) metrics: Metrics,
    /// Set when shutdown begins: no longer ready.
    pub(crate) draining: AtomicBool,
    /// One permit per started KiB of a body that is held.
    pub(crate) bodies: Arc<Semaphore>,
    /// Makes request ids unique across starts.
    pub(crate) start_id: u64,
    pub(crate) requests: AtomicU64,
}

impl App {
    pub(crate) fn new(registry: Arc<Registry>, observer: Arc<dyn Observer>, limits: Limits) -> Self {
        let kib = (limits.bodies_size_bytes_max / 1024).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            registry,
            observer,
            pool: Pool::new(limits.workers, limits.queue_max),
            metrics: Metrics::new(),
            draining: AtomicBool::new(false),
            bodies: Arc::new(Semaphore::new(kib)),
            // Without random numbers ids are still unique within this start.
            start_id: getrandom::u64().unwrap_or_default(),
            requests: AtomicU64::new(0),
            limits,
        }
    }
}

/// Every route.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v2", get(meta::server))
        .route("/v2/", get(meta::server))
        .route("/v2/health/live", get(meta::live))
        .route("/v2/health/ready", get(meta::ready))
        .route("/v2/models/{model}", get(meta::model))
        .route("/v2/models/{model}/ready", get(meta::model_ready))
        .route("/v2/models/{model}/infer", post(infer::infer))
        .route("/v2/models/{model}/versions/{version}", get(meta::model))
        .route("/v2/models/{model}/versions/{version}/ready", get(meta::model_ready))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer::infer))
        .route("/livez", get(meta::live))
        .route("/readyz", get(meta::ready))
        .route("/metrics", get(meta::metrics))
        .fallback(meta::no_route)
        .method_not_allowed_fallback(meta::wrong_method)
        .with_state(app)
}

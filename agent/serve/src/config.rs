//! Where to listen, and the limits.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Where and how requests are taken.
#[derive(Debug, Clone, Default)]
pub struct ServeConfig {
    /// TCP address of the HTTP front end; port 0 picks a free one.
    pub http: Option<SocketAddr>,
    /// Path of the Unix socket of the HTTP front end.
    pub uds: Option<PathBuf>,
    /// What a client may ask for.
    pub limits: Limits,
}

/// What a client may ask for.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request body.
    pub body_size_bytes_max: usize,
    /// Most bytes of all request bodies that are held at the same time.
    pub bodies_size_bytes_max: usize,
    /// Most elements of one input tensor.
    pub tensor_elements_max: usize,
    /// Most open connections; further ones wait in the listener's queue.
    pub connections_max: usize,
    /// Runs at the same time.
    pub workers: usize,
    /// Most requests that wait for a worker; further ones get 429.
    pub queue_max: usize,
    /// Longest wait for the head of a request, and longest pause between two requests of a connection.
    pub header_read_max: Duration,
    /// Longest wait for the body of a request.
    pub body_read_max: Duration,
    /// Longest wait for a worker.
    pub queue_wait_max: Duration,
    /// Longest wait for requests in flight when shutting down.
    pub drain_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_size_bytes_max: 64 << 20,
            bodies_size_bytes_max: 256 << 20,
            tensor_elements_max: 1 << 26,
            connections_max: 1024,
            workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            queue_max: 256,
            header_read_max: Duration::from_secs(60),
            body_read_max: Duration::from_secs(30),
            queue_wait_max: Duration::from_secs(30),
            drain_max: Duration::from_secs(10),
        }
    }
}

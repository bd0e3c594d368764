//! The server as a whole, in this process, over real sockets with real TLS.

mod harness;
mod http;
mod http2;
mod metadata;
mod mqtt;
mod plan;
mod transfer;
mod ui;

//! Open Inference Protocol front ends.
//!
//! A [`LoadedModel`] is a model with its steps; a [`Registry`] says which one answers to a name, and swaps it
//! atomically; [`listen`] puts HTTP on a TCP port and on a Unix socket in front of it. No request, however malformed
//! or large, stops the process: everything from outside is bounded by [`Limits`].
//!
//! | module | holds |
//! |---|---|
//! | [`loaded`] | a model with its steps, and one run of it |
//! | [`registry`] | name to model, fallback, live counts |
//! | [`observer`] | what is told about each request before it is answered |
//! | [`config`] | where to listen, and the limits |
//! | [`server`] | connections and drain |
//! | `socket` | binding, and the Unix socket's file |
//! | `http` | routes and handlers |
//! | `oip` | requests and responses of the protocol, as bytes: no socket |
//! | `pool` | runs models on a bounded number of threads |
//! | `metrics` | Prometheus |

pub mod config;
mod http;
pub mod loaded;
mod metrics;
pub mod observer;
mod oip;
mod pool;
pub mod registry;
pub mod server;
mod socket;

pub use config::{Limits, ServeConfig};
pub use loaded::{Answer, InferError, LoadModelError, LoadedModel};
pub use observer::{NoObserver, Observation, Observer, Outcome};
pub use registry::{Answered, Registry, Serving, Traffic};
pub use server::{ListenError, Listening, listen};

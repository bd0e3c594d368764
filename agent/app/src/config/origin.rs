//! Where a value came from, and what is wrong with it.

use crate::failure::{Failure, one_line};
use std::{fmt, path::PathBuf};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody set it.
    Default,
    /// A line of a file.
    File {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Why the configuration was not accepted: where, which key, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
pub(crate) struct ConfigError {
    place: String,
    why: String,
}

impl ConfigError {
    /// An error at a place, e.g. a path.
    pub(crate) fn new(place: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self { place: place.to_string(), why: one_line(&why.to_string()) }
    }

    /// A key has a value that it cannot have.
    pub(crate) fn value(
        origin: &Origin,
        key: impl fmt::Display,
        found: &str,
        expected: impl fmt::Display,
    ) -> Self {
        let shown: String = found.chars().take(80).collect();
        Self::new(origin, format!("{key}: {shown}: expected {expected}"))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage("reading the configuration", error)
    }
}

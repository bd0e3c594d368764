//! What a command reports when it does not succeed, and the exit code that goes with it.

use serde::Serialize;
use std::fmt::Display;

/// The exit codes above 0, shared by every Whimbrel program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The operation failed.
    Failed = 1,
    /// Bad usage or bad input.
    Usage = 2,
    /// Something that this build does not do.
    NotSupported = 3,
    /// Refused by policy or verification.
    Refused = 4,
}

/// One failure: what was attempted, why it failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{attempted}: {why}")]
pub(crate) struct Failure {
    attempted: String,
    why: String,
    hint: Option<String>,
    exit: Exit,
}

#[derive(Serialize)]
struct FailureJson<'a> {
    error: String,
    hint: Option<&'a str>,
    exit_code: u8,
}

impl Failure {
    /// The operation failed.
    pub(crate) fn failed(attempted: impl Into<String>, why: impl Display) -> Self {
        Self::new(attempted, why, Exit::Failed)
    }

    /// Bad usage or bad input.
    pub(crate) fn usage(attempted: impl Into<String>, why: impl Display) -> Self {
        Self::new(attempted, why, Exit::Usage)
    }

    /// Something that this build does not do.
    pub(crate) fn not_supported(attempted: impl Into<String>, why: impl Display) -> Self {
        Self::new(attempted, why, Exit::NotSupported)
    }

    /// Refused by policy or verification.
    pub(crate) fn refused(attempted: impl Into<String>, why: impl Display) -> Self {
        Self::new(attempted, why, Exit::Refused)
    }

    /// A failure with the exit code given.
    pub(crate) fn new(attempted: impl Into<String>, why: impl Display, exit: Exit) -> Self {
        Self { attempted: attempted.into(), why: why.to_string(), hint: None, exit }
    }

    /// Adds what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The number for the shell.
    pub(crate) const fn exit_code(&self) -> u8 {
        self.exit as u8
    }

    /// The lines for standard error: one JSON object, or `error:` and perhaps `hint:`.
    pub(crate) fn render(&self, json: bool) -> String {
        let error = one_line(&self.to_string());
        let hint = self.hint.as_deref().map(one_line);
        if json {
            let body = FailureJson { error, hint: hint.as_deref(), exit_code: self.exit_code() };
            return serde_json::to_string(&body).unwrap_or_else(|_| r#"{"error":"unprintable"}"#.to_owned());
        }
        match hint {
            Some(hint) => format!("error: {error}\nhint: {hint}"),
            None => format!("error: {error}"),
        }
    }
}

/// An error and the whole chain of its causes as one sentence; libraries show only the top one.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Breaks and repeated blanks become single blanks: an error is one line whatever a parser or server said.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_one_error_line_and_perhaps_one_hint_line() {
        let failure = Failure::refused("enrolling", "bad\nfingerprint").hint("ask for\na token");
        assert_eq!(failure.render(false), "error: enrolling: bad fingerprint\nhint: ask for a token");
        assert_eq!(failure.exit_code(), 4);
        assert_eq!(Failure::failed("a", "b").render(false), "error: a: b");
    }

    #[test]
    fn json_is_one_object_with_the_exit_code() {
        let text = Failure::not_supported("loading m.onnx", "operator X").render(true);
        let value: serde_json::Value = serde_json::from_str(&text).expect("is JSON");
        assert_eq!(value["exit_code"], 3);
        assert_eq!(value["error"], "loading m.onnx: operator X");
        assert!(value["hint"].is_null());
    }
}

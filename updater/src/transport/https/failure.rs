//! What failed requests mean.

use crate::transport::TransportError;
use std::{error::Error, io, time::Duration};

/// Something that may be there later.
pub(super) fn unavailable(what: &str, why: &str, retry_after: Option<Duration>) -> TransportError {
    TransportError::Unavailable { what: what.to_owned(), why: why.to_owned(), retry_after }
}

/// What a failed request means.
pub(super) fn failed(what: &str, error: &reqwest::Error) -> TransportError {
    let what = what.to_owned();
    match tls_error(error) {
        Some(tls) => TransportError::Tls { what, why: tls.to_string() },
        None => TransportError::Unavailable { what, why: chain(error), retry_after: None },
    }
}

/// The TLS library's error among the causes. I/O errors carry it where their `source` does not lead.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause: Option<&'a (dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// An error with its causes in one line; reqwest itself names only the outermost.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

//! What an answer's status and headers say.

use crate::transport::headers::{self, ContentRange};
use reqwest::{
    StatusCode,
    header::{CONTENT_RANGE, DATE, HeaderMap, LOCATION, RETRY_AFTER},
};
use std::time::Duration;

/// What follows from an answer's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The whole file follows.
    Whole,
    /// The rest of it follows, from the byte that was asked for.
    Rest,
    /// There is no such file.
    Absent,
    /// What was asked for cannot be given from there: ask for the whole.
    Again,
    /// Not now.
    Later {
        why: String,
        /// How long the server asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// Never.
    Refused { why: String },
}

/// What an answer to a request for all from byte `from` means.
pub(super) fn judge(status: StatusCode, headers: &HeaderMap, from: u64) -> Verdict {
    let why = format!("status {status}");
    match status {
        StatusCode::OK => Verdict::Whole,
        StatusCode::PARTIAL_CONTENT if from > 0 && is_rest(headers, from) => Verdict::Rest,
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => Verdict::Again,
        StatusCode::NOT_FOUND | StatusCode::GONE => Verdict::Absent,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            Verdict::Later { why, retry_after: retry_after(headers) }
        }
        _ if status.is_server_error() => Verdict::Later { why, retry_after: retry_after(headers) },
        // No file of ours is anywhere else. A network that wants a login first answers so, and may not tomorrow.
        _ if status.is_redirection() => {
            let to = text(headers, LOCATION.as_str()).unwrap_or("nowhere");
            let to: String = to.chars().take(200).collect();
            Verdict::Later { why: format!("{why} to {to:?}, which is not followed"), retry_after: None }
        }
        _ => Verdict::Refused { why },
    }
}

/// Whether `Content-Range` says that the file follows from byte `from` to its end.
fn is_rest(headers: &HeaderMap, from: u64) -> bool {
    let range = text(headers, CONTENT_RANGE.as_str()).and_then(ContentRange::parse);
    range.is_some_and(|range| range.is_rest(from))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers::retry_after(text(headers, RETRY_AFTER.as_str())?, text(headers, DATE.as_str()))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    Some(headers.get(name)?.to_str().ok()?.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("text")))
            .collect()
    }

    fn wait(pairs: &[(&'static str, &str)]) -> Option<u64> {
        match judge(StatusCode::SERVICE_UNAVAILABLE, &headers(pairs), 0) {
            Verdict::Later { retry_after, .. } => retry_after.map(|wait| wait.as_secs()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn waits_are_seconds_or_a_date_by_the_servers_clock() {
        assert_eq!(wait(&[("retry-after", " 120 ")]), Some(120));
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(wait(&[date, ("retry-after", "Sun, 06 Nov 1994 08:59:37 GMT")]), Some(600));
        assert_eq!(wait(&[date, ("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")]), Some(0), "is past");
        assert_eq!(
            wait(&[("retry-after", "Sun, 06 Nov 1994 08:59:37 GMT")]),
            None,
            "no clock to compare with"
        );
        assert_eq!(wait(&[date, ("retry-after", "soon")]), None);
        assert_eq!(wait(&[]), None);
    }

    #[test]
    fn only_the_rest_that_was_asked_for_is_taken() {
        let partial = |range| judge(StatusCode::PARTIAL_CONTENT, &headers(&[("content-range", range)]), 3);
        assert_eq!(partial("bytes 3-9/10"), Verdict::Rest);
        for other in ["bytes 2-9/10", "bytes 3-8/10", "bytes 3-9/*", "bytes */10", "items 3-9/10", ""] {
            assert_eq!(partial(other), Verdict::Again, "{other}");
        }
        assert_eq!(judge(StatusCode::RANGE_NOT_SATISFIABLE, &HeaderMap::new(), 3), Verdict::Again);
        assert_eq!(judge(StatusCode::OK, &HeaderMap::new(), 3), Verdict::Whole);
        // Nobody asked for a part.
        let unasked = judge(StatusCode::PARTIAL_CONTENT, &headers(&[("content-range", "bytes 0-9/10")]), 0);
        assert!(matches!(unasked, Verdict::Refused { .. }));
    }

    #[test]
    fn refusals_are_final_save_those_that_name_the_moment() {
        let of = |status: u16| judge(StatusCode::from_u16(status).expect("a status"), &HeaderMap::new(), 0);
        for status in [400, 401, 403, 405, 409, 418, 451] {
            assert!(matches!(of(status), Verdict::Refused { .. }), "{status}");
        }
        for status in [408, 429, 500, 502, 503, 504, 301, 302, 307, 308, 511] {
            assert!(matches!(of(status), Verdict::Later { .. }), "{status}");
        }
        assert_eq!((of(404), of(410)), (Verdict::Absent, Verdict::Absent));
    }
}

//! What anyone may fetch: metadata, targets, chunks. Their bytes prove themselves, so no credential is asked for.

use super::{Shared, problem::problem};
use crate::service::{Fault, TIMESTAMP};
use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use whimbrel_wire::Digest;

const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// `GET /tuf/{file}`.
pub(crate) async fn metadata(
    State(state): State<Shared>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let bytes = state.fleet.metadata_file(&file).await.map_err(Fault::into_response)?;
    let cache = if file == TIMESTAMP { "no-cache" } else { IMMUTABLE };
    Ok(answer(bytes.ok_or_else(|| absent(&file))?, "application/json", cache, &headers))
}

/// `GET /tuf/targets/{dir}/{sha256}.{name}`.
pub(crate) async fn target(
    State(state): State<Shared>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let hash = state.fleet.target_hash(&path).await.map_err(Fault::into_response)?;
    let hash = hash.ok_or_else(|| absent(&path))?;
    let bytes = state.fleet.targets().get(&hash).await.map_err(|e| Fault::from(e).into_response())?;
    Ok(answer(bytes.ok_or_else(|| absent(&path))?, "application/octet-stream", IMMUTABLE, &headers))
}

/// `GET /chunks/{sha256}`.
pub(crate) async fn chunk(
    State(state): State<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let hash: Digest = name.parse().map_err(|_| absent(&name))?;
    let bytes = state.fleet.chunks().get(&hash).await.map_err(|e| Fault::from(e).into_response())?;
    Ok(answer(bytes.ok_or_else(|| absent(&name))?, "application/octet-stream", IMMUTABLE, &headers))
}

fn absent(name: &str) -> Response {
    let name: String = name.chars().take(200).collect();
    problem(StatusCode::NOT_FOUND, "not_found", format!("there is no file {name:?}"))
}

/// Answers with the bytes, or with the one range that was asked for (RFC 9110, section 14).
fn answer(bytes: Vec<u8>, content_type: &'static str, cache: &'static str, headers: &HeaderMap) -> Response {
    let total = bytes.len();
    let asked = headers.get(header::RANGE).and_then(|v| v.to_str().ok());
    let mut response = match asked.map_or(Range::Whole, |text| range(text, total)) {
        Range::Whole => Response::new(Body::from(bytes)),
        Range::Part(first, last) => {
            let part = bytes::Bytes::from(bytes).slice(first..=last);
            let mut response = Response::new(Body::from(part));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            set(&mut response, header::CONTENT_RANGE, &format!("bytes {first}-{last}/{total}"));
            response
        }
        Range::Beyond => {
            let mut response =
                problem(StatusCode::RANGE_NOT_SATISFIABLE, "range", format!("the file has {total} bytes"));
            set(&mut response, header::CONTENT_RANGE, &format!("bytes */{total}"));
            return response;
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    response
}

fn set(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    /// First and last byte, both included.
    Part(usize, usize),
    Beyond,
}

/// A single byte range; anything else is answered whole, as the standard allows.
fn range(text: &str, total: usize) -> Range {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|r| r.split_once('-')) else {
        return Range::Whole;
    };
    let number = |s: &str| s.parse::<usize>().ok();
    match (number(first), number(last)) {
        (Some(first), _) if first >= total => Range::Beyond,
        (Some(first), Some(end)) if first <= end => Range::Part(first, end.min(total - 1)),
        (Some(first), None) if last.is_empty() => Range::Part(first, total - 1),
        (None, Some(0)) if first.is_empty() => Range::Beyond,
        (None, Some(suffix)) if first.is_empty() && total > 0 => {
            Range::Part(total.saturating_sub(suffix), total - 1)
        }
        _ => Range::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_the_standard() {
        assert_eq!(range("bytes=0-9", 100), Range::Part(0, 9));
        assert_eq!(range("bytes=90-200", 100), Range::Part(90, 99));
        assert_eq!(range("bytes=90-", 100), Range::Part(90, 99));
        assert_eq!(range("bytes=-10", 100), Range::Part(90, 99));
        assert_eq!(range("bytes=-1000", 100), Range::Part(0, 99));
        assert_eq!(range("bytes=100-", 100), Range::Beyond);
        assert_eq!(range("bytes=-0", 100), Range::Beyond);
        for whole in ["bytes=9-0", "bytes=a-b", "bytes=0-1,3-4", "lines=0-1", "bytes=", "bytes=-"] {
            assert_eq!(range(whole, 100), Range::Whole, "{whole}");
        }
        assert_eq!(range("bytes=0-", 0), Range::Beyond);
    }
}

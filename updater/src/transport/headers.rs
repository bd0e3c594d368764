//! Values of headers that a server answers with (RFC 9110).

use std::time::Duration;
use time::{PrimitiveDateTime, format_description::BorrowedFormatItem, macros::format_description};

/// The form that every server has to write (RFC 9110, 5.6.7).
const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// Which part of a file an answer holds: the `Content-Range` of one with status 206, where the file's length is stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// Offset of its first byte.
    pub first: u64,
    /// Offset of its last byte, never before the first.
    pub last: u64,
    /// Length of the whole file, beyond the last byte.
    pub whole_bytes: u64,
}

impl ContentRange {
    /// Reads `bytes FIRST-LAST/WHOLE`; `None` for anything else.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let (range, whole) = value.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let range = Self { first: number(first)?, last: number(last)?, whole_bytes: number(whole)? };
        (range.first <= range.last && range.last < range.whole_bytes).then_some(range)
    }

    /// Whether it goes from byte `from` to the file's end.
    #[must_use]
    pub fn is_rest(&self, from: u64) -> bool {
        self.first == from && self.whole_bytes.checked_sub(1) == Some(self.last)
    }
}

/// How long to wait by a `Retry-After`: seconds, or a date. A date is compared with the server's own, the answer's `Date`, so
/// that the device's clock does not matter.
#[must_use]
pub fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    if let Some(seconds) = number(value) {
        return Some(Duration::from_secs(seconds));
    }
    let read = |value: &str| PrimitiveDateTime::parse(value, HTTP_DATE).ok();
    let (until, now) = (read(value)?, read(date?)?);
    Some((until - now).try_into().unwrap_or_default())
}

/// Nothing but digits.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_lies_within_its_file() {
        let range = ContentRange::parse("bytes 3-9/10").expect("a range");
        assert_eq!(range, ContentRange { first: 3, last: 9, whole_bytes: 10 });
        assert!(range.is_rest(3) && !range.is_rest(2));
        assert!(!ContentRange::parse("bytes 3-8/10").expect("a range").is_rest(3));
        for other in
            ["bytes 3-2/10", "bytes 3-2/3", "bytes 3-10/10", "bytes +3-9/10", "bytes 3-9/*", "bytes */10", ""]
        {
            assert_eq!(ContentRange::parse(other), None, "{other}");
        }
    }

    #[test]
    fn seconds_are_nothing_but_digits() {
        assert_eq!(retry_after("120", None), Some(Duration::from_secs(120)));
        for other in ["+120", "-1", "1.5", "", "18446744073709551616"] {
            assert_eq!(retry_after(other, None), None, "{other}");
        }
    }
}

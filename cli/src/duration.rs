//! Durations as people write them: a number and a unit, several in a row (`90s`, `1h30m`, `2d`).

use std::time::Duration;

/// Reads a duration for a command line argument.
///
/// # Errors
/// A sentence that shows the accepted form.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    const FORM: &str = "expected a number and a unit, such as 500ms, 90s, 15m, 1h30m, 7d";
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(FORM.to_owned());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let number: u64 = number.parse().map_err(|_| FORM.to_owned())?;
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(FORM.to_owned()),
        };
        let part = number.checked_mul(unit_ms).ok_or("longer than can be counted")?;
        total = total.checked_add(Duration::from_millis(part)).ok_or("longer than can be counted")?;
        rest = tail;
    }
    Ok(total)
}

/// The whole seconds of a duration for a field of that unit; a part of a second counts as one.
///
/// # Errors
/// When there are more seconds than the field holds.
pub(crate) fn seconds_u32(duration: Duration) -> Result<u32, String> {
    let whole = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(whole).map_err(|_| format!("{whole} s, at most {} s are accepted", u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_added() {
        for (text, ms) in [
            ("0s", 0),
            ("250ms", 250),
            ("90s", 90_000),
            ("15m", 900_000),
            ("1h30m", 5_400_000),
            (" 2d ", 172_800_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "5",
            "s",
            "1.5h",
            "-1s",
            "1 h",
            "1w",
            "1h30",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(parse(bad).is_err(), "accepted {bad:?}");
        }
    }

    #[test]
    fn parts_of_a_second_round_up() {
        assert_eq!(seconds_u32(Duration::from_millis(1)), Ok(1));
        assert_eq!(seconds_u32(Duration::from_secs(60)), Ok(60));
        assert!(seconds_u32(Duration::from_secs(u64::from(u32::MAX) + 1)).is_err());
    }
}

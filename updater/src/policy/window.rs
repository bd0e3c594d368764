//! Times of the day and of the week, by the clock on the device's wall.

use std::{fmt, str::FromStr};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY_MINUTES: u16 = 24 * 60;

/// A moment of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// From Monday, 0, to Sunday, 6.
    day: u8,
    /// Minutes since midnight.
    minute: u16,
}

impl LocalTime {
    /// `day` counts from Monday, 0. What is beyond the week or the day is brought back into it.
    #[must_use]
    pub const fn new(day: u8, hour: u8, minute: u8) -> Self {
        Self { day: day % 7, minute: (hour as u16 * 60 + minute as u16) % DAY_MINUTES }
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = DAYS.get(usize::from(self.day)).unwrap_or(&"");
        write!(f, "{day} {:02}:{:02}", self.minute / 60, self.minute % 60)
    }
}

/// A stretch of the day, on some days of the week: `22:00-06:00`, `Sat 00:00-24:00`, `Mon-Fri 01:30-05:00`. One that ends
/// before it begins ends on the next day; the day is that of its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First and last day; the last may come before the first.
    days: Option<(u8, u8)>,
    from: u16,
    to: u16,
}

/// Text that is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no window: expected one like 22:00-06:00 or Mon-Fri 01:30-05:00")]
pub struct WindowError(String);

impl Window {
    /// Whether a moment is in it.
    #[must_use]
    pub fn holds(&self, now: LocalTime) -> bool {
        let yesterday = (now.day + 6) % 7;
        if self.from < self.to {
            return self.is_on(now.day) && (self.from..self.to).contains(&now.minute);
        }
        (self.is_on(now.day) && now.minute >= self.from) || (self.is_on(yesterday) && now.minute < self.to)
    }

    const fn is_on(&self, day: u8) -> bool {
        match self.days {
            None => true,
            Some((first, last)) if first <= last => first <= day && day <= last,
            Some((first, last)) => day >= first || day <= last,
        }
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text.trim()).ok_or_else(|| WindowError(text.chars().take(80).collect()))
    }
}

fn parse(text: &str) -> Option<Window> {
    let (days, times) = match text.rsplit_once(' ') {
        Some((days, times)) => (Some(parse_days(days.trim())?), times),
        None => (None, text),
    };
    let (from, to) = times.split_once('-')?;
    let (from, to) = (parse_time(from)?, parse_time(to)?);
    (from != to && from < DAY_MINUTES).then_some(Window { days, from, to })
}

fn parse_days(text: &str) -> Option<(u8, u8)> {
    let day = |text: &str| {
        let found = DAYS.iter().position(|day| day.eq_ignore_ascii_case(text.trim()))?;
        u8::try_from(found).ok()
    };
    match text.split_once('-') {
        Some((first, last)) => Some((day(first)?, day(last)?)),
        None => day(text).map(|day| (day, day)),
    }
}

/// Minutes since midnight; 24:00 is the end of the day.
fn parse_time(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let minutes = hour * 60 + minute;
    (minute < 60 && minutes <= DAY_MINUTES).then_some(minutes)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |day: u8| DAYS.get(usize::from(day)).copied().unwrap_or_default();
        match self.days {
            None => {}
            Some((first, last)) if first == last => write!(f, "{} ", name(first))?,
            Some((first, last)) => write!(f, "{}-{} ", name(first), name(last))?,
        }
        let (from, to) = (self.from, self.to);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(window: &str, day: u8, hour: u8, minute: u8) -> bool {
        window.parse::<Window>().expect("a window").holds(LocalTime::new(day, hour, minute))
    }

    #[test]
    fn a_window_begins_with_its_first_minute_and_ends_before_its_last() {
        assert!(!holds("01:30-05:00", 2, 1, 29));
        assert!(holds("01:30-05:00", 2, 1, 30));
        assert!(holds("01:30-05:00", 2, 4, 59));
        assert!(!holds("01:30-05:00", 2, 5, 0));
        assert!(holds("00:00-24:00", 6, 23, 59));
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_began() {
        let friday_night = "Fri 22:00-06:00";
        assert!(holds(friday_night, 4, 22, 0));
        assert!(holds(friday_night, 5, 5, 59));
        assert!(!holds(friday_night, 5, 22, 0));
        assert!(!holds(friday_night, 4, 5, 59));
        assert!(holds("Sun 23:00-01:00", 0, 0, 30), "the week ends at midnight too");
    }

    #[test]
    fn days_may_go_over_the_end_of_the_week() {
        for (day, expected) in [(4, true), (5, true), (6, true), (0, true), (1, false), (3, false)] {
            assert_eq!(holds("Fri-Mon 10:00-11:00", day, 10, 30), expected, "{day}");
        }
    }

    #[test]
    fn windows_are_shown_as_they_are_written_and_others_refused() {
        for text in ["22:00-06:00", "Sat 00:00-24:00", "Mon-Fri 01:30-05:00"] {
            assert_eq!(text.parse::<Window>().expect("a window").to_string(), text);
        }
        for text in [
            "",
            "22-06",
            "25:00-06:00",
            "1:00-2:00",
            "10:60-11:00",
            "Tag 10:00-11:00",
            "10:00-10:00",
            "24:00-01:00",
            "10:00",
            "+1:00-02:00",
            "24:01-01:00",
        ] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }
}

//! Processors by their numbers.

use std::{fmt, str::FromStr};

/// Which of the machine's processors something may use: some of the first [`Cores::COUNT_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cores(u128);

impl Cores {
    /// Processors that can be named: 0 to one less.
    pub const COUNT_MAX: usize = 128;

    /// Those of these numbers, which are below [`Self::COUNT_MAX`]; `None` where there are none.
    #[must_use]
    pub fn of(numbers: impl IntoIterator<Item = usize>) -> Option<Self> {
        let bit = |number: usize| if number < Self::COUNT_MAX { 1u128 << number } else { 0 };
        let bits = numbers.into_iter().fold(0, |bits, number| bits | bit(number));
        (bits != 0).then_some(Self(bits))
    }

    /// How many there are.
    #[must_use]
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Their numbers, in order.
    pub fn numbers(self) -> impl Iterator<Item = usize> {
        (0..Self::COUNT_MAX).filter(move |number| self.0 >> number & 1 == 1)
    }

    /// Those that are among others as well.
    #[must_use]
    pub const fn among(self, others: Self) -> Option<Self> {
        match self.0 & others.0 {
            0 => None,
            bits => Some(Self(bits)),
        }
    }

    /// Those that are not among others.
    #[must_use]
    pub const fn without(self, others: Self) -> Option<Self> {
        match self.0 & !others.0 {
            0 => None,
            bits => Some(Self(bits)),
        }
    }
}

/// Text that names no processors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected numbers of processors below {}, like 0-1 or 0,2,4-7", Cores::COUNT_MAX)]
pub struct CoresError;

impl FromStr for Cores {
    type Err = CoresError;

    /// As the system writes them: `0-1,4`.
    fn from_str(text: &str) -> Result<Self, CoresError> {
        let mut numbers = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n < Self::COUNT_MAX);
            let (first, last) = (number(first).ok_or(CoresError)?, number(last).ok_or(CoresError)?);
            if first > last {
                return Err(CoresError);
            }
            numbers.extend(first..=last);
        }
        Self::of(numbers).ok_or(CoresError)
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.numbers().peekable();
        let mut separator = "";
        while let Some(first) = numbers.next() {
            let mut last = first;
            while let Some(next) = numbers.next_if_eq(&(last + 1)) {
                last = next;
            }
            if first == last {
                write!(f, "{separator}{first}")?;
            } else {
                write!(f, "{separator}{first}-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_numbers_agree() {
        for (text, numbers, shown) in [
            ("0", vec![0], "0"),
            ("0-1", vec![0, 1], "0-1"),
            ("3,1,2,7", vec![1, 2, 3, 7], "1-3,7"),
            (" 0 , 127", vec![0, 127], "0,127"),
        ] {
            let cores: Cores = text.parse().expect(text);
            assert_eq!(cores.numbers().collect::<Vec<_>>(), numbers, "{text}");
            assert_eq!((cores.count(), cores.to_string().as_str()), (numbers.len(), shown));
        }
        for bad in ["", "a", "1-0", "128", "0-", "0,,1", "-1", "0-99999999999999999999"] {
            assert_eq!(bad.parse::<Cores>(), Err(CoresError), "{bad:?}");
        }
    }

    #[test]
    fn sets_meet_and_part() {
        let [a, b] = ["0-2", "2-3"].map(|text| text.parse::<Cores>().expect("a set"));
        assert_eq!(a.among(b).map(|cores| cores.to_string()).as_deref(), Some("2"));
        assert_eq!(a.without(b).map(|cores| cores.to_string()).as_deref(), Some("0-1"));
        assert_eq!((a.without(a), Cores::of([])), (None, None));
    }
}

//! The header of an npy file: a Python dictionary with three known keys. Nothing else of Python is understood.

use super::npy::NpyError;

/// Longest accepted header.
pub(super) const HEADER_BYTES_MAX: usize = 64 << 10;
/// Most dimensions, as in numpy.
const RANK_MAX: usize = 64;

/// What an npy file says about its array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// Type string, e.g. `<f4`.
    pub(super) descr: String,
    /// Whether the first index changes fastest.
    pub(super) fortran_order: bool,
    /// The sizes.
    pub(super) shape: Vec<usize>,
}

impl Header {
    /// Reads a header's text.
    ///
    /// # Errors
    /// It is not of the form.
    pub(super) fn parse(text: &str) -> Result<Self, NpyError> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        let mut scanner = Scanner { rest: text };
        scanner.expect('{')?;
        while !scanner.accept('}') {
            let key = scanner.string()?;
            scanner.expect(':')?;
            match key {
                "descr" if scanner.peek('[') => {
                    return Err(NpyError::Datatype("a structured type".to_owned()));
                }
                "descr" => descr = Some(scanner.string()?.to_owned()),
                "fortran_order" => fortran_order = Some(scanner.boolean()?),
                "shape" => shape = Some(scanner.tuple()?),
                _ => return Err(malformed("a key is unknown")),
            }
            if !scanner.accept(',') {
                scanner.expect('}')?;
                break;
            }
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) if scanner.rest.trim().is_empty() => {
                Ok(Self { descr, fortran_order, shape })
            }
            _ => Err(malformed("a key is missing, or something follows the last")),
        }
    }

    /// The header as numpy writes it, magic and padding included.
    pub(super) fn encode(&self) -> Vec<u8> {
        let sizes: String = self.shape.iter().map(|size| format!("{size}, ")).collect();
        let order = if self.fortran_order { "True" } else { "False" };
        let text = format!("{{'descr': '{}', 'fortran_order': {order}, 'shape': ({sizes}), }}", self.descr);
        // Data begins at a multiple of 64 bytes; the text ends with a line feed.
        let padded = (10 + text.len() + 1).next_multiple_of(64) - 10;
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        // At most 64 sizes of 20 digits: far below 64 KiB.
        bytes.extend_from_slice(&u16::try_from(padded).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend_from_slice(format!("{text:<width$}\n", width = padded - 1).as_bytes());
        bytes
    }
}

fn malformed(why: &'static str) -> NpyError {
    NpyError::Header(why)
}

struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn peek(&mut self, c: char) -> bool {
        self.skip_blanks();
        self.rest.starts_with(c)
    }

    fn accept(&mut self, c: char) -> bool {
        self.skip_blanks();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, c: char) -> Result<(), NpyError> {
        if self.accept(c) { Ok(()) } else { Err(malformed("not a dictionary of plain values")) }
    }

    fn string(&mut self) -> Result<&'a str, NpyError> {
        let quote = if self.accept('\'') {
            '\''
        } else {
            self.expect('"')?;
            '"'
        };
        let (text, rest) = self.rest.split_once(quote).ok_or_else(|| malformed("a string has no end"))?;
        if text.contains('\\') {
            return Err(malformed("a string holds an escape"));
        }
        self.rest = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, NpyError> {
        self.skip_blanks();
        for (text, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(text) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(malformed("fortran_order is neither True nor False"))
    }

    fn tuple(&mut self) -> Result<Vec<usize>, NpyError> {
        let mut sizes = Vec::new();
        self.expect('(')?;
        while !self.accept(')') {
            self.skip_blanks();
            let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
            let (digits, rest) = self.rest.split_at(end);
            sizes.push(digits.parse().map_err(|_| malformed("shape holds something that is no size"))?);
            if sizes.len() > RANK_MAX {
                return Err(malformed("shape has more than 64 dimensions"));
            }
            self.rest = rest;
            if !self.accept(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_numpy_writes_is_read() {
        let cases = [
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 64), }   \n", "<f4", false, vec![1, 64]),
            ("{'descr': '|u1', 'fortran_order': True, 'shape': (3,), }\n", "|u1", true, vec![3]),
            ("{\"shape\": (), \"descr\": \">i8\", \"fortran_order\": False}", ">i8", false, vec![]),
        ];
        for (text, descr, fortran_order, shape) in cases {
            let expected = Header { descr: descr.into(), fortran_order, shape };
            assert_eq!(Header::parse(text).expect(text), expected);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let nested = "(".repeat(100_000);
        let many = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({})}}", "1,".repeat(65));
        for text in [
            "",
            "{}",
            "[]",
            "{'descr': '<f4', 'fortran_order': False}",
            "{'descr': '<f4', 'fortran_order': 0, 'shape': ()}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1)} x",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '<f4, 'fortran_order': False, 'shape': (1,)}",
            &nested,
            &many,
        ] {
            assert!(Header::parse(text).is_err(), "accepted {text:.80}");
        }
    }

    #[test]
    fn a_header_comes_back_and_keeps_the_data_aligned() {
        for shape in [vec![], vec![1], vec![12, 0, 7], vec![usize::MAX; 64]] {
            let header = Header { descr: "<f8".into(), fortran_order: false, shape };
            let bytes = header.encode();
            assert_eq!(bytes.len() % 64, 0);
            let text = std::str::from_utf8(&bytes[10..]).expect("text");
            assert_eq!(Header::parse(text).expect("parses"), header);
        }
    }
}

//! Little-endian fields for the journal: a writer that cuts what is too long, a reader that never reads past the end.

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = cut(text, usize::from(u16::MAX));
    #[allow(clippy::cast_possible_truncation, reason = "cut to u16::MAX above")]
    let len = text.len() as u16;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// The longest prefix of at most `len_max` bytes.
pub(crate) fn cut(text: &str, len_max: usize) -> &str {
    let mut end = text.len().min(len_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Numbers with a 16-bit count; the caller keeps them within it.
pub(crate) fn put_numbers(out: &mut Vec<u8>, numbers: &[f64]) {
    let count = u16::try_from(numbers.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    for n in numbers.iter().take(usize::from(count)) {
        out.extend_from_slice(&n.to_le_bytes());
    }
}

/// Reads fields from the front of a slice; `None` once anything is missing.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[b]| b)
    }
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }
    pub(crate) fn f64(&mut self) -> Option<f64> {
        self.array().map(f64::from_le_bytes)
    }
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let len = self.u16()?;
        std::str::from_utf8(self.take(usize::from(len))?).ok()
    }
    pub(crate) fn numbers(&mut self) -> Option<Vec<f64>> {
        let count = usize::from(self.u16()?);
        // The slice bounds the allocation, whatever the count claims.
        let raw = self.take(count.checked_mul(8)?)?;
        Some(raw.chunks_exact(8).filter_map(|c| c.try_into().ok().map(f64::from_le_bytes)).collect())
    }
    pub(crate) fn is_done(&self) -> bool {
        self.0.is_empty()
    }
}

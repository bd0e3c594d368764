//! What commands print: a table or sentences for people, one JSON value with `--json`.

use crate::error::Failure;
use serde::Serialize;
use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
};

/// How this run prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// One JSON value instead of text.
    pub(crate) json: bool,
}

impl Output {
    /// Prints `value` as JSON, or the text made from it.
    ///
    /// # Errors
    /// When standard output cannot be written; a reader that left early (`| head`) is no failure.
    pub(crate) fn emit<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let body = if self.json {
            serde_json::to_string_pretty(value)
                .map_err(|e| Failure::failed("writing the result as JSON", e))?
        } else {
            text(value)
        };
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{}", body.trim_end()).and_then(|()| out.flush()) {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Failure::failed("writing to standard output", e))
            }
            _ => Ok(()),
        }
    }

    /// A progress bar that counts `what`; hidden unless standard error is a terminal.
    pub(crate) fn progress(self, len: u64, what: &'static str) -> indicatif::ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return indicatif::ProgressBar::hidden();
        }
        let bar = indicatif::ProgressBar::new(len).with_message(what);
        match indicatif::ProgressStyle::with_template("{msg} [{bar:32}] {bytes}/{total_bytes} {eta}") {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}

/// Columns padded to their widest cell; the header first.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return "none".to_owned();
    }
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let header: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A number of bytes with a binary unit.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Milliseconds since 1970 as an RFC 3339 time in UTC; the number itself where it is no date.
pub(crate) fn moment(ms: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000))
        .ok()
        .and_then(|t| t.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_else(|| format!("{ms} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_trailing_blanks() {
        let rows = vec![vec!["a".into(), "long cell".into()], vec!["bbbb".into(), "x".into()]];
        assert_eq!(table(&["ID", "WHAT"], &rows), "ID    WHAT\na     long cell\nbbbb  x\n");
        assert_eq!(table(&["ID"], &[]), "none");
    }

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(moment(i64::MAX), format!("{} ms", i64::MAX));
    }
}

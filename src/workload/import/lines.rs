//! Lines of a text file, numbered and bounded.

use std::io::{BufRead, Read};

use super::ImportError;
use crate::units::Time;

/// Longest line read; a longer one is not the format it claims to be.
const LINE_BYTES_MAX: u64 = 1 << 16;

/// Reads lines that are not blank and no comment (`#`).
pub(super) struct Lines<'a, R> {
    file: &'a str,
    reader: R,
    line: u64,
    bytes: Vec<u8>,
}

impl<'a, R: BufRead> Lines<'a, R> {
    pub(super) fn new(file: &'a str, reader: R) -> Lines<'a, R> {
        Lines { file, reader, line: 0, bytes: Vec::new() }
    }

    /// Number of the line last read.
    pub(super) fn number(&self) -> u64 {
        self.line
    }

    /// An error at the line last read.
    pub(super) fn error(&self, what: impl Into<String>) -> ImportError {
        ImportError::Line { file: self.file.into(), line: self.line, what: what.into() }
    }

    /// The next line, trimmed.
    pub(super) fn next(&mut self) -> Result<Option<String>, ImportError> {
        loop {
            self.bytes.clear();
            let mut bounded = self.reader.by_ref().take(LINE_BYTES_MAX);
            let read = bounded.read_until(b'\n', &mut self.bytes);
            let read = read.map_err(|error| ImportError::Io { file: self.file.into(), error })?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            if read as u64 == LINE_BYTES_MAX {
                return Err(self.error("longer than 65536 bytes: is this the right --format?"));
            }
            let Ok(text) = std::str::from_utf8(&self.bytes) else {
                return Err(self.error("not text: is this the right --format?"));
            };
            let text = text.trim().trim_start_matches('\u{feff}');
            if !text.is_empty() && !text.starts_with('#') {
                return Ok(Some(text.into()));
            }
        }
    }
}

/// A decimal number of units of `10^-12 x unit_ps` seconds as an exact time; `None` unless it is a number >=
/// 0 within the range of [`Time`]. Digits below a picosecond are cut.
pub(super) fn time(text: &str, unit_ps: u64) -> Option<Time> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()) {
        let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
        let mut ps = whole.checked_mul(unit_ps)?;
        let mut unit = unit_ps;
        for digit in fraction.bytes() {
            unit /= 10;
            ps = ps.checked_add(u64::from(digit - b'0') * unit)?;
        }
        return Some(Time(ps));
    }
    let value = text.parse::<f64>().ok()? * unit_ps as f64;
    (value >= 0.0 && value < u64::MAX as f64).then_some(Time(value as u64))
}

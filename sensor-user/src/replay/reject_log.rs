//! `RejectLog`: malformed lines, as `file:line: reason` on standard error.
//!
//! Their number is bounded only by the input, so the first are written and the rest are counted.

use std::io::{self, Write};
use std::path::Path;

use crate::base::escape::visible;

/// Limit of the lines that are written.
pub(super) const LISTED_MAX: u64 = 100;

/// Counter of malformed lines, which writes the first of them.
pub(super) struct RejectLog<'a> {
    out: &'a mut dyn Write,
    items: &'static str,
    count: u64,
    listed: u64,
    notes: u64,
}

impl<'a> RejectLog<'a> {
    /// `items` names the content of the lines, in the plural, for the last line of the log.
    pub(super) fn new(out: &'a mut dyn Write, items: &'static str) -> Self {
        Self { out, items, count: 0, listed: 0, notes: 0 }
    }

    /// Adds a line of `path`.
    pub(super) fn add(&mut self, path: &Path, line: u64, reason: &str) -> io::Result<()> {
        self.count += 1;
        if self.listed >= LISTED_MAX {
            return Ok(());
        }
        self.listed += 1;
        let path = path.to_string_lossy();
        writeln!(self.out, "{}:{line}: {}", visible(&path), visible(reason))
    }

    /// Adds a remark about a line that is used; it does not count as malformed.
    pub(super) fn note(&mut self, path: &Path, line: u64, text: &str) -> io::Result<()> {
        self.notes += 1;
        if self.notes > LISTED_MAX {
            return Ok(());
        }
        let path = path.to_string_lossy();
        writeln!(self.out, "{}:{line}: {}", visible(&path), visible(text))
    }

    /// Adds further remarks of which only the number is known.
    pub(super) fn add_unlisted_notes(&mut self, count: u64) {
        self.notes += count;
    }

    /// Adds further lines of which only the number is known.
    pub(super) fn add_unlisted(&mut self, count: u64) {
        self.count += count;
    }

    /// Writes the number of unlisted lines; returns the number of all.
    pub(super) fn finish(self) -> io::Result<u64> {
        let unlisted = self.count - self.listed;
        if unlisted > 0 {
            writeln!(self.out, "{unlisted} more malformed {}: counted, not listed", self.items)?;
        }
        let unlisted = self.notes.saturating_sub(LISTED_MAX);
        if unlisted > 0 {
            writeln!(self.out, "{unlisted} more values not used: counted, not listed")?;
        }
        Ok(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hundred_are_written_and_hostile_text_is_escaped() {
        let mut out = Vec::new();
        let mut log = RejectLog::new(&mut out, "rows");
        for line in 1..=150 {
            log.add(Path::new("a.json"), line, "bad \u{1b}[31m\n\u{202e}\"x\"").unwrap();
        }
        log.add_unlisted(7);
        assert_eq!(log.finish().unwrap(), 157);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 101);
        assert_eq!(lines[0], r#"a.json:1: bad \u{1b}[31m\n\u{202e}"x""#);
        assert_eq!(lines[100], "57 more malformed rows: counted, not listed");
    }
}

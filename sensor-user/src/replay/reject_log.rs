//! `RejectLog`: lines that cannot be used, as `file:line: reason` on the error stream.
//!
//! Their number is not bounded by anything but the input, so only the first are written and the
//! rest counted.

use std::io::{self, Write};
use std::path::Path;

/// Lines that are written in full.
pub(super) const SHOWN_MAX: u64 = 100;
/// Characters of a text that are written: more than a path has, as a rule.
const TEXT_MAX: usize = 512;

/// Counts what is rejected and writes the first of it.
pub(super) struct RejectLog<'a> {
    out: &'a mut dyn Write,
    what: &'static str,
    count: u64,
    shown: u64,
}

impl<'a> RejectLog<'a> {
    /// `what` the lines hold, in the plural, for the last line of the log.
    pub(super) fn new(out: &'a mut dyn Write, what: &'static str) -> Self {
        Self { out, what, count: 0, shown: 0 }
    }

    /// Notes a line of `path`.
    pub(super) fn add(&mut self, path: &Path, line: u64, reason: &str) -> io::Result<()> {
        self.count += 1;
        if self.shown >= SHOWN_MAX {
            return Ok(());
        }
        self.shown += 1;
        let path = path.to_string_lossy();
        writeln!(self.out, "{}:{line}: {}", shown(&path), shown(reason))
    }

    /// Notes further lines of which only the number is known.
    pub(super) fn add_unseen(&mut self, count: u64) {
        self.count += count;
    }

    /// Says how many were not written; returns the number of all.
    pub(super) fn finish(self) -> io::Result<u64> {
        let hidden = self.count - self.shown;
        if hidden > 0 {
            writeln!(self.out, "{hidden} more malformed {}: counted, not listed", self.what)?;
        }
        Ok(self.count)
    }
}

/// Text that a terminal can be shown: input is hostile, and so may file names be.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars().take(TEXT_MAX) {
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    shown
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
        log.add_unseen(7);
        assert_eq!(log.finish().unwrap(), 157);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 101);
        assert_eq!(lines[0], r#"a.json:1: bad \u{1b}[31m\n\u{202e}"x""#);
        assert_eq!(lines[100], "57 more malformed rows: counted, not listed");
    }
}

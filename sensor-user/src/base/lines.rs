//! `Lines`: numbered lines of hostile input, bounded in length. A line can contain any bytes, and ends
//! with LF, CR LF, or CR alone.

use std::io::{self, BufRead};

/// Limit of a line in bytes; the rest of a longer line is skipped.
pub const LINE_MAX: usize = 1 << 20;

/// Line endings of other systems that may stand inside a line: vertical tab, form feed, NEL, and the
/// line and paragraph separators of Unicode. In some formats they are text.
pub const OTHER_ENDINGS: [char; 5] = ['\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];

/// Reader of lines, with one buffer for all.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    number: u64,
    max: usize,
    /// True if the last line ended with CR, whose LF may follow.
    is_after_cr: bool,
}

/// One line, without its line ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Number of the line, from 1.
    pub number: u64,
    /// Bytes of the line; `None` if it exceeds the limit.
    pub bytes: Option<&'a [u8]>,
    /// True if a line ending follows; only the last line may lack it.
    pub is_ended: bool,
}

impl<R: BufRead> Lines<R> {
    /// Reads lines of at most [`LINE_MAX`] bytes.
    pub const fn new(reader: R) -> Self {
        Self::with_max(reader, LINE_MAX)
    }

    /// Reads lines of at most `max` bytes.
    pub const fn with_max(reader: R, max: usize) -> Self {
        Self { reader, buffer: Vec::new(), number: 0, max, is_after_cr: false }
    }

    /// Returns the next line, `None` at the end. The last line needs no line ending.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        let mut too_long = false;
        let mut is_ended = false;
        loop {
            let available = self.reader.fill_buf()?;
            if available.is_empty() {
                if self.buffer.is_empty() && !too_long {
                    return Ok(None);
                }
                break;
            }
            if std::mem::take(&mut self.is_after_cr) && available.starts_with(b"\n") {
                self.reader.consume(1);
                continue;
            }
            let end = memchr::memchr2(b'\n', b'\r', available);
            self.is_after_cr = end.is_some_and(|end| available.get(end) == Some(&b'\r'));
            let part = end.map_or(available, |end| available.split_at(end).0);
            if self.buffer.len().saturating_add(part.len()) > self.max {
                too_long = true;
            } else if !too_long {
                self.buffer.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                is_ended = true;
                break;
            }
        }
        self.number += 1;
        let bytes = (!too_long).then_some(self.buffer.as_slice());
        Ok(Some(Line { number: self.number, bytes, is_ended }))
    }
}

/// Returns the error of one line of JSON with its column. The parser's line number is left out, because
/// it parsed one line only. The text may be hostile.
pub fn json_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((reason, _position)) => format!("{reason} at column {}", error.column()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8], max: usize, buffer: usize) -> Vec<(u64, Option<String>)> {
        let mut lines = Lines::with_max(io::BufReader::with_capacity(buffer, input), max);
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            let text = line.bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            found.push((line.number, text));
        }
        found
    }

    #[test]
    fn lines_are_numbered_and_bounded() {
        for buffer in [1, 3, 64] {
            let found = lines(b"ab\r\n\nabcdef\nlast", 4, buffer);
            let text = |text: &str| Some(text.to_owned());
            assert_eq!(found, [(1, text("ab")), (2, text("")), (3, None), (4, text("last"))]);
        }
        for buffer in [1, 2, 64] {
            let found = lines(b"a\rb\r\nc\n\rd\r\r", 4, buffer);
            let texts: Vec<_> = found.iter().map(|(_, text)| text.as_deref().unwrap()).collect();
            assert_eq!(texts, ["a", "b", "c", "", "d", ""]);
        }
        assert_eq!(lines(b"", 4, 8), []);
        assert_eq!(lines(b"toolong", 4, 8), [(1, None)]);
    }
}

//! `Window`: the part of a document that is in memory, and how far it was passed.

use std::io::{self, Read};
use std::ops::Range;

/// Bytes of one object at most; a larger one is skipped.
pub(super) const OBJECT_MAX: usize = 16 << 20;
/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;

/// The part of the input that is in memory.
#[derive(Debug)]
pub(super) struct Window<R> {
    input: R,
    buffer: Vec<u8>,
    /// Where the piece at hand begins in `buffer`, and where what was read ends.
    begin: usize,
    end: usize,
    /// What of it was passed, from `begin`.
    pub(super) at: usize,
    is_done: bool,
    /// How a piece began that is too large; else "".
    pub(super) head: Vec<u8>,
}

impl<R> Window<R> {
    pub(super) const fn new(input: R) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            begin: 0,
            end: 0,
            at: 0,
            is_done: false,
            head: Vec::new(),
        }
    }

    /// Bytes of the buffer.
    #[cfg(test)]
    pub(super) const fn memory(&self) -> usize {
        self.buffer.len()
    }

    /// What was read and not passed.
    pub(super) fn ahead(&self) -> &[u8] {
        self.buffer.get(self.begin + self.at..self.end).unwrap_or_default()
    }

    /// Passes a byte.
    pub(super) const fn pass(&mut self) {
        self.at += 1;
    }

    /// Passes what is white space; whether something else comes.
    pub(super) fn pass_blank(&mut self) -> bool {
        let ahead = self.ahead();
        let length = ahead.iter().position(|byte| !byte.is_ascii_whitespace());
        self.at += length.unwrap_or(ahead.len());
        length.is_some()
    }

    /// Forgets what was passed.
    pub(super) const fn drop_passed(&mut self) {
        self.begin += self.at;
        self.at = 0;
    }

    /// Where what was passed stands in `buffer`; what comes now is another piece.
    pub(super) fn take(&mut self) -> Range<usize> {
        let begin = self.begin;
        self.drop_passed();
        begin..self.begin
    }

    /// Forgets what was passed where it is too much, but for its beginning.
    pub(super) fn bound(&mut self) {
        if self.at > OBJECT_MAX {
            if self.head.is_empty() {
                self.head = self.shown().into_bytes();
            }
            self.drop_passed();
        }
    }

    /// What [`Self::take`] gave.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.buffer.get(range).unwrap_or_default()
    }

    /// What was passed after `at`.
    pub(super) fn passed_since(&self, at: usize) -> &[u8] {
        self.buffer.get(self.begin + at..self.begin + self.at).unwrap_or_default()
    }

    /// Whether nothing but white space was passed.
    pub(super) fn is_blank(&self) -> bool {
        self.head.is_empty() && self.passed_since(0).trim_ascii().is_empty()
    }

    /// How the piece at hand begins, for a message.
    pub(super) fn shown(&self) -> String {
        shown(self.buffer.get(self.begin..self.end).unwrap_or_default())
    }

    /// What comes next, for a message.
    pub(super) fn shown_ahead(&self) -> String {
        shown(self.ahead())
    }
}

impl<R: Read> Window<R> {
    /// Reads more; whether there was any.
    pub(super) fn more(&mut self) -> io::Result<bool> {
        if self.is_done {
            return Ok(false);
        }
        if self.begin > 0 {
            self.buffer.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        if self.buffer.len() < self.end + CHUNK {
            self.buffer.resize(self.end + CHUNK, 0);
        }
        loop {
            match self.input.read(self.buffer.get_mut(self.end..).unwrap_or_default()) {
                Ok(count) => {
                    self.end += count;
                    self.is_done = count == 0;
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next byte; `None` at the end of the input.
    pub(super) fn peek(&mut self) -> io::Result<Option<u8>> {
        while self.ahead().is_empty() {
            if !self.more()? {
                return Ok(None);
            }
        }
        Ok(self.ahead().first().copied())
    }

    /// Passes a byte order mark; at the beginning.
    pub(super) fn skip_mark(&mut self) -> io::Result<()> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        while self.ahead().len() < MARK.len() && self.more()? {}
        if self.ahead().starts_with(MARK) {
            self.at += MARK.len();
        }
        Ok(())
    }

    /// Passes white space and forgets it, with what was passed before.
    pub(super) fn drop_blank(&mut self) -> io::Result<()> {
        loop {
            let is_over = self.pass_blank();
            self.drop_passed();
            if is_over || !self.more()? {
                return Ok(());
            }
        }
    }

    /// Whether this is one object a line: the second line begins one, and the first does not ask
    /// for it. Only as far as the first chunk tells.
    pub(super) fn has_lines(&mut self) -> io::Result<bool> {
        while self.ahead().len() < CHUNK && self.more()? {}
        let bytes = self.ahead();
        let Some(end) = memchr::memchr(b'\n', bytes) else { return Ok(false) };
        let (first, rest) = bytes.split_at(end);
        let asks = first.trim_ascii_end().ends_with(b"[")
            || first.trim_ascii_end().ends_with(b",")
            || first.trim_ascii_end().ends_with(b":");
        Ok(!asks && rest.trim_ascii_start().starts_with(b"{"))
    }
}

fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 40;
    String::from_utf8_lossy(bytes.get(..SHOWN).unwrap_or(bytes)).into_owned()
}

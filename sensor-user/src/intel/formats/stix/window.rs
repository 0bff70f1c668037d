//! `Window`: the part of a document in memory, and how much of it was consumed.

use std::io::{self, Read};
use std::ops::Range;

use crate::base::io::read_some;

/// Maximum size of an object in bytes; larger ones are skipped.
pub(super) const OBJECT_MAX: usize = 16 << 20;
/// Bytes per read.
const CHUNK: usize = 256 << 10;

/// The part of the input in memory.
#[derive(Debug)]
pub(super) struct Window<R> {
    input: R,
    buffer: Vec<u8>,
    /// Start of the current piece in `buffer`.
    begin: usize,
    /// End of the input in `buffer`.
    end: usize,
    /// Consumed bytes, from `begin`.
    pub(super) consumed: usize,
    is_done: bool,
    /// Beginning of a piece that is too large; otherwise empty.
    pub(super) head: Vec<u8>,
}

impl<R> Window<R> {
    pub(super) const fn new(input: R) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            begin: 0,
            end: 0,
            consumed: 0,
            is_done: false,
            head: Vec::new(),
        }
    }

    /// Returns the size of the buffer in bytes.
    #[cfg(test)]
    pub(super) const fn memory(&self) -> usize {
        self.buffer.len()
    }

    /// Returns the input that is read but not consumed.
    pub(super) fn ahead(&self) -> &[u8] {
        self.buffer.get(self.begin + self.consumed..self.end).unwrap_or_default()
    }

    pub(super) const fn advance(&mut self) {
        self.consumed += 1;
    }

    /// Consumes white space. Returns true if other input follows.
    pub(super) fn consume_blank(&mut self) -> bool {
        let ahead = self.ahead();
        let length = ahead.iter().position(|byte| !byte.is_ascii_whitespace());
        self.consumed += length.unwrap_or(ahead.len());
        length.is_some()
    }

    /// Discards the consumed input.
    pub(super) const fn discard_consumed(&mut self) {
        self.begin += self.consumed;
        self.consumed = 0;
    }

    /// Ends the current piece. Returns its range in `buffer`.
    pub(super) fn take(&mut self) -> Range<usize> {
        let begin = self.begin;
        self.discard_consumed();
        begin..self.begin
    }

    /// Discards the consumed input except its beginning, if it is larger than [`OBJECT_MAX`].
    pub(super) fn discard_excess(&mut self) {
        if self.consumed > OBJECT_MAX {
            if self.head.is_empty() {
                self.head = self.begin_for_message().into_bytes();
            }
            self.discard_consumed();
        }
    }

    /// Returns the bytes of a range from [`Self::take`].
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.buffer.get(range).unwrap_or_default()
    }

    /// Returns the consumed input after the offset `at`.
    pub(super) fn consumed_since(&self, at: usize) -> &[u8] {
        self.buffer.get(self.begin + at..self.begin + self.consumed).unwrap_or_default()
    }

    /// True if only white space was consumed.
    pub(super) fn is_blank(&self) -> bool {
        self.head.is_empty() && self.consumed_since(0).trim_ascii().is_empty()
    }

    /// Returns the beginning of the current piece, for a message.
    pub(super) fn begin_for_message(&self) -> String {
        shortened(self.buffer.get(self.begin..self.end).unwrap_or_default())
    }

    /// Returns the beginning of the unconsumed input, for a message.
    pub(super) fn ahead_for_message(&self) -> String {
        shortened(self.ahead())
    }
}

impl<R: Read> Window<R> {
    /// Reads more input. Returns false at its end.
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
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        let count = read_some(&mut self.input, free)?;
        self.end += count;
        self.is_done = count == 0;
        Ok(count > 0)
    }

    /// Returns the next byte; `None` at the end of the input.
    pub(super) fn peek(&mut self) -> io::Result<Option<u8>> {
        while self.ahead().is_empty() {
            if !self.more()? {
                return Ok(None);
            }
        }
        Ok(self.ahead().first().copied())
    }

    /// Consumes a byte order mark.
    pub(super) fn skip_byte_order_mark(&mut self) -> io::Result<()> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        while self.ahead().len() < MARK.len() && self.more()? {}
        if self.ahead().starts_with(MARK) {
            self.consumed += MARK.len();
        }
        Ok(())
    }

    /// Consumes white space, and discards all consumed input.
    pub(super) fn skip_blank(&mut self) -> io::Result<()> {
        loop {
            let is_over = self.consume_blank();
            self.discard_consumed();
            if is_over || !self.more()? {
                return Ok(());
            }
        }
    }

    /// Returns true for one object per line: the second line begins an object, and the first line
    /// does not continue in it. Only the first chunk is examined.
    pub(super) fn has_lines(&mut self) -> io::Result<bool> {
        while self.ahead().len() < CHUNK && self.more()? {}
        let bytes = self.ahead();
        let Some(end) = memchr::memchr(b'\n', bytes) else { return Ok(false) };
        let (first, rest) = bytes.split_at(end);
        let continues = first.trim_ascii_end().ends_with(b"[")
            || first.trim_ascii_end().ends_with(b",")
            || first.trim_ascii_end().ends_with(b":");
        Ok(!continues && rest.trim_ascii_start().starts_with(b"{"))
    }
}

fn shortened(bytes: &[u8]) -> String {
    const LENGTH: usize = 40;
    String::from_utf8_lossy(bytes.get(..LENGTH).unwrap_or(bytes)).into_owned()
}

//! `ObjectStream`: splits a document into its objects, with one buffer and without a tree.
//!
//! The scanner distinguishes only strings and brackets, so that an error inside an object affects
//! that object alone; the JSON is validated when the object is parsed. JSON pull parsers cannot go
//! on after such an error. Memory is bounded by the largest object, which is bounded by
//! [`OBJECT_MAX`].

use std::io::Read;

use super::super::entry::ReadError;
use super::window::{OBJECT_MAX, Window};

/// A part of a document.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    /// Number of objects or lines before it.
    pub(super) index: u64,
    pub(super) kind: PieceKind,
    /// Its bytes; only the beginning if it is too large.
    pub(super) bytes: &'a [u8],
}

/// Kind of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceKind {
    /// An object of an array.
    Object,
    /// A whole document: one object without an array `objects`.
    WholeDocument,
    /// A line that is not blank.
    Line,
    /// The last line, without a line ending, so that it may be incomplete.
    LastLine,
    /// A value in an array that is not an object.
    NotAnObject,
    /// An object or line of more than [`OBJECT_MAX`] bytes.
    TooLarge,
}

/// Position in the structure of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamState {
    Start,
    /// Inside the array of objects; nested if an object encloses the array.
    Array {
        is_nested: bool,
    },
    /// After a complete document.
    AfterDocument,
    /// Between lines.
    Lines,
}

#[derive(Debug)]
pub(super) struct ObjectStream<R> {
    window: Window<R>,
    state: StreamState,
    /// Number of objects and lines so far.
    positions: u64,
}

impl<R: Read> ObjectStream<R> {
    pub(super) fn new(input: R) -> Self {
        Self { window: Window::new(input), state: StreamState::Start, positions: 0 }
    }

    /// Returns the number of objects and lines so far.
    pub(super) const fn positions(&self) -> u64 {
        self.positions
    }

    /// Returns the size of the buffer in bytes.
    #[cfg(test)]
    pub(super) const fn memory(&self) -> usize {
        self.window.memory()
    }

    /// Returns the next piece; `None` at the end of a complete document.
    pub(super) fn next(&mut self) -> Result<Option<Piece<'_>>, ReadError> {
        loop {
            match self.state {
                StreamState::Start => {
                    if self.start()? {
                        self.state = StreamState::AfterDocument;
                        return Ok(Some(self.piece(PieceKind::WholeDocument)));
                    }
                }
                StreamState::Array { is_nested } => {
                    if self.has_element()? {
                        return self.element().map(Some);
                    }
                    if is_nested {
                        self.skip_rest_of_object()?;
                    }
                    self.state = StreamState::AfterDocument;
                }
                StreamState::AfterDocument => {
                    self.window.skip_blank()?;
                    self.window.skip_byte_order_mark()?;
                    // Documents may stand one behind the other, however they are indented.
                    self.state = match self.window.peek()? {
                        Some(b'{' | b'[') => StreamState::Start,
                        _ => StreamState::Lines,
                    };
                }
                StreamState::Lines => return self.line(),
            }
        }
    }

    /// Finds the array of objects. Returns true for one object without such an array, which is then
    /// the consumed input.
    fn start(&mut self) -> Result<bool, ReadError> {
        self.window.skip_byte_order_mark()?;
        self.window.skip_blank()?;
        if self.window.has_lines()? {
            self.state = StreamState::Lines;
            return Ok(false);
        }
        match self.window.peek()? {
            None => Err(ReadError::Format("the body is empty".to_owned())),
            Some(b'[') => {
                self.window.advance();
                self.state = StreamState::Array { is_nested: false };
                Ok(false)
            }
            Some(b'{') => self.members(),
            Some(_) => {
                let begin = self.window.begin_for_message();
                Err(ReadError::Format(format!("the body begins with {begin:?} and is not JSON")))
            }
        }
    }

    /// Consumes the members of the outer object up to `objects`. Returns true if there is no such
    /// array.
    fn members(&mut self) -> Result<bool, ReadError> {
        self.window.advance();
        loop {
            self.blank()?;
            match self.window.peek()? {
                Some(b'}') => {
                    self.window.advance();
                    return Ok(true);
                }
                Some(b',') => self.window.advance(),
                Some(b'"') => {
                    let begin = self.window.consumed;
                    self.value()?;
                    let is_objects = self.window.consumed_since(begin) == br#""objects""#;
                    self.blank()?;
                    if self.window.peek()? == Some(b':') {
                        self.window.advance();
                        self.blank()?;
                    }
                    if is_objects && self.window.peek()? == Some(b'[') {
                        self.window.advance();
                        self.state = StreamState::Array { is_nested: true };
                        return Ok(false);
                    }
                    self.value()?;
                }
                Some(_) => return Err(self.invalid_error()),
                None => return Err(self.truncated_error()),
            }
        }
    }

    /// Consumes white space, which stays in the buffer.
    fn blank(&mut self) -> Result<(), ReadError> {
        while !self.window.consume_blank() {
            self.check_size()?;
            if !self.window.more()? {
                break;
            }
        }
        self.check_size()
    }

    /// Consumes a value of any type.
    fn value(&mut self) -> Result<(), ReadError> {
        let begin = self.window.consumed;
        let mut scan = ValueScanner::default();
        while !scan.consume(&mut self.window) {
            self.check_size()?;
            if !self.window.more()? {
                return Err(self.truncated_error());
            }
        }
        if self.window.consumed == begin { Err(self.invalid_error()) } else { Ok(()) }
    }

    fn check_size(&self) -> Result<(), ReadError> {
        if self.window.consumed > OBJECT_MAX {
            let error = "its first object, or the part before `objects`, is too large";
            return Err(ReadError::Format(error.to_owned()));
        }
        Ok(())
    }

    /// Returns true if the array has another element.
    fn has_element(&mut self) -> Result<bool, ReadError> {
        loop {
            self.window.skip_blank()?;
            match self.window.peek()? {
                Some(b',') => self.window.advance(),
                Some(b']') => {
                    self.window.advance();
                    self.window.discard_consumed();
                    return Ok(false);
                }
                Some(b'}' | b':') => return Err(self.invalid_error()),
                Some(_) => return Ok(true),
                None => return Err(self.truncated_error()),
            }
        }
    }

    fn element(&mut self) -> Result<Piece<'_>, ReadError> {
        let is_object = self.window.peek()? == Some(b'{');
        let mut scan = ValueScanner::default();
        self.window.head.clear();
        while !scan.consume(&mut self.window) {
            self.window.discard_excess();
            if !self.window.more()? {
                return Err(self.truncated_error());
            }
        }
        Ok(self.piece(if is_object { PieceKind::Object } else { PieceKind::NotAnObject }))
    }

    /// Returns the consumed input as a piece.
    fn piece(&mut self, kind: PieceKind) -> Piece<'_> {
        let index = self.positions;
        self.positions += 1;
        let bytes = self.window.take();
        if self.window.head.is_empty() {
            return Piece { index, kind, bytes: self.window.bytes(bytes) };
        }
        Piece { index, kind: PieceKind::TooLarge, bytes: &self.window.head }
    }

    /// Skips the members after the array, to the end of the object.
    fn skip_rest_of_object(&mut self) -> Result<(), ReadError> {
        let mut scan = ValueScanner { depth: 1, ..ValueScanner::default() };
        while !scan.consume(&mut self.window) {
            self.window.discard_consumed();
            if !self.window.more()? {
                return Err(self.truncated_error());
            }
        }
        self.window.discard_consumed();
        Ok(())
    }

    /// Returns the next line that is not blank.
    fn line(&mut self) -> Result<Option<Piece<'_>>, ReadError> {
        self.window.head.clear();
        let kind = loop {
            let ahead = self.window.ahead();
            let end = memchr::memchr(b'\n', ahead);
            self.window.consumed += end.map_or(ahead.len(), |end| end + 1);
            if end.is_some() {
                if !self.window.is_blank() {
                    break PieceKind::Line;
                }
                self.positions += 1;
                self.window.discard_consumed();
                continue;
            }
            self.window.discard_excess();
            if self.window.more()? {
                continue;
            }
            if self.window.is_blank() {
                return Ok(None);
            }
            break PieceKind::LastLine;
        };
        Ok(Some(self.piece(kind)))
    }

    fn truncated_error(&self) -> ReadError {
        ReadError::Truncated(format!("after {} objects", self.positions))
    }

    fn invalid_error(&self) -> ReadError {
        let rest = self.window.ahead_for_message();
        ReadError::Format(format!("invalid JSON after {} objects, at {rest:?}", self.positions))
    }
}

/// Scanner state inside a value.
#[derive(Debug, Default)]
struct ValueScanner {
    /// Number of open brackets.
    depth: usize,
    is_string: bool,
    is_escaped: bool,
}

impl ValueScanner {
    /// Consumes input of the window. Returns true if the value ends in it; the window is then
    /// directly after the value.
    fn consume<R>(&mut self, window: &mut Window<R>) -> bool {
        let bytes = window.ahead();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.is_escaped {
                self.is_escaped = false;
                at += 1;
                continue;
            }
            if self.is_string {
                let rest = bytes.get(at..).unwrap_or_default();
                let Some(end) = memchr::memchr2(b'"', b'\\', rest) else {
                    at = bytes.len();
                    break;
                };
                at += end + 1;
                if rest.get(end) == Some(&b'\\') {
                    self.is_escaped = true;
                    continue;
                }
                self.is_string = false;
                if self.depth == 0 {
                    window.consumed += at;
                    return true;
                }
                continue;
            }
            match byte {
                b'"' => self.is_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth == 0 => {
                    window.consumed += at;
                    return true;
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        window.consumed += at + 1;
                        return true;
                    }
                }
                b',' | b' ' | b'\t' | b'\r' | b'\n' | b':' if self.depth == 0 => {
                    window.consumed += at;
                    return true;
                }
                _ => {}
            }
            at += 1;
        }
        window.consumed += at;
        false
    }
}

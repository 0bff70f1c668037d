//! `ObjectStream`: cuts a document into its objects without a tree, one buffer long.
//!
//! A scanner tells strings from brackets and nothing else, so that a fault inside one object is
//! that object's only; whether it is JSON is seen when it is read. Memory is bounded by the largest
//! object, and that by [`OBJECT_MAX`].

use std::io::Read;

use super::super::entry::ReadError;
use super::window::{OBJECT_MAX, Window};

/// A part of a document.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    /// Objects or lines before it.
    pub(super) index: u64,
    pub(super) kind: PieceKind,
    /// All of it; of one that is too large, how it begins.
    pub(super) bytes: &'a [u8],
}

/// What a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceKind {
    /// An object of a list.
    Object,
    /// All of a document that is one object, without a list `objects` in it.
    WholeDocument,
    /// A line that is not blank.
    Line,
    /// A line that has no end, so that it may be cut.
    LastLine,
    /// Something in a list that is no object.
    NotAnObject,
    /// More than [`OBJECT_MAX`].
    TooLarge,
}

/// What comes next in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamState {
    Start,
    /// In a list, which is in an object or not.
    List {
        is_nested: bool,
    },
    /// Behind a whole document.
    AfterDocument,
    /// One line after the other.
    Lines,
}

/// See the module.
#[derive(Debug)]
pub(super) struct ObjectStream<R> {
    window: Window<R>,
    state: StreamState,
    /// Places passed so far.
    positions: u64,
}

impl<R: Read> ObjectStream<R> {
    pub(super) fn new(input: R) -> Self {
        Self { window: Window::new(input), state: StreamState::Start, positions: 0 }
    }

    /// Objects and lines so far.
    pub(super) const fn positions(&self) -> u64 {
        self.positions
    }

    /// Bytes of the buffer.
    #[cfg(test)]
    pub(super) const fn memory(&self) -> usize {
        self.window.memory()
    }

    /// The next piece; `None` at the end of a whole document.
    pub(super) fn next(&mut self) -> Result<Option<Piece<'_>>, ReadError> {
        if self.state == StreamState::Start && self.start()? {
            self.state = StreamState::AfterDocument;
            return Ok(Some(self.piece(PieceKind::WholeDocument)));
        }
        loop {
            match self.state {
                StreamState::List { is_nested } => {
                    if self.list_goes_on()? {
                        return self.element().map(Some);
                    }
                    if is_nested {
                        self.rest_of_object()?;
                    }
                    self.state = StreamState::AfterDocument;
                }
                StreamState::AfterDocument => {
                    self.window.drop_blank()?;
                    self.state = StreamState::Lines;
                }
                StreamState::Lines | StreamState::Start => return self.line(),
            }
        }
    }

    /// Finds the list of objects. Whether the document is one object without any, which is then
    /// what has been passed.
    fn start(&mut self) -> Result<bool, ReadError> {
        self.window.skip_mark()?;
        self.window.drop_blank()?;
        if self.window.has_lines()? {
            self.state = StreamState::Lines;
            return Ok(false);
        }
        match self.window.peek()? {
            None => Err(ReadError::Format("the body is empty".to_owned())),
            Some(b'[') => {
                self.window.pass();
                self.state = StreamState::List { is_nested: false };
                Ok(false)
            }
            Some(b'{') => self.members(),
            Some(_) => {
                let begin = self.window.shown();
                Err(ReadError::Format(format!("the body begins with {begin:?} and is not JSON")))
            }
        }
    }

    /// The members of the outer object up to `objects`. Whether there is no such list.
    fn members(&mut self) -> Result<bool, ReadError> {
        self.window.pass();
        loop {
            self.blank()?;
            match self.window.peek()? {
                Some(b'}') => {
                    self.window.pass();
                    return Ok(true);
                }
                Some(b',') => self.window.pass(),
                Some(b'"') => {
                    let begin = self.window.at;
                    self.value()?;
                    let is_objects = self.window.passed_since(begin) == br#""objects""#;
                    self.blank()?;
                    if self.window.peek()? == Some(b':') {
                        self.window.pass();
                        self.blank()?;
                    }
                    if is_objects && self.window.peek()? == Some(b'[') {
                        self.window.pass();
                        self.state = StreamState::List { is_nested: true };
                        return Ok(false);
                    }
                    self.value()?;
                }
                Some(_) => return Err(self.no_json()),
                None => return Err(self.cut()),
            }
        }
    }

    /// Passes white space in what is kept.
    fn blank(&mut self) -> Result<(), ReadError> {
        while !self.window.pass_blank() {
            self.check_size()?;
            if !self.window.more()? {
                break;
            }
        }
        self.check_size()
    }

    /// Passes a value of any kind.
    fn value(&mut self) -> Result<(), ReadError> {
        let begin = self.window.at;
        let mut scan = ValueScanner::default();
        while !scan.pass(&mut self.window) {
            self.check_size()?;
            if !self.window.more()? {
                return Err(self.cut());
            }
        }
        if self.window.at == begin { Err(self.no_json()) } else { Ok(()) }
    }

    fn check_size(&self) -> Result<(), ReadError> {
        if self.window.at > OBJECT_MAX {
            let what = "its first object, or what stands before `objects`, is too large";
            return Err(ReadError::Format(what.to_owned()));
        }
        Ok(())
    }

    /// Whether another element comes in the list.
    fn list_goes_on(&mut self) -> Result<bool, ReadError> {
        loop {
            self.window.drop_blank()?;
            match self.window.peek()? {
                Some(b',') => self.window.pass(),
                Some(b']') => {
                    self.window.pass();
                    self.window.drop_passed();
                    return Ok(false);
                }
                Some(b'}' | b':') => return Err(self.no_json()),
                Some(_) => return Ok(true),
                None => return Err(self.cut()),
            }
        }
    }

    fn element(&mut self) -> Result<Piece<'_>, ReadError> {
        let is_object = self.window.peek()? == Some(b'{');
        let mut scan = ValueScanner::default();
        self.window.head.clear();
        while !scan.pass(&mut self.window) {
            self.window.bound();
            if !self.window.more()? {
                return Err(self.cut());
            }
        }
        Ok(self.piece(if is_object { PieceKind::Object } else { PieceKind::NotAnObject }))
    }

    /// What was passed, as a piece.
    fn piece(&mut self, kind: PieceKind) -> Piece<'_> {
        let index = self.positions;
        self.positions += 1;
        let bytes = self.window.take();
        if self.window.head.is_empty() {
            return Piece { index, kind, bytes: self.window.bytes(bytes) };
        }
        Piece { index, kind: PieceKind::TooLarge, bytes: &self.window.head }
    }

    /// What stands after the list, up to the end of the object.
    fn rest_of_object(&mut self) -> Result<(), ReadError> {
        let mut scan = ValueScanner { depth: 1, ..ValueScanner::default() };
        while !scan.pass(&mut self.window) {
            self.window.drop_passed();
            if !self.window.more()? {
                return Err(self.cut());
            }
        }
        self.window.drop_passed();
        Ok(())
    }

    /// The next line that is not blank.
    fn line(&mut self) -> Result<Option<Piece<'_>>, ReadError> {
        self.window.head.clear();
        let kind = loop {
            let ahead = self.window.ahead();
            let end = memchr::memchr(b'\n', ahead);
            self.window.at += end.map_or(ahead.len(), |end| end + 1);
            if end.is_some() {
                if !self.window.is_blank() {
                    break PieceKind::Line;
                }
                self.positions += 1;
                self.window.drop_passed();
                continue;
            }
            self.window.bound();
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

    fn cut(&self) -> ReadError {
        ReadError::Truncated(format!("after {} objects", self.positions))
    }

    fn no_json(&self) -> ReadError {
        let rest = self.window.shown_ahead();
        ReadError::Format(format!("no JSON after {} objects, at {rest:?}", self.positions))
    }
}

/// How far inside a value the scanner is.
#[derive(Debug, Default)]
struct ValueScanner {
    /// Brackets that are open.
    depth: usize,
    is_string: bool,
    is_escaped: bool,
}

impl ValueScanner {
    /// Goes on through what the window has; whether the value ends in it. The window is then right
    /// behind the value.
    fn pass<R>(&mut self, window: &mut Window<R>) -> bool {
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
                    window.at += at;
                    return true;
                }
                continue;
            }
            match byte {
                b'"' => self.is_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth == 0 => {
                    window.at += at;
                    return true;
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        window.at += at + 1;
                        return true;
                    }
                }
                b',' | b' ' | b'\t' | b'\r' | b'\n' | b':' if self.depth == 0 => {
                    window.at += at;
                    return true;
                }
                _ => {}
            }
            at += 1;
        }
        window.at += at;
        false
    }
}

//! Lexer: words, strings, numbers and signs of a pattern; strings without escapes are not copied.

use std::borrow::Cow;

use super::{PatternError, PatternErrorKind};

/// Token of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword, or a part of a path.
    Word(&'a str),
    /// A string, without its quotes and escapes.
    Text(Cow<'a, str>),
    /// A number as written.
    Number(&'a str),
    /// A timestamp, hexadecimal or binary constant: `t'…'`, `h'…'`, `b'…'`.
    Constant,
    /// One of `[ ] ( ) , . : *`, or a byte that patterns do not have.
    Sign(u8),
    /// A comparison operator such as `=`.
    Compare(ComparisonSign),
    /// The end of the text.
    End,
}

/// Comparison operator between a path and a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ComparisonSign {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Reads a pattern token by token.
#[derive(Debug)]
pub(super) struct PatternLexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> PatternLexer<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Returns the next token and its offset.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'a>), PatternError> {
        self.skip_blank()?;
        let begin = self.at;
        let Some(first) = self.byte(0) else { return Ok((begin, Token::End)) };
        let token = match first {
            b'\'' | b'"' => Token::Text(self.string(first)?),
            b't' | b'h' | b'b' if self.byte(1) == Some(b'\'') => {
                self.at += 1;
                self.string(b'\'')?;
                Token::Constant
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => Token::Word(
                self.take_while(|it| it.is_ascii_alphanumeric() || matches!(it, b'_' | b'-')),
            ),
            b'0'..=b'9' => Token::Number(self.number()),
            b'-' | b'+' if self.byte(1).is_some_and(|it| it.is_ascii_digit()) => {
                Token::Number(self.number())
            }
            _ => self.sign(first),
        };
        Ok((begin, token))
    }

    /// Returns the text at an offset, shortened, for a message.
    pub(super) fn excerpt(&self, at: usize) -> String {
        const LENGTH: usize = 20;
        self.text.get(at..).unwrap_or_default().chars().take(LENGTH).collect()
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// Skips white space and comments.
    fn skip_blank(&mut self) -> Result<(), PatternError> {
        loop {
            let begin = self.at;
            match self.byte(0) {
                Some(byte) if byte.is_ascii_whitespace() || byte == 0x0b => self.at += 1,
                Some(b'/') if self.byte(1) == Some(b'/') => {
                    let rest = self.rest();
                    self.at += memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                }
                Some(b'/') if self.byte(1) == Some(b'*') => {
                    self.at += 2;
                    let end = memchr::memmem::find(self.rest(), b"*/");
                    let end = end.ok_or_else(|| unterminated(begin, "comment"))?;
                    self.at += end + 2;
                }
                // Byte order mark, no-break space: feeds are pasted together.
                Some(0xc2) if self.byte(1) == Some(0xa0) => self.at += 2,
                Some(0xef) if self.rest().starts_with(b"\xef\xbb\xbf") => self.at += 3,
                _ => return Ok(()),
            }
        }
    }

    fn string(&mut self, quote: u8) -> Result<Cow<'a, str>, PatternError> {
        let begin = self.at;
        self.at += 1;
        let mut whole = String::new();
        loop {
            let part = self.at;
            let Some(length) = memchr::memchr2(quote, b'\\', self.rest()) else {
                return Err(unterminated(begin, "string"));
            };
            let end = part + length;
            let text = self.text.get(part..end).unwrap_or_default();
            self.at = end + 1;
            if self.text.as_bytes().get(end) == Some(&quote) {
                return Ok(if whole.is_empty() {
                    Cow::Borrowed(text)
                } else {
                    whole.push_str(text);
                    Cow::Owned(whole)
                });
            }
            whole.push_str(text);
            // The grammar has `\\` and `\'`; here any character can be escaped.
            let escaped = self.text.get(self.at..).and_then(|rest| rest.chars().next());
            let escaped = escaped.ok_or_else(|| unterminated(begin, "string"))?;
            whole.push(escaped);
            self.at += escaped.len_utf8();
        }
    }

    fn number(&mut self) -> &'a str {
        let begin = self.at;
        self.at += 1;
        self.take_while(|it| it.is_ascii_digit());
        if self.byte(0) == Some(b'.') && self.byte(1).is_some_and(|it| it.is_ascii_digit()) {
            self.at += 1;
            self.take_while(|it| it.is_ascii_digit());
        }
        self.text.get(begin..self.at).unwrap_or_default()
    }

    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'a str {
        let begin = self.at;
        let rest = self.rest();
        self.at += rest.iter().position(|it| !belongs(*it)).unwrap_or(rest.len());
        self.text.get(begin..self.at).unwrap_or_default()
    }

    fn sign(&mut self, first: u8) -> Token<'a> {
        let (length, compare) = match (first, self.byte(1)) {
            (b'=', Some(b'=')) => (2, ComparisonSign::Equal),
            (b'=', _) => (1, ComparisonSign::Equal),
            (b'!', Some(b'=')) | (b'<', Some(b'>')) => (2, ComparisonSign::NotEqual),
            (b'<', Some(b'=')) => (2, ComparisonSign::LessOrEqual),
            (b'<', _) => (1, ComparisonSign::Less),
            (b'>', Some(b'=')) => (2, ComparisonSign::GreaterOrEqual),
            (b'>', _) => (1, ComparisonSign::Greater),
            _ => {
                self.at += 1;
                return Token::Sign(first);
            }
        };
        self.at += length;
        Token::Compare(compare)
    }
}

const fn unterminated(at: usize, token: &'static str) -> PatternError {
    PatternError { at, kind: PatternErrorKind::Unterminated(token) }
}

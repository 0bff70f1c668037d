//! `JsonText`: JSON as producers really write it, made readable for a strict parser.
//!
//! A byte order mark at the start is skipped (RFC 8259, 8.1). The grammar of JSON allows the escape
//! of half a surrogate pair, `\ud83d`, of which a cut emoji leaves one; `serde_json` refuses the whole
//! text for it, also in a member that is not read. Such an escape becomes `\ufffd`, which has the same
//! length. All other bytes are unchanged, so positions in messages stay correct.

use std::borrow::Cow;
use std::io::{self, BufRead, Read};

use super::io::read_some;
use super::text_input::BYTE_ORDER_MARK;

/// Size of the buffer in bytes.
const BUFFER_BYTES: usize = 1 << 16;
/// Length of `\ud83d`.
const ESCAPE_BYTES: usize = 6;
const REPLACEMENT: &[u8; ESCAPE_BYTES] = b"\\ufffd";

/// Reader of JSON text; see the module documentation.
#[derive(Debug)]
pub struct JsonText<R> {
    inner: R,
    buffer: Vec<u8>,
    /// Start of the bytes that are not consumed.
    begin: usize,
    /// End of the bytes that are checked.
    checked: usize,
    /// End of the bytes that are read.
    end: usize,
    has_begun: bool,
    is_done: bool,
    repairs_utf8: bool,
}

impl<R: Read> JsonText<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            buffer: vec![0; BUFFER_BYTES],
            begin: 0,
            checked: 0,
            end: 0,
            has_begun: false,
            is_done: false,
            repairs_utf8: false,
        }
    }

    /// The same, which also replaces each byte that is not UTF-8 by `?`: a text in another encoding
    /// would cost the document.
    #[must_use]
    pub fn repairing_utf8(self) -> Self {
        Self { repairs_utf8: true, ..self }
    }

    /// Reads more bytes, and checks what can be checked.
    fn refill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.begin..self.end, 0);
        self.checked -= self.begin;
        self.end -= self.begin;
        self.begin = 0;
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        let count = read_some(&mut self.inner, free)?;
        self.end += count;
        self.is_done = count == 0;
        if !self.has_begun {
            if self.end < BYTE_ORDER_MARK.len() && !self.is_done {
                return Ok(());
            }
            self.has_begun = true;
            if self.buffer.starts_with(BYTE_ORDER_MARK) && self.end >= BYTE_ORDER_MARK.len() {
                self.begin = BYTE_ORDER_MARK.len();
                self.checked = self.begin;
            }
        }
        let from = self.checked;
        let bytes = self.buffer.get_mut(from..self.end).unwrap_or_default();
        let mut checked = replace_lone_surrogates(bytes, self.is_done);
        if self.repairs_utf8 {
            checked = repair_utf8(bytes.get_mut(..checked).unwrap_or_default(), self.is_done);
        }
        self.checked = from + checked;
        Ok(())
    }
}

impl<R: Read> BufRead for JsonText<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.begin == self.checked && !self.is_done {
            self.refill()?;
        }
        Ok(self.buffer.get(self.begin..self.checked).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.begin = self.checked.min(self.begin + count);
    }
}

impl<R: Read> Read for JsonText<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let count = available.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

/// Returns `text`, which is complete, with the escapes of lone surrogates replaced.
pub(crate) fn repaired(text: &[u8]) -> Cow<'_, [u8]> {
    // Nearly no text has an escape of a surrogate.
    let is_escape = |at: usize| text.get(at + 2).is_some_and(|it| it.eq_ignore_ascii_case(&b'd'));
    if !memchr::memmem::find_iter(text, b"\\u").any(is_escape) {
        return Cow::Borrowed(text);
    }
    let mut text = text.to_vec();
    replace_lone_surrogates(&mut text, true);
    Cow::Owned(text)
}

/// Replaces the escapes of lone surrogates. Returns how many bytes need not be seen again; an escape
/// at the end may continue, unless `is_done`.
fn replace_lone_surrogates(bytes: &mut [u8], is_done: bool) -> usize {
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        at += found;
        let rest = bytes.get(at..).unwrap_or_default();
        // A pair is the longest escape.
        if rest.len() < 2 * ESCAPE_BYTES && !is_done && may_continue(rest) {
            return at;
        }
        at += match surrogate(rest) {
            None => 2,
            Some(0xdc00..) => {
                replace(bytes, at);
                ESCAPE_BYTES
            }
            Some(_) if surrogate(rest.get(ESCAPE_BYTES..).unwrap_or_default()) >= Some(0xdc00) => {
                2 * ESCAPE_BYTES
            }
            Some(_) => {
                replace(bytes, at);
                ESCAPE_BYTES
            }
        };
    }
    bytes.len()
}

/// True if more bytes could make `rest`, which begins with a backslash, another escape.
fn may_continue(rest: &[u8]) -> bool {
    match rest {
        [_] => true,
        [_, b'u', ..] => rest.len() < ESCAPE_BYTES || surrogate(rest).is_some(),
        _ => false,
    }
}

fn replace(bytes: &mut [u8], at: usize) {
    if let Some(escape) = bytes.get_mut(at..at + ESCAPE_BYTES) {
        escape.copy_from_slice(REPLACEMENT);
    }
}

/// Returns the surrogate whose escape `text` begins with.
fn surrogate(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    if !digits.first()?.eq_ignore_ascii_case(&b'd') {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    u16::from_str_radix(digits, 16).ok().filter(|code| (0xd800..=0xdfff).contains(code))
}

/// Replaces what is not UTF-8. Returns how many bytes need not be seen again; a character at the end
/// may continue, unless `is_done`.
fn repair_utf8(bytes: &mut [u8], is_done: bool) -> usize {
    let mut at = 0;
    loop {
        let Err(error) = std::str::from_utf8(bytes.get(at..).unwrap_or_default()) else {
            return bytes.len();
        };
        at += error.valid_up_to();
        let count = match error.error_len() {
            Some(count) => count,
            None if is_done => bytes.len() - at,
            None => return at,
        };
        let end = at + count;
        bytes.get_mut(at..end).unwrap_or_default().fill(b'?');
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reader of at most `1` bytes at once.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(out.len());
            Read::read(&mut self.0, &mut out[..count])
        }
    }

    fn through(text: &[u8]) -> String {
        let read = |step: usize| {
            let mut out = Vec::new();
            let mut input = JsonText::new(Slow(text, step)).repairing_utf8();
            input.read_to_end(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let whole = read(usize::MAX);
        for step in 1..8 {
            assert_eq!(read(step), whole, "{step}");
        }
        whole
    }

    #[test]
    fn half_a_surrogate_pair_becomes_the_replacement_character() {
        for (text, read) in [
            (r#""a\ud83d""#, r#""a\ufffd""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\uD83D\uD83D\uDE00""#, r#""\ufffd\uD83D\uDE00""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d\u0041\ud83dx\\ude00""#, r#""\ufffd\u0041\ufffdx\\ude00""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\ud83d""#, r#""\\\ufffd""#),
            (r#""\ud83d\n\u00e9\/""#, r#""\ufffd\n\u00e9\/""#),
            (r"\ud83", r"\ud83"),
            (r"\ud83d", r"\ufffd"),
            (r"\ud83d\", r"\ufffd\"),
            ("", ""),
        ] {
            assert_eq!(through(text.as_bytes()), read, "{text}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_skipped_and_other_encodings_are_replaced() {
        for (bytes, read) in [
            (&b"\xef\xbb\xbf{}"[..], "{}"),
            (b"\xef\xbb\xbf", ""),
            (b"\xef\xbb", "??"),
            (b"\xef\xbb\xbf\xef\xbb\xbf1", "\u{feff}1"),
            (b"caf\xe9 \xc3\xa9", "caf? \u{e9}"),
            (b"\xf0\x9f\x98\x80\xf0\x9f", "\u{1f600}??"),
        ] {
            assert_eq!(through(bytes), read, "{bytes:?}");
        }
        let mut kept = Vec::new();
        JsonText::new(&b"caf\xe9"[..]).read_to_end(&mut kept).unwrap();
        assert_eq!(kept, b"caf\xe9");
    }

    proptest::proptest! {
        #[test]
        fn any_text_keeps_its_length_and_parses_where_it_is_a_string(
            parts in proptest::collection::vec("(\\\\u(d8|DB|dc|DF|00)[0-9a-f]{2}|\\\\\\\\|a|\\\\n)", 0..20),
        ) {
            let text = format!("\"{}\"", parts.concat());
            let read = through(text.as_bytes());
            proptest::prop_assert_eq!(read.len(), text.len());
            serde_json::from_str::<String>(&read).unwrap();
        }
    }
}

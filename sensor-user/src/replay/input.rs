//! Files that are replayed: named by path, `-` for standard input, with or without a byte order
//! mark.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read as _};
use std::path::Path;

use crate::base::progress::Progress;

/// Bytes that one read asks the system for.
const BUFFER_BYTES: usize = 1 << 17;
/// Blank bytes at most in front of the first byte that tells what a file is.
const BLANK_MAX: u64 = 1 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file that is open, and its first byte that is not blank.
pub(super) struct Input {
    pub(super) reader: Box<dyn BufRead>,
    /// `None` when there is none.
    pub(super) first: Option<u8>,
}

impl Input {
    /// The bytes at the beginning, at most `count`; they are still to be read.
    pub(super) fn peek(&mut self, count: u64) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        self.reader.by_ref().take(count).read_to_end(&mut head)?;
        let rest = std::mem::replace(&mut self.reader, Box::new(io::empty()));
        self.reader = Box::new(Cursor::new(head.clone()).chain(rest));
        Ok(head)
    }
}

/// Opens a file, whose bytes `progress` counts; `-` is standard input. A byte order mark is left out.
pub(super) fn open(path: &Path, progress: &Progress) -> io::Result<Input> {
    if is_stdin(path) {
        return prepare(BufReader::with_capacity(BUFFER_BYTES, io::stdin()));
    }
    prepare(BufReader::with_capacity(BUFFER_BYTES, progress.wrap_file(File::open(path)?)))
}

/// Whether a path stands for standard input.
pub(super) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn prepare(mut reader: impl BufRead + 'static) -> io::Result<Input> {
    // The blanks are kept, so that lines keep their numbers.
    let mut head = Vec::new();
    let mut first = None;
    for byte in reader.by_ref().take(BLANK_MAX).bytes() {
        let byte = byte?;
        head.push(byte);
        if !BYTE_ORDER_MARK.starts_with(&head) && !byte.is_ascii_whitespace() {
            first = Some(byte);
            break;
        }
    }
    let head = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&head).to_vec();
    Ok(Input { reader: Box::new(Cursor::new(head).chain(reader)), first })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_is_seen_and_the_rest_kept() {
        for (text, first, kept) in [
            ("", None, ""),
            (" \n", None, " \n"),
            ("\n\n {\"a\":1}\n", Some(b'{'), "\n\n {\"a\":1}\n"),
            ("\u{feff}{}", Some(b'{'), "{}"),
            ("\u{feff}", None, ""),
            ("\u{feff}\n1.2.3.4", Some(b'1'), "\n1.2.3.4"),
        ] {
            let mut input = prepare(text.as_bytes()).unwrap();
            assert_eq!(input.peek(3).unwrap(), kept.as_bytes()[..kept.len().min(3)], "{text:?}");
            let mut rest = String::new();
            input.reader.read_to_string(&mut rest).unwrap();
            assert_eq!((input.first, rest.as_str()), (first, kept), "{text:?}");
        }
    }
}

//! Input files of a replay; `-` is standard input. A byte order mark is skipped.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read as _};
use std::path::{Path, PathBuf};

use super::options::ReplayError;
use crate::base::progress::Progress;

/// Size of a read in bytes.
const BUFFER_BYTES: usize = 1 << 17;
/// Limit of the blank bytes before the first byte that identifies the kind of the file.
const BLANK_MAX: u64 = 1 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An open file.
pub(super) struct Input {
    pub(super) reader: Box<dyn BufRead>,
    /// First byte that is not blank, if any.
    pub(super) first: Option<u8>,
}

impl Input {
    /// Returns the first bytes, at most `count`, without consuming them.
    pub(super) fn peek(&mut self, count: u64) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        self.reader.by_ref().take(count).read_to_end(&mut head)?;
        let rest = std::mem::replace(&mut self.reader, Box::new(io::empty()));
        self.reader = Box::new(Cursor::new(head.clone()).chain(rest));
        Ok(head)
    }
}

/// Opens a file, or standard input for `-`. `progress` counts the bytes read.
pub(super) fn open(path: &Path, progress: &Progress) -> io::Result<Input> {
    if is_stdin(path) {
        return prepare(BufReader::with_capacity(BUFFER_BYTES, io::stdin()));
    }
    prepare(BufReader::with_capacity(BUFFER_BYTES, progress.wrap_file(File::open(path)?)))
}

/// True if `path` denotes standard input.
pub(super) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Fails if the inputs name standard input more than once.
pub(super) fn check_stdin(
    connections: &[PathBuf],
    indicators: &[PathBuf],
) -> Result<(), ReplayError> {
    let count = connections.iter().chain(indicators).filter(|path| is_stdin(path)).count();
    if count > 1 { Err(ReplayError::StdinRepeated(count)) } else { Ok(()) }
}

fn prepare(mut reader: impl BufRead + 'static) -> io::Result<Input> {
    // Blanks are kept, so that line numbers stay correct.
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
    fn the_first_byte_is_found_and_all_bytes_are_read() {
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

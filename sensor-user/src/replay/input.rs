//! Input files of a replay; `-` is standard input. A byte order mark is skipped, and gzip is
//! decompressed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read as _};
use std::path::{Path, PathBuf};

use super::options::ReplayError;
use crate::base::array_lines::ArrayLines;
use crate::base::json_text::JsonText;
use crate::base::progress::Progress;
use crate::base::text_input::TextInput;
use crate::intel::{REPLY_HEAD_BYTES, table_reply};

/// Size of a read in bytes.
const BUFFER_BYTES: usize = 1 << 17;
/// Limit of the blank bytes before the first byte that identifies the kind of the file.
const BLANK_MAX: u64 = 1 << 20;

/// An open file.
pub(super) struct Input {
    pub(super) reader: Box<dyn BufRead>,
    /// First byte that is not blank, if any.
    pub(super) first: Option<u8>,
}

impl Input {
    /// Returns what to do with a file that does not begin as rows do.
    pub(super) const fn hint(&self) -> Option<&'static str> {
        match self.first {
            Some(b'{' | b'[') | None => None,
            Some(_) => Some("rows are JSON lines; convert CSV with: mlr --icsv --ojsonl cat FILE"),
        }
    }

    /// Returns the first bytes, at most `count`, without consuming them.
    pub(super) fn peek(&mut self, count: u64) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        self.reader.by_ref().take(count).read_to_end(&mut head)?;
        let rest = std::mem::replace(&mut self.reader, Box::new(io::empty()));
        self.reader = Box::new(Cursor::new(head.clone()).chain(rest));
        Ok(head)
    }
}

/// Opens a file, or standard input for `-`, as text that a parser of JSON can read. `progress` counts the
/// bytes read.
pub(super) fn open(path: &Path, progress: &Progress) -> io::Result<Input> {
    prepare(JsonText::new(open_text(path, progress)?))
}

/// Opens a file of rows: JSON lines, or an array of rows. Lone surrogates are not repaired. The error for
/// the response of a query has the command that converts it.
pub(super) fn open_rows(path: &Path, progress: &Progress) -> io::Result<Input> {
    let mut input = prepare(open_text(path, progress)?)?;
    match input.first {
        Some(b'[') => {
            let array = std::mem::replace(&mut input.reader, Box::new(io::empty()));
            input.reader = Box::new(ArrayLines::new(array));
        }
        Some(b'{') => {
            if let Some(hint) = table_reply(&input.peek(REPLY_HEAD_BYTES)?) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, hint));
            }
        }
        _ => {}
    }
    Ok(input)
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

fn open_text(path: &Path, progress: &Progress) -> io::Result<TextInput<Box<dyn BufRead>>> {
    let file: Box<dyn BufRead> = if is_stdin(path) {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, io::stdin()))
    } else {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, progress.wrap_file(File::open(path)?)))
    };
    // A file of the operator may be as large as they like; it is read as a stream.
    TextInput::open(file, u64::MAX)
}

fn prepare(mut reader: impl BufRead + 'static) -> io::Result<Input> {
    // Blanks are kept, so that line numbers stay correct.
    let mut head = Vec::new();
    let mut first = None;
    for byte in reader.by_ref().take(BLANK_MAX).bytes() {
        let byte = byte?;
        head.push(byte);
        if !byte.is_ascii_whitespace() {
            first = Some(byte);
            break;
        }
    }
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
            let mut input = prepare(TextInput::open(text.as_bytes(), u64::MAX).unwrap()).unwrap();
            assert_eq!(input.peek(3).unwrap(), kept.as_bytes()[..kept.len().min(3)], "{text:?}");
            let mut rest = String::new();
            input.reader.read_to_string(&mut rest).unwrap();
            assert_eq!((input.first, rest.as_str()), (first, kept), "{text:?}");
        }
    }
}

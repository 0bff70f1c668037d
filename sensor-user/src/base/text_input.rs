//! `TextInput`: a text file as it arrives. A byte order mark is skipped, gzip is decompressed up to a
//! limit; other archives and UTF-16 are refused by name, since the reason would not be seen from
//! their bytes.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

/// Bytes from which the kind of a file is detected.
const HEAD_BYTES: u64 = 6;
/// UTF-8 of U+FEFF, which may stand before a text.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const GZIP: &[u8] = b"\x1f\x8b\x08";

/// Beginnings of files that are not text, and their names.
const OTHERS: [(&[u8], &str); 7] = [
    (b"PK\x03\x04", "a zip archive"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"BZh", "a bzip2 file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
];

/// A file is not text, or too large once it is decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextInputError {
    /// A format that is not read.
    #[error("the body is {0}; provide it as UTF-8 text, or compressed with gzip")]
    NotText(&'static str),
    /// The content of a gzip file exceeds the limit.
    #[error(
        "the body is larger than {0} bytes after decompression; raise max_size if that is correct"
    )]
    TooLarge(u64),
}

impl TextInputError {
    /// Returns the error that a reader of a [`TextInput`] reported, if it is one.
    pub fn from_io(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<Self>().copied()
    }
}

impl From<TextInputError> for io::Error {
    fn from(error: TextInputError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// True if a file that begins with `head` is a gzip file.
pub fn is_gzip(head: &[u8]) -> bool {
    head.starts_with(GZIP)
}

/// Returns the name of a format other than text and gzip, of a file that begins with `head`.
pub fn other_format(head: &[u8]) -> Option<&'static str> {
    OTHERS.iter().find(|(begin, _)| head.starts_with(begin)).map(|(_, name)| *name)
}

/// True if a body is a web page. White space and a byte order mark before it are skipped.
pub fn is_web_page(body: &[u8]) -> bool {
    let text = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body).trim_ascii_start();
    [&b"<!doctype html"[..], b"<html"]
        .iter()
        .any(|tag| text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag)))
}

/// Text of a file; see the module documentation.
#[derive(Debug)]
pub struct TextInput<R: BufRead>(Source<Text<R>>);

/// Content of a gzip file.
type Decompressed<R> = BufReader<Bounded<MultiGzDecoder<R>>>;

/// The beginning of a text, and the rest.
type Text<R> = Chain<Cursor<Vec<u8>>, R>;

#[derive(Debug)]
enum Source<R: BufRead> {
    Text(Text<R>),
    Gzip(Box<Text<Decompressed<R>>>),
}

impl<R: BufRead> TextInput<R> {
    /// Opens `input`. At most `max` bytes are decompressed.
    pub fn open(mut input: R, max: u64) -> io::Result<Self> {
        let mut head = Vec::new();
        input.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
        if let Some(name) = other_format(&head) {
            return Err(TextInputError::NotText(name).into());
        }
        if is_gzip(&head) {
            let inner = MultiGzDecoder::new(Cursor::new(head).chain(input));
            let text = BufReader::new(Bounded { inner, left: max, max });
            return Ok(Self(Source::Gzip(Box::new(without_mark(text)?))));
        }
        Ok(Self(Source::Text(without_mark(Cursor::new(head).chain(input))?)))
    }
}

/// Skips a byte order mark.
fn without_mark<R: BufRead>(mut text: R) -> io::Result<Text<R>> {
    let mut head = Vec::new();
    text.by_ref().take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut head)?;
    if head == BYTE_ORDER_MARK {
        head.clear();
    }
    Ok(Cursor::new(head).chain(text))
}

impl<R: BufRead> BufRead for TextInput<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match &mut self.0 {
            Source::Text(text) => text.fill_buf(),
            Source::Gzip(text) => text.fill_buf(),
        }
    }

    fn consume(&mut self, count: usize) {
        match &mut self.0 {
            Source::Text(text) => text.consume(count),
            Source::Gzip(text) => text.consume(count),
        }
    }
}

impl<R: BufRead> Read for TextInput<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Source::Text(text) => text.read(out),
            Source::Gzip(text) => text.read(out),
        }
    }
}

/// Reader that fails beyond `max` bytes.
#[derive(Debug)]
struct Bounded<R> {
    inner: R,
    left: u64,
    max: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        let left = self.left.checked_sub(count as u64);
        self.left = left.ok_or(TextInputError::TooLarge(self.max))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn read(bytes: &[u8], max: u64) -> Result<String, String> {
        let shown = |error: io::Error| error.to_string();
        let mut text = String::new();
        let input = BufReader::with_capacity(1, bytes);
        TextInput::open(input, max).map_err(shown)?.read_to_string(&mut text).map_err(shown)?;
        Ok(text)
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut out = GzEncoder::new(Vec::new(), Compression::default());
        out.write_all(text.as_bytes()).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn text_and_gzip_are_read_and_other_formats_named() {
        let two_members = [gzip("\u{feff}203.0.113.7\n"), gzip("203.0.113.8\n")].concat();
        for (bytes, text) in [
            (&b""[..], ""),
            (b"203.0.113.7", "203.0.113.7"),
            ("\u{feff}a".as_bytes(), "a"),
            ("\u{feff}".as_bytes(), ""),
            (&gzip(""), ""),
            (&two_members, "203.0.113.7\n203.0.113.8\n"),
        ] {
            assert_eq!(read(bytes, 100).as_deref(), Ok(text), "{bytes:?}");
        }
        for (bytes, name) in [
            (&b"PK\x03\x04..."[..], "a zip archive"),
            (b"\xfd7zXZ\x00..", "an xz file"),
            (b"\xff\xfe{\0", "UTF-16 text"),
            (b"\xfe\xff\0{", "UTF-16 text"),
        ] {
            let error = read(bytes, 100).unwrap_err();
            assert!(error.starts_with(&format!("the body is {name}; ")), "{error}");
        }
    }

    #[test]
    fn gzip_is_bounded_and_must_be_complete() {
        let packed = gzip(&"203.0.113.7\n".repeat(10_000));
        assert_eq!(read(&packed, 120_000).unwrap().len(), 120_000);
        let error = read(&packed, 119_999).unwrap_err();
        assert!(error.starts_with("the body is larger than 119999 bytes after"), "{error}");
        read(packed.split_at(packed.len() - 9).0, 120_000).unwrap_err();
    }
}

//! Response bodies: written to disk chunk by chunk, and refused if they cannot be a feed.

use std::path::Path;

use super::error::FetchError;
use super::http::Reply;
use super::scan::Scan;
use crate::base::text_input::{
    BYTE_ORDER_MARK, TextInputError, is_gzip, is_web_page, other_format,
};
use crate::intel::pull::Documents;

/// Number of leading bytes that identify a web page.
const HEAD_SIZE: usize = 64;
/// Maximum size of a response that is read into memory (directories, tokens), bytes.
const SMALL_MAX: usize = 1 << 20;

/// Leading bytes of a body.
#[derive(Debug, Default)]
pub(super) struct Head {
    bytes: Vec<u8>,
    /// Number of bytes of a byte order mark before them.
    mark: usize,
    /// True if a header declares a web page. It is only a hint: a script without a type of its own is
    /// served as one.
    is_declared_html: bool,
}

impl Head {
    /// Head of the body of `reply`.
    fn of(reply: &Reply) -> Self {
        Self { is_declared_html: reply.is_html(), ..Self::default() }
    }

    /// Adds the next bytes; a byte order mark and leading white space are skipped.
    pub(super) fn add(&mut self, mut bytes: &[u8]) {
        while self.bytes.is_empty()
            && let Some((first, rest)) = bytes.split_first()
        {
            if BYTE_ORDER_MARK.get(self.mark) == Some(first) {
                self.mark += 1;
            } else if !first.is_ascii_whitespace() {
                break;
            }
            bytes = rest;
        }
        let room = HEAD_SIZE.saturating_sub(self.bytes.len()).min(bytes.len());
        self.bytes.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// Refuses an empty body, a web page and an archive, which are no feed of any kind.
    pub(super) fn check(&self) -> Result<(), FetchError> {
        if self.bytes.is_empty() {
            return Err(FetchError::Empty);
        }
        let is_markup = self.is_declared_html && self.bytes.starts_with(b"<");
        if is_markup || is_web_page(&self.bytes) {
            return Err(FetchError::Html);
        }
        match other_format(&self.bytes) {
            Some(name) => Err(TextInputError::NotText(name).into()),
            None => Ok(()),
        }
    }

    /// Error for a body that is not complete JSON.
    fn incomplete(&self) -> FetchError {
        if is_gzip(&self.bytes) {
            let error = "the body is compressed without a header Content-Encoding; a list or a \
                         bundle may be, a response of an API may not";
            return FetchError::Protocol(error.to_owned());
        }
        FetchError::Truncated
    }
}

/// Destination of a body: a document, and optionally a JSON scan and a digest.
#[derive(Debug)]
pub(super) struct BodyWriter<'a> {
    documents: &'a mut Documents,
    /// Maximum size of all documents together.
    max: u64,
    scan: Option<&'a mut Scan>,
    digest: Option<&'a mut sha2::Sha256>,
}

impl<'a> BodyWriter<'a> {
    /// A writer into `documents`, of at most `max` bytes together.
    pub(super) const fn new(documents: &'a mut Documents, max: u64) -> Self {
        Self { documents, max, scan: None, digest: None }
    }

    /// The same for JSON, which `scan` follows; the document must be complete.
    pub(super) const fn scanned_by(mut self, scan: &'a mut Scan) -> Self {
        self.scan = Some(scan);
        self
    }

    /// The same, which also updates `digest`.
    pub(super) const fn digested_by(mut self, digest: &'a mut sha2::Sha256) -> Self {
        self.digest = Some(digest);
        self
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        use sha2::Digest as _;
        if let Some(scan) = &mut self.scan {
            scan.add(bytes);
        }
        if let Some(digest) = &mut self.digest {
            digest.update(bytes);
        }
        // A chunk goes to the page cache, which does not block the runtime.
        self.documents.write(bytes).map_err(|error| FetchError::from_documents(error, self.max))
    }
}

impl Reply {
    /// Writes the body as one document. After an error the document must not be used.
    pub(super) async fn save(mut self, mut writer: BodyWriter<'_>) -> Result<(), FetchError> {
        // Unknown for a compressed body.
        if self.length().is_some_and(|length| length > writer.documents.left()) {
            return Err(FetchError::TooLarge { max: writer.max });
        }
        let mut head = Head::of(&self);
        while let Some(chunk) = self.chunk().await? {
            head.add(&chunk);
            writer.write(&chunk)?;
        }
        head.check()?;
        if writer.scan.is_some_and(|scan| !scan.is_whole()) {
            return Err(head.incomplete());
        }
        writer.documents.end_document();
        Ok(())
    }

    /// A small body, in memory.
    pub(super) async fn small(mut self) -> Result<Vec<u8>, FetchError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if bytes.len() + chunk.len() > SMALL_MAX {
                return Err(FetchError::NotSmall(SMALL_MAX));
            }
            bytes.extend_from_slice(&chunk);
        }
        let mut head = Head::of(&self);
        head.add(&bytes);
        head.check()?;
        if bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(bytes)
    }
}

/// Creates the files for documents.
pub(super) fn documents(folder: &Path, max: u64) -> Result<Documents, FetchError> {
    Documents::create(folder, max).map_err(FetchError::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_body_and_a_web_page_are_refused() {
        for (parts, message) in [
            (&["203.0.113.5\n"][..], ""),
            (&["", " \r\n", "\n"], "empty"),
            (&["\u{feff} ", "<!doc", "TYPE html>"], "web page"),
            (&["<HTML>"], "web page"),
            (&["<ht", "tp>"], ""),
            (&["  {", "}"], ""),
            (&["PK\u{3}\u{4}..."], "a zip archive"),
            (&["\u{feff}", "203.0.113.5"], ""),
        ] {
            let mut head = Head::default();
            for part in parts {
                head.add(part.as_bytes());
            }
            let error = head.check().err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(message) && error.is_empty() == message.is_empty(), "{parts:?}");
        }
        for (bytes, message) in [
            (&b"203.0.113.5\n"[..], ""),
            (b"[{\"ip\":1}]", ""),
            (b"<br>You are offline", "web page"),
        ] {
            let mut head = Head { is_declared_html: true, ..Head::default() };
            bytes.chunks(1).for_each(|part| head.add(part));
            let error = head.check().err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(message) && error.is_empty() == message.is_empty(), "{error}");
        }
        for (bytes, name) in [(&b"\xff\xfe{\0"[..], "UTF-16"), (b"\xfd7zXZ\0", "an xz file")] {
            let mut head = Head::default();
            bytes.chunks(1).for_each(|part| head.add(part));
            let error = head.check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        let mut head = Head::default();
        head.add(&vec![b'a'; 1 << 20]);
        assert_eq!(head.bytes.len(), HEAD_SIZE);
    }
}

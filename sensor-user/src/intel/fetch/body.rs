//! Bodies: from the network to the disk, chunk by chunk, refused where they are no feed.

use std::path::Path;

use super::error::FetchError;
use super::http::Reply;
use super::scan::Scan;
use crate::intel::pull::Documents;

/// Bytes by which a web page is known.
const HEAD: usize = 64;
/// A reply that is read into memory (what is there, who may ask) is not larger, bytes.
const SMALL: usize = 1 << 20;

/// SocketScanner at the beginning of a body as it goes by.
#[derive(Debug, Default)]
pub(super) struct Head {
    kept: Vec<u8>,
}

impl Head {
    /// Takes the next bytes; those before the first one that is no white space are not kept.
    pub(super) fn see(&mut self, bytes: &[u8]) {
        let bytes = if self.kept.is_empty() {
            bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start()
        } else {
            bytes
        };
        let room = HEAD.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// Refuses what is no feed whatever its kind.
    pub(super) fn check(&self) -> Result<(), FetchError> {
        if self.kept.is_empty() {
            return Err(FetchError::Empty);
        }
        let begins =
            |word: &[u8]| self.kept.get(..word.len()).is_some_and(|s| s.eq_ignore_ascii_case(word));
        if begins(b"<!doctype html") || begins(b"<html") {
            return Err(FetchError::Html);
        }
        Ok(())
    }
}

/// Where the bytes of a body go: a document, and who else wants to see them.
#[derive(Debug)]
pub(super) struct Sink<'a> {
    documents: &'a mut Documents,
    /// The limit of all documents.
    max: u64,
    scan: Option<&'a mut Scan>,
    digest: Option<&'a mut sha2::Sha256>,
}

impl<'a> Sink<'a> {
    /// Into `documents`, of `max` bytes in all.
    pub(super) const fn new(documents: &'a mut Documents, max: u64) -> Self {
        Self { documents, max, scan: None, digest: None }
    }

    /// JSON that `scan` watches; it must have an end.
    pub(super) const fn watched_by(mut self, scan: &'a mut Scan) -> Self {
        self.scan = Some(scan);
        self
    }

    /// Its digest is wanted.
    pub(super) const fn digested_by(mut self, digest: &'a mut sha2::Sha256) -> Self {
        self.digest = Some(digest);
        self
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        use sha2::Digest as _;
        if let Some(scan) = &mut self.scan {
            scan.see(bytes);
        }
        if let Some(digest) = &mut self.digest {
            digest.update(bytes);
        }
        // Into the page cache: a chunk at a time, this does not hold the runtime up.
        self.documents.write(bytes).map_err(|error| FetchError::keep(error, self.max))
    }
}

impl Reply {
    /// Writes the body as one document. What it is when this fails must not be used.
    pub(super) async fn keep(mut self, mut sink: Sink<'_>) -> Result<(), FetchError> {
        if self.is_html() {
            return Err(FetchError::Html);
        }
        // Of a compressed body this is not known.
        if self.length().is_some_and(|length| length > sink.documents.left()) {
            return Err(FetchError::TooLarge { max: sink.max });
        }
        let mut head = Head::default();
        while let Some(chunk) = self.chunk().await? {
            head.see(&chunk);
            sink.write(&chunk)?;
        }
        head.check()?;
        if sink.scan.is_some_and(|scan| !scan.is_whole()) {
            return Err(FetchError::Truncated);
        }
        sink.documents.end_document();
        Ok(())
    }

    /// A small body as a whole.
    pub(super) async fn small(mut self) -> Result<Vec<u8>, FetchError> {
        if self.is_html() {
            return Err(FetchError::Html);
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if bytes.len() + chunk.len() > SMALL {
                return Err(FetchError::TooLarge { max: SMALL as u64 });
            }
            bytes.extend_from_slice(&chunk);
        }
        let mut head = Head::default();
        head.see(&bytes);
        head.check()?;
        Ok(bytes)
    }
}

/// A file of ours to write documents into.
pub(super) fn documents(folder: &Path, max: u64) -> Result<Documents, FetchError> {
    Documents::create(folder, max).map_err(FetchError::Keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_feed_is_known_by_its_beginning() {
        for (parts, told) in [
            (&["203.0.113.5\n"][..], ""),
            (&["", " \r\n", "\n"], "empty"),
            (&["\u{feff} ", "<!doc", "TYPE html>"], "web page"),
            (&["<HTML>"], "web page"),
            (&["<ht", "tp>"], ""),
            (&["  {", "}"], ""),
        ] {
            let mut head = Head::default();
            for part in parts {
                head.see(part.as_bytes());
            }
            let error = head.check().err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(told) && error.is_empty() == told.is_empty(), "{parts:?}");
        }
        let mut head = Head::default();
        head.see(&vec![b'a'; 1 << 20]);
        assert_eq!(head.kept.len(), HEAD);
    }
}

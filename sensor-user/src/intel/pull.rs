//! What a pull brings: documents on disk, whether they are all of the feed or what changed, and
//! where the next pull goes on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tempfile::{NamedTempFile, TempPath};

/// A good pull.
#[derive(Debug)]
pub enum PullOutcome {
    /// What is here is still all of the feed.
    NotModified,
    /// There is something new.
    New {
        /// In the order in which they came.
        documents: Documents,
        /// What they are of the feed.
        extent: Extent,
        /// For the next pull, once these are in the set.
        cursor: Cursor,
    },
}

/// What the documents of a pull are of their feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extent {
    /// All of it: what is not in them has left.
    Snapshot,
    /// What changed: all else stays, but for the entries of these groups that are not in them.
    Changes {
        /// [`super::formats::entry::FeedEntry::group`]s that come whole, or are gone.
        replaced: Vec<String>,
    },
}

/// Where the next pull goes on; saved with the set that it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cursor {
    /// At the beginning.
    #[default]
    Start,
    /// What a web server said about its version.
    Version(Validators),
    /// `CrowdSec`: which pull it was, of this process; where the stream goes on is known to the
    /// server alone.
    After(String),
    /// TAXII: `added_after` per collection URL.
    Collections(BTreeMap<String, String>),
    /// MISP: attributes that were changed since are asked for: when the last pull began, less an
    /// overlap.
    Time(Timestamp),
    /// MISP feed: the timestamp of each event, by UUID.
    Events(BTreeMap<String, i64>),
}

/// What a server said about the version that it sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

/// The documents of a pull, one after the other in one file, at most `max` bytes in all.
///
/// A file of our own is removed with the last use of this; one that the operator named stays.
#[derive(Debug)]
pub struct Documents {
    place: DocumentFile,
    lengths: Vec<u64>,
    current: u64,
    left: u64,
}

#[derive(Debug)]
enum DocumentFile {
    Writing(NamedTempFile),
    Temporary(TempPath),
    Existing(PathBuf),
}

/// The documents of a pull are larger than allowed.
#[derive(Debug, thiserror::Error)]
pub enum DocumentsError {
    /// More than the feed's `max_size`.
    #[error("larger than allowed")]
    TooLarge,
    /// The disk does not take it.
    #[error("write the documents beside the state; is the disk full?")]
    Write(#[from] io::Error),
}

impl Documents {
    /// No document yet; they are written to a file in `folder`.
    pub fn create(folder: &Path, max: u64) -> io::Result<Self> {
        let file = tempfile::Builder::new().prefix(".pull-").tempfile_in(folder)?;
        Ok(Self { place: DocumentFile::Writing(file), lengths: Vec::new(), current: 0, left: max })
    }

    /// The file of the operator at `path`, one document of `length` bytes.
    pub const fn given(path: PathBuf, length: u64) -> Self {
        Self { place: DocumentFile::Existing(path), lengths: Vec::new(), current: length, left: 0 }
    }

    /// Adds to the document at hand.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), DocumentsError> {
        let DocumentFile::Writing(file) = &mut self.place else { return Ok(()) };
        let length = bytes.len() as u64;
        self.left = self.left.checked_sub(length).ok_or(DocumentsError::TooLarge)?;
        file.write_all(bytes)?;
        self.current += length;
        Ok(())
    }

    /// Bytes that may still be added.
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Whole documents so far.
    pub const fn count(&self) -> usize {
        self.lengths.len()
    }

    /// Takes back the last whole document.
    pub fn undo_document(&mut self) -> io::Result<()> {
        self.left += self.lengths.pop().unwrap_or(0);
        if let DocumentFile::Writing(file) = &mut self.place {
            let end = self.lengths.iter().sum();
            file.as_file().set_len(end)?;
            file.seek(SeekFrom::Start(end))?;
        }
        Ok(())
    }

    /// The document at hand is whole; what comes now is the next one.
    pub fn end_document(&mut self) {
        self.lengths.push(std::mem::take(&mut self.current));
    }

    /// All is written. Gives the file and the lengths of the documents in it.
    pub fn finish(&mut self) -> (&Path, &[u64]) {
        if self.current > 0 {
            self.end_document();
        }
        let place = std::mem::replace(&mut self.place, DocumentFile::Existing(PathBuf::new()));
        self.place = match place {
            DocumentFile::Writing(file) => DocumentFile::Temporary(file.into_temp_path()),
            other => other,
        };
        let path: &Path = match &self.place {
            DocumentFile::Temporary(path) => path,
            DocumentFile::Existing(path) => path,
            DocumentFile::Writing(file) => file.path(),
        };
        (path, &self.lengths)
    }
}

/// Reads documents back, one after the other.
#[derive(Debug)]
pub struct OpenDocuments {
    file: File,
    lengths: std::vec::IntoIter<u64>,
}

impl OpenDocuments {
    /// Opens the file of [`Documents::finish`].
    pub fn open(path: &Path, lengths: Vec<u64>) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, lengths: lengths.into_iter() })
    }

    /// The next document; to be read to its end before the one after it.
    pub fn next_document(&mut self) -> Option<io::Take<&mut File>> {
        use io::Read as _;
        let length = self.lengths.next()?;
        Some((&mut self.file).take(length))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_document_that_is_taken_back_leaves_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let mut documents = Documents::create(folder.path(), 10).unwrap();
        documents.write(b"abc").unwrap();
        documents.end_document();
        documents.write(b"1234567").unwrap();
        assert!(matches!(documents.write(b"8"), Err(DocumentsError::TooLarge)));
        documents.end_document();
        documents.undo_document().unwrap();
        assert_eq!((documents.left(), documents.count()), (7, 1));
        documents.write(b"de").unwrap();
        let (path, lengths) = documents.finish();
        let mut open = OpenDocuments::open(path, lengths.to_vec()).unwrap();
        for want in ["abc", "de"] {
            let mut text = String::new();
            open.next_document().unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, want);
        }
        assert!(open.next_document().is_none());
        drop(documents);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

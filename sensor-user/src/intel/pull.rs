//! Result of a pull: documents on disk, their extent (the whole feed, or changes), and the cursor
//! of the next pull.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tempfile::{NamedTempFile, TempPath};

use crate::base::regular_file;

/// Outcome of a successful pull.
#[derive(Debug)]
pub enum PullOutcome {
    /// The saved set is still the whole feed.
    NotModified,
    /// The server sent new documents.
    New {
        /// Documents, in the order of their arrival.
        documents: Documents,
        /// Part of the feed that they are.
        extent: Extent,
        /// Cursor of the next pull, once the documents are in the set.
        cursor: Cursor,
    },
}

/// Part of a feed that the documents of a pull are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extent {
    /// The whole feed: entries that are not in them have left it.
    Snapshot,
    /// Changes: all other entries stay, except those of replaced groups.
    Changes {
        /// [`super::formats::entry::FeedEntry::group`]s that are replaced as a whole, or removed.
        replaced: Vec<String>,
    },
}

/// Position from which the next pull continues; saved with the set that it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cursor {
    /// The beginning of the feed.
    #[default]
    Start,
    /// Validators of an HTTP response.
    Version(Validators),
    /// `CrowdSec`: id of the pull within this process. The position in the stream is known to the
    /// server only.
    After(String),
    /// TAXII: `added_after` per collection URL.
    Collections(BTreeMap<String, String>),
    /// MISP: start time of the last pull, less an overlap. The next pull fetches attributes that
    /// changed since.
    Time(Timestamp),
    /// MISP feed: timestamp of each event, by UUID.
    Events(BTreeMap<String, i64>),
}

/// Validators of an HTTP response (RFC 9110, section 8.8), sent with the next conditional request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// Value of `ETag`.
    pub etag: Option<String>,
    /// Value of `Last-Modified`.
    pub last_modified: Option<String>,
}

/// Documents of a pull, one after the other in one file, at most `max` bytes together.
///
/// A temporary file is removed on drop; a file of the operator stays.
#[derive(Debug)]
pub struct Documents {
    file: DocumentFile,
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

/// A document cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum DocumentsError {
    /// Larger than the feed's `max_size`.
    #[error("larger than allowed")]
    TooLarge,
    /// Writing to the disk failed.
    #[error("write the documents to the state directory; is the disk full?")]
    Write(#[from] io::Error),
}

impl Documents {
    /// Creates a temporary file in `folder`, without any document.
    pub fn create(folder: &Path, max: u64) -> io::Result<Self> {
        let file = tempfile::Builder::new().prefix(".pull-").tempfile_in(folder)?;
        Ok(Self { file: DocumentFile::Writing(file), lengths: Vec::new(), current: 0, left: max })
    }

    /// The operator's file at `path`, as one document of `length` bytes.
    pub const fn from_file(path: PathBuf, length: u64) -> Self {
        Self { file: DocumentFile::Existing(path), lengths: Vec::new(), current: length, left: 0 }
    }

    /// Appends to the current document.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), DocumentsError> {
        let DocumentFile::Writing(file) = &mut self.file else { return Ok(()) };
        let length = bytes.len() as u64;
        self.left = self.left.checked_sub(length).ok_or(DocumentsError::TooLarge)?;
        file.write_all(bytes)?;
        self.current += length;
        Ok(())
    }

    /// Bytes that can still be written.
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Number of complete documents.
    pub const fn count(&self) -> usize {
        self.lengths.len()
    }

    /// Removes the last complete document.
    pub fn undo_document(&mut self) -> io::Result<()> {
        self.left += self.lengths.pop().unwrap_or(0);
        self.truncate()
    }

    /// Removes what was written of a document that is not complete.
    pub fn discard_unfinished(&mut self) -> io::Result<()> {
        self.left += std::mem::take(&mut self.current);
        self.truncate()
    }

    /// Cuts the file after the last complete document.
    fn truncate(&mut self) -> io::Result<()> {
        if let DocumentFile::Writing(file) = &mut self.file {
            let end = self.lengths.iter().sum();
            file.as_file().set_len(end)?;
            file.seek(SeekFrom::Start(end))?;
        }
        Ok(())
    }

    /// Ends the current document; the next write begins another.
    pub fn end_document(&mut self) {
        self.lengths.push(std::mem::take(&mut self.current));
    }

    /// Ends the last document. Returns the file and the lengths of the documents in it.
    pub fn finish(&mut self) -> (&Path, &[u64]) {
        if self.current > 0 {
            self.end_document();
        }
        let file = std::mem::replace(&mut self.file, DocumentFile::Existing(PathBuf::new()));
        self.file = match file {
            DocumentFile::Writing(file) => DocumentFile::Temporary(file.into_temp_path()),
            other => other,
        };
        let path: &Path = match &self.file {
            DocumentFile::Temporary(path) => path,
            DocumentFile::Existing(path) => path,
            DocumentFile::Writing(file) => file.path(),
        };
        (path, &self.lengths)
    }
}

/// Reader of the documents of a pull, one after the other.
#[derive(Debug)]
pub struct OpenDocuments {
    file: File,
    lengths: std::vec::IntoIter<u64>,
}

impl OpenDocuments {
    /// Opens the file of [`Documents::finish`].
    pub fn open(path: &Path, lengths: Vec<u64>) -> io::Result<Self> {
        Ok(Self { file: regular_file::open_trusted(path)?, lengths: lengths.into_iter() })
    }

    /// Returns the next document, which must be read to its end before the one after it.
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
    fn a_removed_document_leaves_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let mut documents = Documents::create(folder.path(), 10).unwrap();
        documents.write(b"abc").unwrap();
        documents.end_document();
        documents.write(b"1234567").unwrap();
        assert!(matches!(documents.write(b"8"), Err(DocumentsError::TooLarge)));
        documents.end_document();
        documents.undo_document().unwrap();
        assert_eq!((documents.left(), documents.count()), (7, 1));
        documents.write(b"xyz").unwrap();
        documents.discard_unfinished().unwrap();
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

//! Feeds without network access: a local file, and text compiled into the agent.

use std::io::Read as _;
use std::path::Path;

use super::body::{Head, documents};
use super::error::FetchError;
use crate::base::regular_file;
use crate::intel::config::{FeedConfig, FeedSource};
use crate::intel::pull::{Cursor, Documents, Extent, PullOutcome};

/// Returns the file itself, or the embedded text; nothing for a feed by HTTP. It blocks.
pub(super) fn pull(feed: &FeedConfig, folder: &Path) -> Result<PullOutcome, FetchError> {
    let documents = match &feed.source {
        FeedSource::File(path) => local_file(path, feed.max_bytes)?,
        FeedSource::Embedded(text) => embedded(text, folder)?,
        FeedSource::Http(_) => embedded("", folder)?,
    };
    Ok(PullOutcome::New { documents, extent: Extent::Snapshot, cursor: Cursor::Start })
}

fn local_file(path: &Path, max: u64) -> Result<Documents, FetchError> {
    // Opening a pipe would wait for its writer.
    if !path.metadata().map_err(FetchError::File)?.is_file() {
        return Err(FetchError::NotAFile);
    }
    let file = regular_file::open_trusted(path).map_err(FetchError::File)?;
    let length = file.metadata().map_err(FetchError::File)?.len();
    if length > max {
        return Err(FetchError::TooLarge { max });
    }
    let mut head = Head::default();
    let mut begin = Vec::new();
    file.take(64 << 10).read_to_end(&mut begin).map_err(FetchError::File)?;
    head.add(&begin);
    head.check()?;
    Ok(Documents::from_file(path.to_owned(), length))
}

fn embedded(text: &str, folder: &Path) -> Result<Documents, FetchError> {
    let mut head = Head::default();
    head.add(text.as_bytes());
    head.check()?;
    let max = text.len() as u64;
    let mut documents = documents(folder, max)?;
    documents.write(text.as_bytes()).map_err(|error| FetchError::from_documents(error, max))?;
    documents.end_document();
    Ok(documents)
}

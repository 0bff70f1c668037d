//! Readers of the feed formats: bytes to entries.

mod addresses;
pub mod columns;
pub mod crowdsec;
pub mod endpoint;
pub mod entry;
mod go_duration;
pub mod json;
pub mod kind;
pub mod list;
pub mod misp;
pub mod rows;
pub mod sentinel_query;
pub mod sniff;
pub mod stix;
pub mod stix_pattern;
pub mod warninglist;

use std::io::{self, BufRead};

use entry::{EntrySink, ReadError, ReadPolicy};
use kind::FeedKind;
use list::ListFormat;

use crate::base::text_input::{TextInput, TextInputError};

/// Format of a document.
#[derive(Debug, Clone, Copy)]
pub struct DocumentFormat<'f> {
    /// Kind of the feed.
    pub kind: FeedKind,
    /// Format of a list; unused for other kinds.
    pub list: &'f ListFormat,
    /// Maximum size of a document after decompression, bytes.
    pub max_bytes: u64,
}

/// Reads a document whose first position is `first_position`. Returns the number of its positions.
/// A gzip document may have `format.max_bytes` once it is decompressed.
pub fn read_document(
    input: impl BufRead,
    format: DocumentFormat<'_>,
    policy: &ReadPolicy,
    first_position: u64,
    entries: &mut dyn EntrySink,
) -> Result<u64, ReadError> {
    let read = TextInput::open(input, format.max_bytes)
        .map_err(ReadError::Io)
        .and_then(|text| read_text(text, format, policy, first_position, entries));
    read.map_err(|error| match error {
        ReadError::Io(error) => match TextInputError::from_io(&error) {
            Some(other) => ReadError::Format(other.to_string()),
            // Only a compressed document ends early without an error of the file.
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                ReadError::Truncated("inside its compression".to_owned())
            }
            None => ReadError::Io(error),
        },
        other => other,
    })
}

fn read_text(
    input: impl BufRead,
    format: DocumentFormat<'_>,
    policy: &ReadPolicy,
    first_position: u64,
    entries: &mut dyn EntrySink,
) -> Result<u64, ReadError> {
    match format.kind {
        FeedKind::List => list::read_list(input, format.list, policy, first_position, entries),
        FeedKind::Sentinel => rows::read_rows(input, policy, first_position, entries),
        FeedKind::Misp | FeedKind::MispFeed => {
            misp::read_misp(input, policy, first_position, entries)
        }
        FeedKind::CrowdSec => crowdsec::read_crowdsec(input, policy, first_position, entries),
        FeedKind::SentinelQuery => {
            sentinel_query::read_sentinel_query(input, policy, first_position, entries)
        }
        FeedKind::Stix | FeedKind::Taxii2 => {
            stix::read_stix(input, policy, first_position, entries)
        }
    }
}

//! Indicators of a replay, as one set. All files of rows form one table. Of the other documents the newest
//! version of an id counts. Each list is a separate feed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::input;
use super::input::Input;
use super::lists::Lists;
use super::options::ReplayError;
use super::reject_log::RejectLog;
use super::stored_entries::{Documents, RowEntries};
use crate::base::collections::FastSet;
use crate::base::progress::Progress;
use crate::intel::sniff;
use crate::intel::{
    FeedKind, IndicatorSet, MemorySegment, PrefixPolicy, ReadPolicy, RejectReason, Rejects,
    RowReader,
};

/// Bytes at the start of a file that its kind is detected from.
const HEAD_BYTES: u64 = 1 << 16;

/// Files of indicators, and the time at which they are evaluated.
pub(super) struct IndicatorInput<'i> {
    pub(super) files: &'i [PathBuf],
    /// Only indicators that are live at this time are used.
    pub(super) at: Timestamp,
    /// Rows before `at - lookback` are ignored.
    pub(super) lookback: SignedDuration,
    pub(super) progress: &'i Progress,
}

/// Reads all files. Returns the set of the live indicators, each id once: that of a row before that of a
/// document, and that before one of a list. Malformed entries go to `log`.
pub(super) fn load(
    options: &IndicatorInput<'_>,
    log: &mut RejectLog<'_>,
) -> Result<IndicatorSet, ReplayError> {
    let prefixes = PrefixPolicy::default();
    let policy =
        ReadPolicy { prefixes, min_confidence: None, now: options.at, oldest: Timestamp::MIN };
    let mut segment = MemorySegment::default();
    let mut rows = RowReader::new("".into(), prefixes, options.at, options.lookback);
    let (mut documents, mut lists) = (Documents::new(policy), Lists::new(policy));
    for path in options.files {
        let failed = |source| ReplayError::Read { path: path.clone(), source };
        let mut input = input::open(path, options.progress).map_err(failed)?;
        let feed = feed_name(path);
        let rejects = match kind(&mut input).map_err(failed)? {
            FeedKind::Sentinel => {
                rows.set_feed(feed);
                rows.read(input.reader).map_err(failed)?;
                rows.take_rejects()
            }
            FeedKind::List => lists.read(input.reader, &feed, &mut segment).map_err(failed)?,
            kind => documents.read(input.reader, kind, &feed, &mut segment).map_err(failed)?,
        };
        log_malformed(&rejects, path, log).map_err(ReplayError::WriteRejects)?;
    }
    let mut ids = FastSet::default();
    rows.finish(&mut RowEntries { segment: &mut segment, ids: &mut ids });
    documents.keep(&mut segment, &mut ids);
    lists.keep(&mut segment, &mut ids);
    Ok(IndicatorSet::from_segments(vec![Arc::new(segment.finish())]))
}

fn kind(input: &mut Input) -> std::io::Result<FeedKind> {
    match input.first {
        Some(b'{' | b'[') => Ok(sniff(&input.peek(HEAD_BYTES)?)),
        _ => Ok(FeedKind::List),
    }
}

/// Returns the name of the file as the name of the feed.
fn feed_name(path: &Path) -> Arc<str> {
    if input::is_stdin(path) {
        return "stdin".into();
    }
    path.file_name().map_or_else(|| "".into(), |name| name.to_string_lossy().into())
}

fn log_malformed(rejects: &Rejects, path: &Path, log: &mut RejectLog<'_>) -> std::io::Result<()> {
    let mut unlisted = rejects.malformed();
    for reject in rejects.kept().iter().filter(|reject| reject.reason.is_malformed()) {
        log.add(path, reject.position, &format!("{}: {:?}", reject.reason, reject.text))?;
        unlisted -= 1;
    }
    log.add_unlisted(unlisted);
    let mut unlisted = rejects.properties();
    for reject in rejects.kept() {
        if matches!(reject.reason, RejectReason::PropertyUnused(_)) {
            log.note(path, reject.position, &format!("{}: {:?}", reject.reason, reject.text))?;
            unlisted -= 1;
        }
    }
    log.add_unlisted_notes(unlisted);
    Ok(())
}

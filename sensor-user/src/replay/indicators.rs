//! Indicators of a replay. All files of rows form one table. Of the other documents the newest version
//! of an id counts. Each list is a separate feed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use jiff::{SignedDuration, Timestamp};

use super::input;
use super::input::Input;
use super::options::ReplayError;
use super::reject_log::RejectLog;
use crate::base::progress::Progress;
use crate::intel::sniff;
use crate::intel::{
    CollectedEntries, DocumentFormat, EntryContent, FeedEntry, FeedKind, Indicator, ListFormat,
    PrefixPolicy, ReadPolicy, RejectReason, Rejects, RowReader, parse_list, read_document,
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

/// Reads all files. Returns the live indicators, each id once. Malformed entries go to `log`.
pub(super) fn load(
    options: &IndicatorInput<'_>,
    log: &mut RejectLog<'_>,
) -> Result<Vec<Arc<Indicator>>, ReplayError> {
    let prefixes = PrefixPolicy::default();
    let mut rows = RowReader::new("".into(), prefixes, options.at, options.lookback);
    let mut documents = Documents::new(prefixes, options.at);
    let mut listed = Vec::new();
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
            FeedKind::List => {
                let list = parse_list(input.reader, &feed, prefixes, options.at);
                let list = list.map_err(failed)?;
                listed.extend(list.indicators);
                list.rejects
            }
            kind => documents.read(input, kind, &feed).map_err(failed)?,
        };
        log_malformed(&rejects, path, log).map_err(ReplayError::WriteRejects)?;
    }
    let mut all = rows.finish().indicators;
    let mut ids: HashSet<String> = all.iter().map(|indicator| indicator.id.clone()).collect();
    for (id, indicators) in documents.finish() {
        if ids.insert(id) {
            all.extend(indicators);
        }
    }
    all.extend(listed.into_iter().filter(|indicator| ids.insert(indicator.id.clone())));
    Ok(all.into_iter().map(Arc::new).collect())
}

fn kind(input: &mut Input) -> std::io::Result<FeedKind> {
    match input.first {
        Some(b'{' | b'[') => Ok(sniff(&input.peek(HEAD_BYTES)?)),
        _ => Ok(FeedKind::List),
    }
}

/// Newest content of each id in STIX, MISP and similar documents, in the order of first occurrence.
struct Documents {
    policy: ReadPolicy,
    newest: IndexMap<String, Newest>,
    /// True if a file of `CrowdSec` had two decisions of a group: see [`crate::intel::Merge::withdrawing_groups`].
    has_repeated_groups: bool,
}

struct Newest {
    version: Option<Timestamp>,
    group: String,
    content: EntryContent,
}

impl Documents {
    fn new(prefixes: PrefixPolicy, now: Timestamp) -> Self {
        let oldest = Timestamp::MIN;
        let policy = ReadPolicy { prefixes, min_confidence: None, now, oldest };
        Self { policy, newest: IndexMap::new(), has_repeated_groups: false }
    }

    /// Reads a file. A truncated file, or one of another kind, is an error.
    fn read(&mut self, input: Input, kind: FeedKind, feed: &Arc<str>) -> std::io::Result<Rejects> {
        let mut collected = CollectedEntries::default();
        let format = DocumentFormat { kind, list: &ListFormat::default(), max_bytes: u64::MAX };
        read_document(input.reader, format, &self.policy, 1, &mut collected)?;
        let CollectedEntries { entries, mut rejects } = collected;
        if kind == FeedKind::CrowdSec {
            self.withdraw_groups(&entries);
        }
        for FeedEntry { id, group, version, position, mut content } in entries {
            match &mut content {
                EntryContent::Removed(reason) => rejects.add(position, reason.clone(), &id),
                EntryContent::Indicators(all) => {
                    for indicator in all {
                        indicator.feed = Arc::clone(feed);
                    }
                }
            }
            let known = self.newest.get(&id);
            if known.is_none_or(|known| known.version <= version) {
                self.newest.insert(id, Newest { version, group, content });
            }
        }
        Ok(rejects)
    }

    /// Removes the groups of decisions of which a file has only a deletion with an unknown id, as a pull does.
    fn withdraw_groups(&mut self, entries: &[FeedEntry]) {
        let mut added = HashSet::new();
        let mut withdrawn = HashSet::new();
        for entry in entries {
            match entry.content {
                EntryContent::Indicators(_) => {
                    self.has_repeated_groups |= !added.insert(entry.group.as_str());
                }
                EntryContent::Removed(RejectReason::Withdrawn)
                    if !self.newest.contains_key(&entry.id) =>
                {
                    withdrawn.insert(entry.group.as_str());
                }
                EntryContent::Removed(_) => {}
            }
        }
        if !self.has_repeated_groups {
            self.newest.retain(|_, it| {
                let group = it.group.as_str();
                added.contains(group) || !withdrawn.contains(group)
            });
        }
    }

    /// Returns the live indicators of each id.
    fn finish(self) -> impl Iterator<Item = (String, Vec<Indicator>)> {
        let Self { policy, newest, .. } = self;
        newest.into_iter().filter_map(move |(id, newest)| {
            let EntryContent::Indicators(mut all) = newest.content else { return None };
            all.retain(|indicator| indicator.expires.is_none_or(|end| end > policy.now));
            (!all.is_empty()).then_some((id, all))
        })
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

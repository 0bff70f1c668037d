//! `History`: the log, and an index of it in memory.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::entry::{self, HistoryEntry};
use super::index_entry::IndexEntry;
use super::log::{self, HistoryRecord, HistorySegment, SegmentAppender};
use super::restart::BeforeRestart;
use crate::base::collections::FastMap;
use crate::base::counters::Stats;
use crate::intel::is_special;
use crate::pipeline::aggregate::{Flow, Phase};
use crate::pipeline::matcher::Hit;

/// Time after which the creation of a segment is retried.
const RETRY: SignedDuration = SignedDuration::from_secs(10);
/// Number of segments that the look-back period is divided into.
const SEGMENTS: i32 = 6;
/// Buffered bytes that are written even if their alerts are not on disk yet.
const BUFFER_MAX: usize = 4 << 20;
/// A segment has at most this part of the limits of entries and bytes.
const SHARE: usize = 8;

/// Limits of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryConfig {
    /// Look-back period: connections are kept this long, and matched no longer.
    pub lookback: SignedDuration,
    /// Maximum number of entries.
    pub max_entries: usize,
    /// Maximum size of all files in bytes.
    pub max_bytes: u64,
    /// True if private and special addresses are recorded, since a feed may contain them.
    pub private: bool,
}

impl HistoryConfig {
    /// Defaults: one hour, as in the original rule; 65,536 entries, about 10 MB of memory when full;
    /// 64 MiB of files.
    pub const USUAL: Self = Self {
        lookback: SignedDuration::from_hours(1),
        max_entries: 65_536,
        max_bytes: 64 << 20,
        private: false,
    };
}

/// Connections of the look-back period; see the module.
#[derive(Debug)]
pub struct History {
    folder: PathBuf,
    pub(super) config: HistoryConfig,
    /// Oldest first; the last is appended to.
    pub(super) segments: Vec<HistorySegment>,
    appender: SegmentAppender,
    /// Entries by number.
    pub(super) entries: FastMap<u32, IndexEntry>,
    /// Latest entry of a [`entry::entry_key`] in the current segment.
    by_key: FastMap<u64, u32>,
    /// Latest entry of a [`entry::restart_key`].
    pub(super) by_restart_key: FastMap<u64, u32>,
    before_restart: BeforeRestart,
    next_number: u32,
    /// Time of the next attempt after a segment could not be created.
    retry_at: Option<Timestamp>,
    /// True until the first [`History::retro_matches`].
    pub(super) is_unmatched: bool,
    stats: Arc<Stats>,
}

impl History {
    /// Opens the folder `history` of the state directory `state` and reads what earlier runs wrote.
    /// Damaged ends are skipped and logged.
    pub fn open(
        state: &Path,
        config: HistoryConfig,
        now: Timestamp,
        stats: Arc<Stats>,
    ) -> io::Result<Self> {
        let folder = state.join("history");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let mut history = Self {
            folder,
            config,
            segments: Vec::new(),
            appender: SegmentAppender::default(),
            entries: FastMap::default(),
            by_key: FastMap::default(),
            by_restart_key: FastMap::default(),
            before_restart: BeforeRestart::new(now),
            next_number: 0,
            retry_at: None,
            is_unmatched: true,
            stats,
        };
        let files = std::fs::read_dir(&history.folder)?.filter_map(Result::ok);
        let mut files: Vec<HistorySegment> =
            files.filter_map(|file| HistorySegment::from_path(file.path())).collect();
        files.sort_unstable_by_key(|segment| segment.start);
        for segment in files {
            history.load(segment);
        }
        history.evict(now);
        history.before_restart.finish(&history.entries);
        Ok(history)
    }

    /// Replaces the limits.
    pub const fn set_config(&mut self, config: HistoryConfig) {
        self.config = config;
    }

    /// Number of entries, and its maximum.
    pub fn occupancy(&self) -> (usize, usize) {
        (self.entries.len(), self.config.max_entries)
    }

    /// Size of all files in bytes, and its maximum.
    pub fn bytes(&self) -> (u64, u64) {
        (self.segments.iter().map(|segment| segment.bytes).sum(), self.config.max_bytes)
    }

    fn load(&mut self, mut segment: HistorySegment) {
        let first = self.next_number;
        let (mut end, mut entries) = (segment.end, 0);
        let read = segment.read(|record| {
            match &record {
                HistoryRecord::Entry(number, entry) => {
                    self.next_number = self.next_number.max(number.saturating_add(1));
                    let flow = entry.to_flow(segment.start, None);
                    self.before_restart.add_entry(*number, &flow);
                    self.entries.insert(*number, IndexEntry::new(&flow));
                    entries += 1;
                }
                HistoryRecord::Connection { entry, time, port, .. } => {
                    end = end.max(segment.time(*time));
                    self.before_restart.add_connection(*entry, *port);
                }
                HistoryRecord::Traffic { .. } | HistoryRecord::Reported { .. } => {}
            }
            self.apply(&record, segment.start);
        });
        let path = &segment.path;
        match read {
            Ok(whole) => {
                let length = std::fs::metadata(path).map_or(whole, |file| file.len());
                if whole < length {
                    let (path, lost) = (path.display(), length - whole);
                    tracing::error!(%path, lost, "history is damaged; its end is skipped");
                }
                (segment.bytes, segment.end, segment.entries) = (length, end, entries);
                segment.numbers = first..self.next_number;
                self.segments.push(segment);
            }
            Err(error) => tracing::error!(path = %path.display(), %error, "history cannot be read"),
        }
    }

    /// Records a new connection with its live hits. Returns the hits that are not reported yet: all
    /// of them, unless an earlier run reported the same connection.
    pub fn record_connection(&mut self, flow: &Flow, hits: Vec<Hit>) -> Vec<Hit> {
        let is_special = is_special(flow.remote)
            && flow.translated.is_none_or(|translated| is_special(translated.remote_ip));
        if is_special && !self.config.private {
            return hits;
        }
        if let Some(number) = self.before_restart.take(flow, &mut self.entries) {
            return self.unreported(number, flow, hits);
        }
        if !self.ensure_segment(flow.time) {
            return hits;
        }
        let entry = self.number_of(flow);
        let Some(segment) = self.segments.last() else { return hits };
        let record = HistoryRecord::Connection {
            entry,
            time: segment.offset(flow.time),
            port: flow.source_port(),
            preexisting: flow.preexisting,
            hits: hits.iter().map(entry::indicator_hash).collect(),
        };
        self.append(&record, Some(flow.time));
        hits
    }

    /// Records the bytes of a connection, or that it closed.
    pub fn record_traffic(&mut self, flow: &Flow) {
        let has_ended = flow.phase == Phase::Closed;
        let (sent, received) = (flow.bytes_sent, flow.bytes_received);
        if sent == 0 && received == 0 && !has_ended {
            return;
        }
        for entry in self.traffic_entries(flow) {
            if self.ensure_segment(flow.time) {
                self.append(&HistoryRecord::Traffic { entry, sent, received, has_ended }, None);
            }
        }
    }

    /// Entries of a connection: one, or one each for its own ends and for its mapping, if that was not
    /// known when it opened.
    fn traffic_entries(&self, flow: &Flow) -> Vec<u32> {
        if let Some(entry) =
            self.by_key.get(&entry::entry_key(flow, flow.translated, Phase::Opened))
        {
            return vec![*entry];
        }
        let find = |translated, phase| {
            let restart_key = entry::restart_key_as(flow, phase);
            let entry = self.by_key.get(&entry::entry_key(flow, translated, phase));
            let entry = entry.or_else(|| self.by_restart_key.get(&restart_key)).copied();
            entry.or_else(|| self.before_restart.get(restart_key))
        };
        let mapped = flow.translated.and_then(|_| find(flow.translated, Phase::Translated));
        find(None, Phase::Opened).into_iter().chain(mapped).collect()
    }

    /// True if so much is buffered that it must be written now.
    pub const fn must_flush(&self) -> bool {
        self.appender.buffered() >= BUFFER_MAX
    }

    /// Writes the buffered records.
    pub fn flush(&mut self) {
        if let Err(error) = self.appender.flush() {
            self.stats.history_writes_failed.increment();
            tracing::debug!(%error, "history cannot be written");
        }
    }

    /// Removes segments that are older than the look-back period, or above the limits.
    pub fn evict(&mut self, now: Timestamp) {
        let oldest = self.oldest(now);
        while self.segments.first().is_some_and(|segment| segment.end < oldest) {
            self.evict_first();
        }
        while self.segments.len() > 1
            && (self.entries.len() > self.config.max_entries
                || self.bytes().0 > self.config.max_bytes)
        {
            let entries = self.segments.first().map_or(0, |segment| segment.entries);
            self.stats.history_entries_evicted.add(entries as u64);
            self.evict_first();
        }
    }

    /// Start of the look-back period at `now`.
    pub(super) fn oldest(&self, now: Timestamp) -> Timestamp {
        now.checked_sub(self.config.lookback).unwrap_or(Timestamp::MIN)
    }

    /// Appends `record` to the log and applies it to the index.
    fn append(&mut self, record: &HistoryRecord, time: Option<Timestamp>) {
        let length = self.appender.append(record);
        let Some(segment) = self.segments.last_mut() else { return };
        segment.bytes += length;
        segment.end = time.map_or(segment.end, |time| time.max(segment.end));
        let start = segment.start;
        self.apply(record, start);
    }

    /// Applies `record`, of the segment that starts at `start`, to the index.
    fn apply(&mut self, record: &HistoryRecord, start: Timestamp) {
        let Some(entry) = self.entries.get_mut(&record.entry()) else { return };
        match record {
            HistoryRecord::Entry(..) => {}
            HistoryRecord::Connection { time, hits, .. } => {
                entry.add_connection(log::time(start, *time), hits);
                entry.open = entry.open.saturating_add(1);
            }
            HistoryRecord::Traffic { has_ended, .. } => {
                entry.open = entry.open.saturating_sub(u32::from(*has_ended));
            }
            HistoryRecord::Reported { until, indicator, .. } => {
                entry.set_reported(*indicator, log::time(start, *until));
            }
        }
    }

    /// Number of the flow's entry in the current segment, which is defined there if it is new.
    fn number_of(&mut self, flow: &Flow) -> u32 {
        let key = entry::entry_key(flow, flow.translated, flow.phase);
        if let Some(number) = self.by_key.get(&key) {
            return *number;
        }
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        let entry = IndexEntry::new(flow);
        self.by_key.insert(key, number);
        self.by_restart_key.insert(entry.restart_key, number);
        self.entries.insert(number, entry);
        if let Some(segment) = self.segments.last_mut() {
            segment.entries += 1;
            segment.numbers.end = self.next_number;
        }
        self.append(&HistoryRecord::Entry(number, Box::new(HistoryEntry::from(flow))), None);
        number
    }

    /// Begins a segment if there is none, or if the current one has its share of time, entries or
    /// bytes. Returns false if none can be created.
    fn ensure_segment(&mut self, now: Timestamp) -> bool {
        if self.retry_at.is_some_and(|at| now < at) {
            self.stats.history_writes_failed.increment();
            return false;
        }
        let is_full = self.segments.last().is_none_or(|segment| {
            now.duration_since(segment.start) * SEGMENTS >= self.config.lookback
                || segment.entries >= self.config.max_entries.div_ceil(SHARE)
                || segment.bytes >= self.config.max_bytes.div_ceil(SHARE as u64)
        });
        if self.appender.is_open() && !is_full {
            return true;
        }
        self.flush();
        // The start is the file name, so it must differ.
        let after = self.segments.last().map_or(Timestamp::MIN, |segment| segment.start);
        let next = after.checked_add(SignedDuration::from_nanos(1)).unwrap_or(now);
        let segment = HistorySegment::new(&self.folder, now.max(next), self.next_number);
        if let Err(error) = self.appender.open(&segment) {
            self.stats.history_writes_failed.increment();
            tracing::error!(%error, "history cannot be written; retried in ten seconds");
            self.retry_at = now.checked_add(RETRY).ok();
            return false;
        }
        self.retry_at = None;
        self.by_key.clear();
        self.segments.push(segment);
        self.evict(now);
        true
    }

    fn evict_first(&mut self) {
        let HistorySegment { path, numbers, .. } = self.segments.remove(0);
        // After a restart the range includes numbers that were evicted long ago.
        let numbers: Vec<u32> = if numbers.len() <= self.entries.len() {
            numbers.collect()
        } else {
            self.entries.keys().copied().filter(|number| numbers.contains(number)).collect()
        };
        for number in numbers {
            let Some(entry) = self.entries.remove(&number) else { continue };
            self.before_restart.remove(number, entry.restart_key);
            if self.by_key.get(&entry.key) == Some(&number) {
                self.by_key.remove(&entry.key);
            }
        }
        // An entry may have the keys of several processes.
        self.by_restart_key.retain(|_, number| self.entries.contains_key(number));
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "old history cannot be removed");
        }
    }

    /// Hits of a connection that an earlier run did not report; they are marked as reported.
    fn unreported(&mut self, number: u32, flow: &Flow, hits: Vec<Hit>) -> Vec<Hit> {
        let Some(entry) = self.entries.get(&number) else { return hits };
        let until = entry.last.unwrap_or(flow.time).max(flow.time);
        let mut fresh = hits;
        fresh.retain(|hit| {
            let hash = entry::indicator_hash(hit);
            !entry.reported.iter().any(|(reported, _)| *reported == hash)
        });
        for hit in &fresh {
            self.set_reported(number, entry::indicator_hash(hit), until);
        }
        fresh
    }

    /// Marks all connections of an entry up to `until` as reported for `indicator`.
    pub(super) fn set_reported(&mut self, entry: u32, indicator: u64, until: Timestamp) {
        if let Some(known) = self.entries.get_mut(&entry) {
            known.set_reported(indicator, until);
        }
        if self.ensure_segment(until)
            && let Some(segment) = self.segments.last()
        {
            let until = segment.offset(until);
            self.append(&HistoryRecord::Reported { entry, until, indicator }, None);
        }
    }
}

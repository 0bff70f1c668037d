//! `History`: the log, and in memory what of it a lookup needs.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::entry;
use super::entry::{Entry, tie};
use super::index_entry::Known;
use super::log;
use super::log::{Appender, Record, Segment};
use crate::base::collections::FastMap;
use crate::base::counters::Stats;
use crate::intel::is_special;
use crate::pipeline::aggregate::{Flow, Phase};
use crate::pipeline::matcher::Hit;

/// Time after which a segment that could not be made is tried again.
const TRY_AGAIN: SignedDuration = SignedDuration::from_secs(10);
/// The look-back is cut into so many segments.
const SEGMENTS: u32 = 6;
/// Bytes that wait for what was raised to be on disk, at most.
const WAITING_MAX: usize = 4 << 20;
/// No segment takes more than this part of all room.
const SHARE: usize = 8;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryConfig {
    /// Connections are kept for this long; what is told of them is asked for no longer.
    pub lookback: SignedDuration,
    /// Kinds of connections at most.
    pub max_entries: usize,
    /// Bytes of files at most.
    pub max_bytes: u64,
    /// Whether private and special addresses are kept: where a feed may name them.
    pub private: bool,
}

impl HistoryConfig {
    /// Unless set: an hour, as in the original rule; 65,536 kinds of connections, about 10 MB of
    /// memory when full; 64 MiB of files.
    pub const USUAL: Self = Self {
        lookback: SignedDuration::from_hours(1),
        max_entries: 65_536,
        max_bytes: 64 << 20,
        private: false,
    };
}

/// The connections of the look-back; see the module.
#[derive(Debug)]
pub struct History {
    folder: PathBuf,
    pub(super) config: HistoryConfig,
    /// The oldest first; the last one is appended to.
    pub(super) segments: Vec<(Segment, std::ops::Range<u32>)>,
    out: Appender,
    /// By number.
    pub(super) entries: FastMap<u32, Known>,
    /// The latest entry of a kind.
    kinds: FastMap<u64, u32>,
    /// The latest entry by what stays the same of a connection.
    ties: FastMap<u64, u32>,
    /// The latest entry of an earlier run by what is the same after a restart.
    ties_before: FastMap<u64, u32>,
    next: u32,
    /// After a segment could not be made, until then.
    closed_until: Option<Timestamp>,
    /// Whether nothing was looked for yet.
    pub(super) is_new: bool,
    stats: Arc<Stats>,
}

impl History {
    /// Reads what an earlier run kept in `history` of the state directory `state`, at `now`. What is
    /// damaged is left out (logged).
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
            out: Appender::default(),
            entries: FastMap::default(),
            kinds: FastMap::default(),
            ties: FastMap::default(),
            ties_before: FastMap::default(),
            next: 0,
            closed_until: None,
            is_new: true,
            stats,
        };
        let files = std::fs::read_dir(&history.folder)?.filter_map(Result::ok);
        let mut files: Vec<Segment> =
            files.filter_map(|file| Segment::named(file.path())).collect();
        files.sort_unstable_by_key(|segment| segment.start);
        for segment in files {
            history.load(segment);
        }
        history.drop_old(now);
        let tied = history.entries.iter().filter(|(_, known)| known.open > 0);
        history.ties_before = tied.map(|(number, known)| (known.tie, *number)).collect();
        Ok(history)
    }

    /// Holds so much from here on.
    pub const fn set_config(&mut self, config: HistoryConfig) {
        self.config = config;
    }

    fn load(&mut self, mut segment: Segment) {
        let first = self.next;
        let (mut end, mut entries) = (segment.end, 0);
        let read = segment.read(|record| {
            match &record {
                Record::Entry(number, entry) => {
                    self.next = self.next.max(number.saturating_add(1));
                    self.enter(*number, &entry.flow(segment.start, None));
                    entries += 1;
                }
                Record::Seen { time, .. } => end = end.max(segment.time(*time)),
                Record::Moved { .. } | Record::Told { .. } => {}
            }
            self.apply(&record, segment.start);
        });
        let path = &segment.path;
        match read {
            Ok(whole) => {
                let length = std::fs::metadata(path).map_or(whole, |file| file.len());
                if whole < length {
                    let (path, lost) = (path.display(), length - whole);
                    tracing::error!(%path, lost, "the end of the history is damaged; left out");
                }
                (segment.bytes, segment.end, segment.entries) = (length, end, entries);
                self.segments.push((segment, first..self.next));
            }
            Err(error) => tracing::error!(path = %path.display(), %error, "read the history"),
        }
    }

    /// Takes in a connection at first sight with its live hits; gives those that are not told yet,
    /// which is all of them but after a restart.
    pub fn seen(&mut self, flow: &Flow, hits: Vec<Hit>) -> Vec<Hit> {
        let is_special = is_special(flow.remote)
            && flow.translated.is_none_or(|translated| is_special(translated.remote_ip));
        if is_special && !self.config.private {
            return hits;
        }
        if flow.preexisting
            && flow.phase == Phase::Opened
            && let Some(number) = self.of_earlier_run(flow)
        {
            return self.again(number, flow, hits);
        }
        if !self.append(flow.time) {
            return hits;
        }
        let number = self.number(flow);
        let Some((segment, _)) = self.segments.last() else { return hits };
        let record = Record::Seen {
            entry: number,
            time: segment.offset(flow.time),
            port: flow.source_port(),
            preexisting: flow.preexisting,
            hits: hits.iter().map(entry::indicator_hash).collect(),
        };
        self.add(&record, Some(flow.time));
        hits
    }

    /// Takes in what a connection moved, or that it ended.
    pub fn moved(&mut self, flow: &Flow) {
        let has_ended = flow.phase == Phase::Closed;
        let (sent, received) = (flow.bytes_sent, flow.bytes_received);
        if sent == 0 && received == 0 && !has_ended {
            return;
        }
        let (kind, tie) = (entry::kind(flow), tie(flow));
        let entry = self.kinds.get(&kind).or_else(|| self.ties.get(&tie));
        let entry = entry.or_else(|| self.ties_before.get(&tie)).copied();
        if let Some(entry) = entry
            && self.append(flow.time)
        {
            self.add(&Record::Moved { entry, sent, received, has_ended }, None);
        }
    }

    /// Whether so much waits to be written that it is not held back any longer.
    pub const fn is_long(&self) -> bool {
        self.out.waiting() >= WAITING_MAX
    }

    /// Writes what was taken in since the last call.
    pub fn flush(&mut self) {
        if let Err(error) = self.out.flush() {
            self.stats.history_writes_failed.increment();
            tracing::debug!(%error, "write the history");
        }
    }

    /// Removes what is older than the look-back at `now`, or does not fit.
    pub fn drop_old(&mut self, now: Timestamp) {
        let oldest = self.oldest(now);
        let is_over = |(segment, _): &(Segment, _)| segment.end < oldest;
        while self.segments.first().is_some_and(is_over) {
            self.drop_first();
        }
        let bytes = |history: &Self| history.segments.iter().map(|(it, _)| it.bytes).sum::<u64>();
        while self.segments.len() > 1
            && (self.entries.len() > self.config.max_entries || bytes(self) > self.config.max_bytes)
        {
            let dropped = self.segments.first().map_or(0, |(segment, _)| segment.entries);
            self.stats.history_entries_evicted.add(dropped as u64);
            self.drop_first();
        }
    }

    /// Connections before this are not asked for at `now`.
    pub(super) fn oldest(&self, now: Timestamp) -> Timestamp {
        now.checked_sub(self.config.lookback).unwrap_or(Timestamp::MIN)
    }

    /// Adds `record` to the log and to what memory knows.
    pub(super) fn add(&mut self, record: &Record, time: Option<Timestamp>) {
        let length = self.out.add(record);
        let Some((segment, _)) = self.segments.last_mut() else { return };
        segment.bytes += length;
        segment.end = time.map_or(segment.end, |time| time.max(segment.end));
        let start = segment.start;
        self.apply(record, start);
    }

    /// Takes `record` of the segment that begins at `start` into memory.
    fn apply(&mut self, record: &Record, start: Timestamp) {
        let entry = match record {
            Record::Entry(..) => return,
            Record::Seen { entry, .. } | Record::Moved { entry, .. } => entry,
            Record::Told { entry, .. } => entry,
        };
        let Some(known) = self.entries.get_mut(entry) else { return };
        match record {
            Record::Entry(..) => {}
            Record::Seen { time, hits, .. } => {
                known.see(log::time(start, *time), hits);
                known.open = known.open.saturating_add(1);
            }
            Record::Moved { has_ended, .. } => {
                known.open = known.open.saturating_sub(u32::from(*has_ended));
            }
            Record::Told { until, indicator, .. } => {
                known.tell(*indicator, log::time(start, *until));
            }
        }
    }

    /// The number of a flow's kind in the segment at hand; it is defined there where it is not yet.
    fn number(&mut self, flow: &Flow) -> u32 {
        let kind = entry::kind(flow);
        if let Some(number) = self.kinds.get(&kind) {
            return *number;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let tie = self.enter(number, flow);
        self.kinds.insert(kind, number);
        self.ties.insert(tie, number);
        if let Some((segment, numbers)) = self.segments.last_mut() {
            segment.entries += 1;
            numbers.end = self.next;
        }
        self.add(&Record::Entry(number, Box::new(Entry::from(flow))), None);
        number
    }

    /// Knows the kind of `flow` by `number`; gives its tie.
    fn enter(&mut self, number: u32, flow: &Flow) -> u64 {
        let tie = tie(flow);
        let known = Known {
            remote: flow.remote,
            translated: flow.translated.map(|translated| translated.remote()),
            last: None,
            kind: entry::kind(flow),
            tie,
            open: 0,
            told: Vec::new(),
        };
        self.entries.insert(number, known);
        tie
    }

    /// Has a segment of this run to append to: a new one where that at hand has its share of time
    /// or room. False where none can be made.
    fn append(&mut self, now: Timestamp) -> bool {
        if self.closed_until.is_some_and(|until| now < until) {
            self.stats.history_writes_failed.increment();
            return false;
        }
        let is_full = self.segments.last().is_none_or(|(segment, _)| {
            now.duration_since(segment.start) * i32::try_from(SEGMENTS).unwrap_or(1)
                >= self.config.lookback
                || segment.entries >= self.config.max_entries.div_ceil(SHARE)
                || segment.bytes >= self.config.max_bytes.div_ceil(SHARE as u64)
        });
        if self.out.is_open() && !is_full {
            return true;
        }
        self.flush();
        let after = self.segments.last().map_or(Timestamp::MIN, |(segment, _)| segment.start);
        let next = after.checked_add(SignedDuration::from_nanos(1)).unwrap_or(now);
        let segment = Segment::new(&self.folder, now.max(next));
        if let Err(error) = self.out.open(&segment) {
            self.stats.history_writes_failed.increment();
            tracing::error!(%error, "the history cannot be written; tried again in ten seconds");
            self.closed_until = now.checked_add(TRY_AGAIN).ok();
            return false;
        }
        self.closed_until = None;
        self.kinds.clear();
        self.segments.push((segment, self.next..self.next));
        self.drop_old(now);
        true
    }

    fn drop_first(&mut self) {
        let (segment, numbers) = self.segments.remove(0);
        // After a restart the numbers that left long ago are in the range as well.
        let numbers: Vec<u32> = if numbers.len() <= self.entries.len() {
            numbers.collect()
        } else {
            self.entries.keys().copied().filter(|number| numbers.contains(number)).collect()
        };
        for number in numbers {
            if let Some(known) = self.entries.remove(&number) {
                for (map, key) in [
                    (&mut self.kinds, known.kind),
                    (&mut self.ties, known.tie),
                    (&mut self.ties_before, known.tie),
                ] {
                    if map.get(&key) == Some(&number) {
                        map.remove(&key);
                    }
                }
            }
        }
        if let Err(error) = std::fs::remove_file(&segment.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %segment.path.display(), %error, "remove old history");
        }
    }

    /// The entry of an earlier run that has this connection, which was still open when it ended.
    fn of_earlier_run(&mut self, flow: &Flow) -> Option<u32> {
        let number = *self.ties_before.get(&tie(flow))?;
        let known = self.entries.get_mut(&number).filter(|known| known.open > 0)?;
        known.open -= 1;
        Some(number)
    }

    /// A connection that an earlier run saw is found again: what it was told of is not told again.
    fn again(&mut self, number: u32, flow: &Flow, hits: Vec<Hit>) -> Vec<Hit> {
        let Some(known) = self.entries.get(&number) else { return hits };
        let until = known.last.unwrap_or(flow.time).max(flow.time);
        let fresh: Vec<Hit> = hits
            .into_iter()
            .filter(|hit| {
                let hash = entry::indicator_hash(hit);
                !known.told.iter().any(|(told, _)| *told == hash)
            })
            .collect();
        for hit in &fresh {
            self.tell(number, entry::indicator_hash(hit), until);
        }
        fresh
    }

    /// Notes that all connections of an entry up to `until` are told, of `indicator`.
    pub(super) fn tell(&mut self, entry: u32, indicator: u64, until: Timestamp) {
        if let Some(known) = self.entries.get_mut(&entry) {
            known.tell(indicator, until);
        }
        if self.append(until)
            && let Some((segment, _)) = self.segments.last()
        {
            let record = Record::Told { entry, until: segment.offset(until), indicator };
            self.add(&record, None);
        }
    }
}

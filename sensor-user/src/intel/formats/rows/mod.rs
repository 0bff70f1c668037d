//! Rows of Microsoft Sentinel tables as JSON lines or as an array: `ThreatIntelligenceIndicator` and
//! `ThreatIntelIndicators`, also mixed.
//!
//! The tables are append-only: an indicator has many rows, of which one applies, by the original
//! rule. A row older than the lookback is ignored. Then a row without a usable address is ignored,
//! *before* the newest row of an id is chosen, so that an older valid row outlives a newer one that
//! lost its address. The newest row (of equal times, the later in input) determines whether the
//! indicator is live: active, not deleted, not revoked, and with an expiry after now. Only in the
//! newer table the expiry may be missing. A row without `IndicatorId` has the id "", as in the
//! rule.

mod legacy;
mod packed;
mod row;
mod stix;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::HashMap;
use std::io::{self, BufRead, Read as _};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};

use self::packed::PackedIndicator;
use self::row::read_row;
use self::verdict::{RowReject, RowState, UsableRow};
use super::entry::{CollectedEntries, EntryContent, EntrySink, FeedEntry, ReadError, ReadPolicy};
use crate::base::array_lines::ArrayLines;
use crate::base::json_text::JsonText;
use crate::base::lines::Lines;
use crate::intel::address::PrefixPolicy;
use crate::intel::rejects::{RejectReason, Rejects};

/// Reads rows; returns the number of lines. Each id is one entry, from its newest row.
pub fn read_rows(
    input: impl BufRead,
    policy: &ReadPolicy,
    first_position: u64,
    entries: &mut dyn EntrySink,
) -> Result<u64, ReadError> {
    let mut table = IndicatorTable::new(*policy);
    let read = table.read(input, first_position, entries).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => ReadError::Format(error.to_string()),
        _ => ReadError::Io(error),
    })?;
    if let Some(line) = read.truncated_line {
        return Err(ReadError::Truncated(format!("inside the row of line {line}")));
    }
    table.finish(entries);
    Ok(read.lines)
}

/// Bytes in which the response of a query is recognized.
pub const REPLY_HEAD_BYTES: u64 = 256;

/// Returns what to do with a file that begins with `head`, if it is a response of the Log Analytics API:
/// it has the names of its columns apart from its rows.
pub fn table_reply(head: &[u8]) -> Option<&'static str> {
    const HINT: &str = "a response of the Log Analytics API, in which columns are apart from rows; \
        convert it with: jq -c '.tables[] | [.columns[].name] as $names | .rows[] \
        | [$names, .] | transpose | map({(.[0]): .[1]}) | add'";
    let inside = head.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start();
    inside.starts_with(b"\"tables\"").then_some(HINT)
}

/// Reader of the rows of one or more files as one table.
#[derive(Debug)]
pub struct RowReader {
    table: IndicatorTable,
    found: CollectedEntries,
}

impl RowReader {
    /// Creates a reader that ignores rows before `now - lookback`.
    pub fn new(
        feed: Arc<str>,
        policy: PrefixPolicy,
        now: Timestamp,
        lookback: SignedDuration,
    ) -> Self {
        let oldest = now.checked_sub(lookback).unwrap_or(Timestamp::MIN);
        let policy = ReadPolicy { prefixes: policy, min_confidence: None, now, oldest };
        let mut table = IndicatorTable::new(policy);
        table.feed = feed;
        Self { table, found: CollectedEntries::default() }
    }

    /// Sets the feed of the rows that are read from now on; they belong to the same table.
    pub fn set_feed(&mut self, feed: Arc<str>) {
        self.table.feed = feed;
    }

    /// Returns the rejects since the last call, so that those of each file can be reported
    /// separately.
    pub fn take_rejects(&mut self) -> Rejects {
        std::mem::take(&mut self.found.rejects)
    }

    /// Reads all rows of an input.
    pub fn read(&mut self, reader: impl BufRead) -> io::Result<()> {
        self.table.read(reader, 1, &mut self.found).map(|_read| ())
    }

    /// Passes one entry per id to the sink, in the order in which the ids first appeared.
    pub fn finish(self, entries: &mut dyn EntrySink) {
        self.table.finish(entries);
    }
}

/// Row of an id that applies so far.
#[derive(Debug)]
struct Candidate {
    feed: Arc<str>,
    position: u64,
    time_generated: Timestamp,
    state: RowState,
    /// Indicators of the row; not empty.
    indicators: Box<[PackedIndicator]>,
}

impl Candidate {
    fn id(&self) -> &str {
        self.indicators.first().map_or("", PackedIndicator::id)
    }

    fn first_reported(&self) -> Option<Timestamp> {
        self.indicators.first().and_then(PackedIndicator::first_reported)
    }

    fn set_first_reported(&mut self, time: Option<Timestamp>) {
        self.indicators.iter_mut().for_each(|it| it.set_first_reported(time));
    }

    fn inactive_reason(&self, policy: &ReadPolicy) -> Option<RejectReason> {
        let first = self.indicators.first()?;
        let is_low = policy.is_low(first.confidence());
        self.state
            .inactive_reason(first.expires(), policy.now)
            .or_else(|| is_low.then_some(RejectReason::LowConfidence))
    }
}

#[derive(Debug)]
struct IndicatorTable {
    policy: ReadPolicy,
    feed: Arc<str>,
    /// One row per id, in the order in which the ids first appeared.
    candidates: Vec<Candidate>,
    /// Index in `candidates`, by the hash of the id.
    indexes: HashMap<u128, u32>,
}

/// Lines of an input.
#[derive(Debug, Clone, Copy)]
struct RowCount {
    lines: u64,
    /// Number of the last line, if it has no line ending and is not valid JSON.
    truncated_line: Option<u64>,
}

impl IndicatorTable {
    fn new(policy: ReadPolicy) -> Self {
        Self { policy, feed: Arc::from(""), candidates: Vec::new(), indexes: HashMap::new() }
    }

    fn read(
        &mut self,
        reader: impl BufRead,
        first_position: u64,
        entries: &mut dyn EntrySink,
    ) -> io::Result<RowCount> {
        let mut text = JsonText::new(reader).repairing_utf8();
        let mut head = Vec::new();
        text.by_ref().take(REPLY_HEAD_BYTES).read_to_end(&mut head)?;
        if let Some(hint) = table_reply(&head) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, hint));
        }
        let mut lines = Lines::new(ArrayLines::new(head.as_slice().chain(text)));
        let mut read = RowCount { lines: 0, truncated_line: None };
        while let Some(line) = lines.next_line()? {
            read.lines = line.number;
            let position = first_position.saturating_add(line.number - 1);
            let Some(bytes) = line.bytes else {
                entries.reject(position, RejectReason::LineTooLong, "");
                continue;
            };
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match read_row(bytes, &self.policy) {
                Ok(row) => self.add_row(position, row, entries),
                Err(RowReject { reason, text: Some(text) }) => {
                    entries.reject(position, reason, &text);
                }
                Err(RowReject { reason, text: None }) => {
                    if !line.is_ended && serde_json::from_slice::<IgnoredAny>(bytes).is_err() {
                        read.truncated_line = Some(line.number);
                    }
                    entries.reject(position, reason, &String::from_utf8_lossy(bytes));
                }
            }
        }
        Ok(read)
    }

    fn add_row(&mut self, position: u64, row: UsableRow, entries: &mut dyn EntrySink) {
        let UsableRow { time_generated, state, indicators, rejected, unused } = row;
        for (reason, text) in rejected {
            entries.reject(position, reason, &text);
        }
        for (column, text) in unused {
            entries.reject(position, RejectReason::PropertyUnused(column.to_owned()), &text);
        }
        let indicators = indicators.iter().map(PackedIndicator::new).collect();
        let feed = Arc::clone(&self.feed);
        let mut candidate = Candidate { feed, position, time_generated, state, indicators };
        let key = hash(candidate.id());
        let known = self.indexes.get(&key).copied();
        let known = known.and_then(|index| self.candidates.get_mut(index as usize));
        let Some(known) = known else {
            if let Ok(index) = u32::try_from(self.candidates.len()) {
                self.indexes.insert(key, index);
            }
            self.candidates.push(candidate);
            return;
        };
        let times = [known.first_reported(), candidate.first_reported()];
        let oldest = times.into_iter().flatten().min();
        let superseded = if candidate.time_generated >= known.time_generated {
            candidate.set_first_reported(oldest);
            std::mem::replace(known, candidate).position
        } else {
            known.set_first_reported(oldest);
            candidate.position
        };
        entries.reject(superseded, RejectReason::Superseded, known.id());
    }

    /// Passes one entry per id to the sink, in the order in which the ids first appeared.
    fn finish(self, entries: &mut dyn EntrySink) {
        let Self { policy, candidates, indexes, .. } = self;
        drop(indexes);
        for candidate in candidates {
            let reason = candidate.inactive_reason(&policy);
            let Candidate { feed, position, time_generated, indicators, .. } = candidate;
            let id = indicators.first().map_or("", PackedIndicator::id).to_owned();
            let content = reason.map_or_else(
                || {
                    let unpacked = indicators.into_iter().map(|packed| packed.unpack(&feed));
                    EntryContent::Indicators(unpacked.collect())
                },
                EntryContent::Removed,
            );
            let version = Some(time_generated);
            entries.push(FeedEntry { id, group: String::new(), version, position, content });
        }
    }
}

fn hash(id: &str) -> u128 {
    let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    digest.first_chunk().map_or(0, |half| u128::from_le_bytes(*half))
}

//! Rows of the tables of Microsoft Sentinel as JSON lines: `ThreatIntelligenceIndicator` and
//! `ThreatIntelIndicators`, also mixed.
//!
//! The tables are append-only: an indicator has many rows, and which one decides follows the
//! original rule. A row older than the look-back is ignored. Then a row without a usable address
//! is ignored, *before* the newest row of an id is chosen, so that an older good row outlives a
//! newer one that lost its address. The newest (equal times: the later in input) decides whether
//! the indicator is live: active, not deleted, not revoked, and with an expiry after now; only in
//! the newer table may the expiry be missing. A row without `IndicatorId` has the id "", as in the
//! rule.

mod legacy;
mod packed;
mod row;
mod stix;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};

use self::packed::PackedIndicator;
use self::row::read_row;
use self::verdict::{RowReject, RowState, UsableRow};
use super::entry::{CollectedEntries, EntryContent, EntrySink, FeedEntry, ReadError, ReadPolicy};
use super::list::ParsedIndicators;
use crate::base::lines::Lines;
use crate::intel::address::PrefixPolicy;
use crate::intel::rejects::{RejectReason, Rejects};

/// Reads rows; gives their number of lines. Each id is one entry, by its newest row.
pub fn read_rows(
    input: impl BufRead,
    policy: &ReadPolicy,
    first_position: u64,
    entries: &mut dyn EntrySink,
) -> Result<u64, ReadError> {
    let mut table = IndicatorTable::new(*policy);
    let read = table.read(input, first_position, entries)?;
    if let Some(line) = read.cut_line {
        return Err(ReadError::Truncated(format!("inside the row of line {line}")));
    }
    table.finish(policy.now, entries);
    Ok(read.lines)
}

/// Reads rows of one or more files as one table.
#[derive(Debug)]
pub struct RowReader {
    table: IndicatorTable,
    found: CollectedEntries,
}

impl RowReader {
    /// Rows before `now - lookback` are ignored.
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

    /// The rows that are read from here on come from `feed`; they are rows of the same table.
    pub fn set_feed(&mut self, feed: Arc<str>) {
        self.table.feed = feed;
    }

    /// What was not used since the last call, so that a file's lines can be told from another's.
    pub fn take_rejects(&mut self) -> Rejects {
        std::mem::take(&mut self.found.rejects)
    }

    /// Reads all rows of an input.
    pub fn read(&mut self, reader: impl BufRead) -> io::Result<()> {
        self.table.read(reader, 1, &mut self.found).map(|_read| ())
    }

    /// The indicators that are live at `now`, in the order in which their ids first came.
    pub fn finish(self, now: Timestamp) -> ParsedIndicators {
        let Self { table, mut found } = self;
        table.finish(now, &mut found);
        let CollectedEntries { entries, mut rejects } = found;
        let mut indicators = Vec::with_capacity(entries.len());
        for FeedEntry { id, position, content, .. } in entries {
            match content {
                EntryContent::Indicators(of_row) => indicators.extend(of_row),
                EntryContent::Removed(reason) => rejects.add(position, reason, &id),
            }
        }
        ParsedIndicators { indicators, rejects }
    }
}

/// The row of an id that decides so far.
#[derive(Debug)]
struct Candidate {
    feed: Arc<str>,
    position: u64,
    time_generated: Timestamp,
    state: RowState,
    /// Not empty.
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

    fn inactive_reason(&self, policy: &ReadPolicy, now: Timestamp) -> Option<RejectReason> {
        let first = self.indicators.first()?;
        let is_low = policy.is_low(first.confidence());
        self.state
            .inactive_reason(first.expires(), now)
            .or_else(|| is_low.then_some(RejectReason::LowConfidence))
    }
}

#[derive(Debug)]
struct IndicatorTable {
    policy: ReadPolicy,
    feed: Arc<str>,
    /// One an id, in the order in which the ids came.
    candidates: Vec<Candidate>,
    /// Where in `candidates` an id is, by its hash.
    positions: HashMap<u128, u32>,
}

/// What came of an input.
#[derive(Debug, Clone, Copy)]
struct Read {
    lines: u64,
    /// The last line, where it has no line ending and is no JSON.
    cut_line: Option<u64>,
}

impl IndicatorTable {
    fn new(policy: ReadPolicy) -> Self {
        Self { policy, feed: Arc::from(""), candidates: Vec::new(), positions: HashMap::new() }
    }

    fn read(
        &mut self,
        reader: impl BufRead,
        first_position: u64,
        entries: &mut dyn EntrySink,
    ) -> io::Result<Read> {
        let mut lines = Lines::new(reader);
        let mut read = Read { lines: 0, cut_line: None };
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
                    entries.reject(position, reason, &text)
                }
                Err(RowReject { reason, text: None }) => {
                    if !line.is_ended && serde_json::from_slice::<IgnoredAny>(bytes).is_err() {
                        read.cut_line = Some(line.number);
                    }
                    entries.reject(position, reason, &String::from_utf8_lossy(bytes));
                }
            }
        }
        Ok(read)
    }

    fn add_row(&mut self, position: u64, row: UsableRow, entries: &mut dyn EntrySink) {
        let UsableRow { time_generated, state, indicators } = row;
        let indicators = indicators.iter().map(PackedIndicator::new).collect();
        let feed = Arc::clone(&self.feed);
        let mut candidate = Candidate { feed, position, time_generated, state, indicators };
        let key = hash(candidate.id());
        let known = self.positions.get(&key).copied();
        let known = known.and_then(|index| self.candidates.get_mut(index as usize));
        let Some(known) = known else {
            if let Ok(index) = u32::try_from(self.candidates.len()) {
                self.positions.insert(key, index);
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

    /// Gives an entry an id, in the order in which they first came.
    fn finish(self, now: Timestamp, entries: &mut dyn EntrySink) {
        let Self { policy, candidates, positions, .. } = self;
        drop(positions);
        for candidate in candidates {
            let fault = candidate.inactive_reason(&policy, now);
            let Candidate { feed, position, time_generated, indicators, .. } = candidate;
            let id = indicators.first().map_or("", PackedIndicator::id).to_owned();
            let content = fault.map_or_else(
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

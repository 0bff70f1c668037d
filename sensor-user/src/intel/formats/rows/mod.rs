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
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};

use self::packed::Packed;
use self::row::{Judged, State, Unusable, judge};
use super::entry::{Collected, Content, Entries, Entry, ReadFault, ReadPolicy};
use super::list::Parsed;
use crate::base::lines::Lines;
use crate::intel::address::PrefixPolicy;
use crate::intel::rejects::{Reason, Rejects};

/// Reads rows; gives their number of lines. Each id is one entry, by its newest row.
pub fn read_rows(
    input: impl BufRead,
    policy: &ReadPolicy,
    first_place: u64,
    entries: &mut dyn Entries,
) -> Result<u64, ReadFault> {
    let mut table = Table::new(*policy);
    let read = table.read(input, first_place, entries)?;
    if let Some(line) = read.cut_line {
        return Err(ReadFault::Truncated(format!("inside the row of line {line}")));
    }
    table.finish(policy.now, entries);
    Ok(read.lines)
}

/// Reads rows of one or more files as one table.
#[derive(Debug)]
pub struct RowReader {
    table: Table,
    found: Collected,
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
        let mut table = Table::new(policy);
        table.feed = feed;
        Self { table, found: Collected::default() }
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
    pub fn finish(self, now: Timestamp) -> Parsed {
        let Self { table, mut found } = self;
        table.finish(now, &mut found);
        let Collected { entries, mut rejects } = found;
        let mut indicators = Vec::with_capacity(entries.len());
        for Entry { id, place, content, .. } in entries {
            match content {
                Content::Indicators(of_row) => indicators.extend(of_row),
                Content::Gone(reason) => rejects.add(place, reason, &id),
            }
        }
        Parsed { indicators, rejects }
    }
}

/// The row of an id that decides so far.
#[derive(Debug)]
struct Candidate {
    feed: Arc<str>,
    place: u64,
    time_generated: Timestamp,
    state: State,
    /// Not empty.
    indicators: Box<[Packed]>,
}

impl Candidate {
    fn id(&self) -> &str {
        self.indicators.first().map_or("", Packed::id)
    }

    fn first_reported(&self) -> Option<Timestamp> {
        self.indicators.first().and_then(Packed::first_reported)
    }

    fn set_first_reported(&mut self, time: Option<Timestamp>) {
        self.indicators.iter_mut().for_each(|it| it.set_first_reported(time));
    }

    fn fault(&self, policy: &ReadPolicy, now: Timestamp) -> Option<Reason> {
        let first = self.indicators.first()?;
        let is_low = policy.is_low(first.confidence());
        self.state.fault(first.expires(), now).or_else(|| is_low.then_some(Reason::LowConfidence))
    }
}

#[derive(Debug)]
struct Table {
    policy: ReadPolicy,
    feed: Arc<str>,
    /// One an id, in the order in which the ids came.
    candidates: Vec<Candidate>,
    /// Where in `candidates` an id is, by its hash.
    places: HashMap<u128, u32>,
}

/// What came of an input.
#[derive(Debug, Clone, Copy)]
struct Read {
    lines: u64,
    /// The last line, where it has no line ending and is no JSON.
    cut_line: Option<u64>,
}

impl Table {
    fn new(policy: ReadPolicy) -> Self {
        Self { policy, feed: Arc::from(""), candidates: Vec::new(), places: HashMap::new() }
    }

    fn read(
        &mut self,
        reader: impl BufRead,
        first_place: u64,
        entries: &mut dyn Entries,
    ) -> io::Result<Read> {
        let mut lines = Lines::new(reader);
        let mut read = Read { lines: 0, cut_line: None };
        while let Some(line) = lines.next_line()? {
            read.lines = line.number;
            let place = first_place.saturating_add(line.number - 1);
            let Some(bytes) = line.bytes else {
                entries.reject(place, Reason::LineTooLong, "");
                continue;
            };
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match judge(bytes, &self.policy) {
                Ok(judged) => self.decide(place, judged, entries),
                Err(Unusable { reason, text: Some(text) }) => entries.reject(place, reason, &text),
                Err(Unusable { reason, text: None }) => {
                    if !line.is_ended && serde_json::from_slice::<IgnoredAny>(bytes).is_err() {
                        read.cut_line = Some(line.number);
                    }
                    entries.reject(place, reason, &String::from_utf8_lossy(bytes));
                }
            }
        }
        Ok(read)
    }

    fn decide(&mut self, place: u64, judged: Judged, entries: &mut dyn Entries) {
        let Judged { time_generated, state, indicators } = judged;
        let indicators = indicators.iter().map(Packed::new).collect();
        let feed = Arc::clone(&self.feed);
        let mut candidate = Candidate { feed, place, time_generated, state, indicators };
        let key = hash(candidate.id());
        let known = self.places.get(&key).copied();
        let known = known.and_then(|index| self.candidates.get_mut(index as usize));
        let Some(known) = known else {
            if let Ok(index) = u32::try_from(self.candidates.len()) {
                self.places.insert(key, index);
            }
            self.candidates.push(candidate);
            return;
        };
        let times = [known.first_reported(), candidate.first_reported()];
        let oldest = times.into_iter().flatten().min();
        let superseded = if candidate.time_generated >= known.time_generated {
            candidate.set_first_reported(oldest);
            std::mem::replace(known, candidate).place
        } else {
            known.set_first_reported(oldest);
            candidate.place
        };
        entries.reject(superseded, Reason::Superseded, known.id());
    }

    /// Gives an entry an id, in the order in which they first came.
    fn finish(self, now: Timestamp, entries: &mut dyn Entries) {
        let Self { policy, candidates, places, .. } = self;
        drop(places);
        for candidate in candidates {
            let fault = candidate.fault(&policy, now);
            let Candidate { feed, place, time_generated, indicators, .. } = candidate;
            let id = indicators.first().map_or("", Packed::id).to_owned();
            let content = fault.map_or_else(
                || {
                    let unpacked = indicators.into_iter().map(|packed| packed.unpack(&feed));
                    Content::Indicators(unpacked.collect())
                },
                Content::Gone,
            );
            let version = Some(time_generated);
            entries.take(Entry { id, group: String::new(), version, place, content });
        }
    }
}

fn hash(id: &str) -> u128 {
    let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    digest.first_chunk().map_or(0, |half| u128::from_le_bytes(*half))
}

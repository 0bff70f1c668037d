//! Retro matches: indicators that arrive after the connections that they match.

use std::collections::HashMap;

use jiff::Timestamp;

use super::entry::{HistoryEntry, indicator_hash};
use super::log::{HistoryRecord, HistorySegment};
use super::table::History;
use crate::pipeline::aggregate::{Flow, Tally};
use crate::pipeline::matcher::{Hit, Matcher, covering_addresses};

/// Connections of one entry that match an indicator which arrived later.
#[derive(Debug, Clone)]
pub struct RetroMatch {
    /// Indicator and the address that it matches.
    pub hit: Hit,
    /// Latest of the connections.
    pub flow: Flow,
    /// Counts of all of them.
    pub tally: Tally,
}

/// Connections of one entry that match one indicator.
struct Candidate {
    indicator: u64,
    hit: Hit,
    found: Option<FoundConnections>,
}

struct FoundConnections {
    latest: Timestamp,
    /// Port of the latest.
    port: Option<u16>,
    tally: Tally,
}

/// Entry with the covering indicators that are not reported for all of its connections.
struct CoveredEntry {
    definition: Option<Box<HistoryEntry>>,
    candidates: Vec<Candidate>,
    /// Hashes of the covering indicators.
    covering: Vec<u64>,
    /// Time of the last connection.
    last: Timestamp,
}

/// Time of the search, and the start of its look-back period.
#[derive(Clone, Copy)]
struct SearchTime {
    now: Timestamp,
    oldest: Timestamp,
}

impl History {
    /// True before the first [`History::retro_matches`].
    pub const fn is_unmatched(&self) -> bool {
        self.is_unmatched
    }

    /// Connections of the look-back period that match the current indicator set, and were not
    /// reported before. They count as reported: emit them before the next [`History::flush`].
    pub fn retro_matches(&mut self, matcher: &Matcher, now: Timestamp) -> Vec<RetroMatch> {
        self.is_unmatched = false;
        self.evict(now);
        let time = SearchTime { now, oldest: self.oldest(now) };
        let mut covered = self.covered_entries(matcher, time);
        if covered.is_empty() {
            return Vec::new();
        }
        self.flush();
        for segment in &self.segments {
            let read = segment.read(|record| {
                if let Some(entry) = covered.get_mut(&record.entry()) {
                    entry.apply(record, segment, matcher, time);
                }
            });
            if let Err(error) = read {
                let path = segment.path.display();
                tracing::error!(%path, %error, "history cannot be read; its connections are not matched");
            }
        }
        let mut numbers: Vec<u32> = covered.keys().copied().collect();
        numbers.sort_unstable();
        let mut all = Vec::new();
        for number in numbers {
            let Some(entry) = covered.remove(&number) else { continue };
            for indicator in &entry.covering {
                self.set_reported(number, *indicator, entry.last);
            }
            all.extend(entry.into_matches());
        }
        all
    }

    /// Entries that an indicator covers which is not yet reported for them.
    fn covered_entries(&self, matcher: &Matcher, time: SearchTime) -> HashMap<u32, CoveredEntry> {
        let set = matcher.current();
        let mut covered = HashMap::new();
        for (number, entry) in &self.entries {
            let Some(last) = entry.last.filter(|last| *last >= time.oldest) else { continue };
            let covering: Vec<u64> = covering_addresses(set, entry.remote, entry.translated)
                .filter(|it| it.indicator.counts(time.now, time.now))
                .map(|it| indicator_hash(&it))
                .filter(|indicator| !entry.is_reported(*indicator))
                .collect();
            if !covering.is_empty() {
                let (definition, candidates) = (None, Vec::new());
                covered.insert(*number, CoveredEntry { definition, candidates, covering, last });
            }
        }
        covered
    }
}

impl CoveredEntry {
    fn apply(
        &mut self,
        record: HistoryRecord,
        segment: &HistorySegment,
        matcher: &Matcher,
        SearchTime { now, oldest }: SearchTime,
    ) {
        match record {
            HistoryRecord::Entry(_, definition) => {
                // Port conditions are checked against the service port, which the entry has.
                let hits = matcher.hits(&definition.to_flow(now, None));
                self.candidates = hits
                    .into_iter()
                    .map(|hit| Candidate { indicator: indicator_hash(&hit), hit, found: None })
                    .filter(|candidate| self.covering.contains(&candidate.indicator))
                    .collect();
                self.definition = Some(definition);
            }
            HistoryRecord::Connection { time, port, hits, .. } => {
                let time = segment.time(time);
                if time < oldest {
                    return;
                }
                for candidate in &mut self.candidates {
                    if !hits.contains(&candidate.indicator) {
                        candidate.add(time, port);
                    }
                }
            }
            HistoryRecord::Traffic { sent, received, .. } => {
                for found in self.candidates.iter_mut().filter_map(|it| it.found.as_mut()) {
                    let tally = &mut found.tally;
                    tally.bytes_sent = tally.bytes_sent.saturating_add(sent);
                    tally.bytes_received = tally.bytes_received.saturating_add(received);
                }
            }
            HistoryRecord::Reported { indicator, .. } => {
                let reported = self.candidates.iter_mut().filter(|it| it.indicator == indicator);
                reported.for_each(|candidate| candidate.found = None);
            }
        }
    }

    fn into_matches(self) -> impl Iterator<Item = RetroMatch> {
        let definition = self.definition;
        self.candidates.into_iter().filter_map(move |Candidate { hit, found, .. }| {
            let FoundConnections { latest, port, tally } = found?;
            let flow = definition.as_ref()?.to_flow(latest, port);
            Some(RetroMatch { hit, flow: Flow { connections: tally.connections, ..flow }, tally })
        })
    }
}

impl Candidate {
    fn add(&mut self, time: Timestamp, port: Option<u16>) {
        let found = self.found.get_or_insert(FoundConnections {
            latest: time,
            port,
            tally: Tally {
                first_seen: time,
                last_seen: time,
                connections: 0,
                bytes_sent: 0,
                bytes_received: 0,
            },
        });
        let tally = &mut found.tally;
        tally.connections = tally.connections.saturating_add(1);
        tally.first_seen = tally.first_seen.min(time);
        tally.last_seen = tally.last_seen.max(time);
        if time >= found.latest {
            (found.latest, found.port) = (time, port);
        }
    }
}

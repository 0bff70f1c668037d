//! Retro: indicators that came after the connections that they name.

use std::collections::HashMap;

use jiff::Timestamp;

use super::entry::{Entry, indicator_hash};
use super::log::Record;
use super::table::History;
use crate::pipeline::aggregate::{Flow, Tally};
use crate::pipeline::matcher::{Hit, Matcher, covering_addresses};

/// Connections of one kind that are hits of an indicator that was not there when they were seen.
#[derive(Debug, Clone)]
pub struct Retro {
    /// Which indicator.
    pub hit: Hit,
    /// The latest of the connections.
    pub flow: Flow,
    /// All of them.
    pub tally: Tally,
}

/// What is found of one kind of connection and one indicator.
struct Count {
    indicator: u64,
    hit: Hit,
    /// Time and port of the latest, and what all count.
    found: Option<(Timestamp, Option<u16>, Tally)>,
}

/// A kind of connection that may have hits, and when its last connection was.
struct Candidate {
    entry: Option<Box<Entry>>,
    counts: Vec<Count>,
    /// Every indicator that covers it.
    covering: Vec<u64>,
    last: Timestamp,
}

impl History {
    /// Whether nothing was looked for in it yet.
    pub const fn is_new(&self) -> bool {
        self.is_new
    }

    /// The connections of the look-back that are hits of what the matcher's set holds now, and were
    /// not told before. They count as told from here on: raise them before the next
    /// [`History::flush`].
    pub fn retro(&mut self, matcher: &Matcher, now: Timestamp) -> Vec<Retro> {
        self.is_new = false;
        self.drop_old(now);
        let mut candidates = self.candidates(matcher, now);
        if candidates.is_empty() {
            return Vec::new();
        }
        self.flush();
        let oldest = self.oldest(now);
        for (segment, _) in &self.segments {
            let read = segment.read(|record| {
                let (Record::Entry(entry, _)
                | Record::Seen { entry, .. }
                | Record::Moved { entry, .. }
                | Record::Told { entry, .. }) = &record;
                if let Some(candidate) = candidates.get_mut(entry) {
                    candidate.take(record, (matcher, now, oldest), |at| segment.time(at));
                }
            });
            if let Err(error) = read {
                let path = segment.path.display();
                tracing::error!(%path, %error, "read the history; what is in it is not matched");
            }
        }
        let mut numbers: Vec<u32> = candidates.keys().copied().collect();
        numbers.sort_unstable();
        let mut all = Vec::new();
        for number in numbers {
            let Some(candidate) = candidates.remove(&number) else { continue };
            for indicator in &candidate.covering {
                self.tell(number, *indicator, candidate.last);
            }
            all.extend(candidate.retros());
        }
        all
    }

    /// Kinds of connections whose remote end an indicator covers that they were not told of.
    fn candidates(&self, matcher: &Matcher, now: Timestamp) -> HashMap<u32, Candidate> {
        let oldest = self.oldest(now);
        let set = matcher.current();
        let mut candidates = HashMap::new();
        for (number, known) in &self.entries {
            let Some(last) = known.last.filter(|last| *last >= oldest) else { continue };
            let covering: Vec<u64> = covering_addresses(set, known.remote, known.translated)
                .filter(|it| it.indicator.counts(now, now))
                .map(|it| indicator_hash(&it.into_hit()))
                .filter(|indicator| !known.is_told(*indicator))
                .collect();
            if !covering.is_empty() {
                let candidate = Candidate { entry: None, counts: Vec::new(), covering, last };
                candidates.insert(*number, candidate);
            }
        }
        candidates
    }
}

impl Candidate {
    fn take(
        &mut self,
        record: Record,
        (matcher, now, oldest): (&Matcher, Timestamp, Timestamp),
        time_of: impl Fn(i64) -> Timestamp,
    ) {
        match record {
            Record::Entry(_, entry) => {
                // What an indicator says of ports is asked of each connection by its service.
                let hits = matcher.hits(&entry.flow(now, None));
                self.counts = hits
                    .into_iter()
                    .map(|hit| Count { indicator: indicator_hash(&hit), hit, found: None })
                    .filter(|count| self.covering.contains(&count.indicator))
                    .collect();
                self.entry = Some(entry);
            }
            Record::Seen { time, port, hits, .. } => {
                let time = time_of(time);
                if time < oldest {
                    return;
                }
                for count in &mut self.counts {
                    if !hits.contains(&count.indicator) {
                        count.see(time, port);
                    }
                }
            }
            Record::Moved { sent, received, .. } => {
                for (_, _, tally) in self.counts.iter_mut().filter_map(|it| it.found.as_mut()) {
                    tally.bytes_sent = tally.bytes_sent.saturating_add(sent);
                    tally.bytes_received = tally.bytes_received.saturating_add(received);
                }
            }
            Record::Told { indicator, .. } => {
                let told = self.counts.iter_mut().filter(|count| count.indicator == indicator);
                told.for_each(|count| count.found = None);
            }
        }
    }

    fn retros(self) -> impl Iterator<Item = Retro> {
        let entry = self.entry;
        self.counts.into_iter().filter_map(move |count| {
            let (time, port, tally) = count.found?;
            let flow = Flow { connections: tally.connections, ..entry.as_ref()?.flow(time, port) };
            Some(Retro { hit: count.hit, flow, tally })
        })
    }
}

impl Count {
    fn see(&mut self, time: Timestamp, port: Option<u16>) {
        if let Some((latest, latest_port, tally)) = &mut self.found {
            tally.connections = tally.connections.saturating_add(1);
            tally.first_seen = tally.first_seen.min(time);
            tally.last_seen = tally.last_seen.max(time);
            if time >= *latest {
                (*latest, *latest_port) = (time, port);
            }
        } else {
            let tally = Tally {
                first_seen: time,
                last_seen: time,
                connections: 1,
                bytes_sent: 0,
                bytes_received: 0,
            };
            self.found = Some((time, port, tally));
        }
    }
}

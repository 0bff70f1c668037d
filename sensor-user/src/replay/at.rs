//! `replay --at`: the answer of the original rule, had it run at one instant.
//!
//! Rows of the look-back before that instant and all later ones are matched with the indicators
//! that are live at it; each pair of indicator and remote address raises exactly one alert, which
//! carries its latest row. Rows are read once and kept only while they are the latest of a pair.
//!
//! `AlertId` is a stable id of: `replay-at`, the instant, the start of the window, `IndicatorId`
//! and `RemoteIp`. The same question gives the same ids, whatever files the rows stand in.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::reject_log::RejectLog;
use super::rows::{self, Head, Seen};
use super::{indicators, input};
use crate::dedup::{Alert, AlertKind, Sighting, Tally};
use crate::intel::{Indicator, IndicatorSet};
use crate::lines::{LINE_MAX, Lines};
use crate::stable_id::stable_id;

/// Pairs of indicator and remote address at most: what is kept in memory grows with them, and to
/// leave one out would be a wrong answer.
const PAIRS_MAX: usize = 2_000_000;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtOptions {
    /// Files of `VMConnection` rows as JSON lines, in the order in which they are read; `-` is
    /// standard input.
    pub connections: Vec<PathBuf>,
    /// Files of indicators: rows of `ThreatIntelligenceIndicator` as JSON lines, or plain lists.
    /// A feed is named after its file.
    pub indicators: Vec<PathBuf>,
    /// When the rule runs: the indicators are those that are live then.
    pub at: Timestamp,
    /// Connection rows before `at - lookback` are ignored (the rule: one hour).
    pub lookback: SignedDuration,
    /// Indicator rows before `at - indicator_lookback` are ignored (the rule: 14 days).
    pub indicator_lookback: SignedDuration,
}

/// What was read and found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AtSummary {
    /// Lines of connection files that are not blank.
    pub rows: u64,
    /// Of these, well-formed ones of the window.
    pub rows_in_window: u64,
    /// Of these, malformed ones.
    pub rows_rejected: u64,
    /// Indicators that are live.
    pub indicators: u64,
    /// Entries of indicator files that are malformed (not those that a rule leaves out).
    pub indicators_rejected: u64,
    /// Alerts that were written.
    pub alerts: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A file cannot be opened or read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Standard input has one content only.
    #[error("-: named {0} times; standard input can be read once")]
    StdinRepeated(usize),
    /// More alerts than are held in memory.
    #[error(
        "{}:{line}: more than {PAIRS_MAX} pairs of indicator and remote address; \
         narrow the indicators or ask for less time", path.display()
    )]
    TooManyPairs {
        /// File that was being read.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
    },
    /// The alerts cannot be written.
    #[error("write alerts")]
    WriteAlerts(#[source] io::Error),
    /// The messages on malformed lines cannot be written.
    #[error("write messages on malformed lines")]
    WriteRejects(#[source] io::Error),
}

/// Answers; `out` gets one [`Alert`] as JSON a line, sorted by `IndicatorId` and `RemoteIp` (as
/// text, by bytes), and `rejects` the malformed lines as `file:line: reason`.
///
/// Of a row that is no hit only `TimeGenerated` and `RemoteIp` are checked, and that the rest is
/// JSON; the types of its other columns are not.
pub fn run(
    options: &AtOptions,
    out: &mut dyn Write,
    rejects: &mut dyn Write,
) -> Result<AtSummary, ReplayError> {
    let stdin = options.connections.iter().chain(&options.indicators);
    let stdin = stdin.filter(|path| input::is_stdin(path)).count();
    if stdin > 1 {
        return Err(ReplayError::StdinRepeated(stdin));
    }
    let mut log = RejectLog::new(rejects, "indicators");
    let set = IndicatorSet::build(indicators::load(options, &mut log)?);
    let indicators_rejected = log.finish().map_err(ReplayError::WriteRejects)?;

    let mut log = RejectLog::new(rejects, "rows");
    let mut search = Search::new(&set, options);
    for path in &options.connections {
        search.file(path, &mut log)?;
    }
    Ok(AtSummary {
        rows: search.rows,
        rows_in_window: search.rows_in_window,
        rows_rejected: log.finish().map_err(ReplayError::WriteRejects)?,
        indicators: set.len() as u64,
        indicators_rejected,
        alerts: search.write(out).map_err(ReplayError::WriteAlerts)?,
    })
}

/// What is known so far. An indicator is told by its id, of which there is only one.
struct Search<'set> {
    set: &'set IndicatorSet,
    at: Timestamp,
    oldest: Timestamp,
    pairs: HashMap<(&'set str, IpAddr), Pair<'set>>,
    rows: u64,
    rows_in_window: u64,
}

/// The latest row of an indicator and a remote address, and what all of them count.
struct Pair<'set> {
    indicator: &'set Indicator,
    latest: Arc<Sighting>,
    tally: Tally,
}

impl<'set> Search<'set> {
    fn new(set: &'set IndicatorSet, options: &AtOptions) -> Self {
        Self {
            set,
            at: options.at,
            oldest: options.at.checked_sub(options.lookback).unwrap_or(Timestamp::MIN),
            pairs: HashMap::new(),
            rows: 0,
            rows_in_window: 0,
        }
    }

    fn file(&mut self, path: &Path, log: &mut RejectLog<'_>) -> Result<(), ReplayError> {
        let failed = |source| ReplayError::Read { path: path.to_owned(), source };
        let mut lines = Lines::new(input::open(path).map_err(failed)?.reader);
        while let Some(line) = lines.next_line().map_err(failed)? {
            let row = match line.bytes {
                Some(bytes) if bytes.trim_ascii().is_empty() => continue,
                Some(bytes) => self.row(bytes),
                None => Err(format!("line too long; at most {LINE_MAX} bytes")),
            };
            self.rows += 1;
            if let Err(reason) = row {
                log.add(path, line.number, &reason).map_err(ReplayError::WriteRejects)?;
            }
            if self.pairs.len() > PAIRS_MAX {
                let path = path.to_owned();
                return Err(ReplayError::TooManyPairs { path, line: line.number });
            }
        }
        Ok(())
    }

    /// Takes a row in; the error is the reason why it is malformed.
    fn row(&mut self, line: &[u8]) -> Result<(), String> {
        let line = rows::text(line)?;
        let head = rows::head(line)?;
        if head.time < self.oldest {
            return Ok(());
        }
        let mut hits = self.hits(head).peekable();
        if hits.peek().is_some() {
            let seen = rows::seen(line, head)?;
            for indicator in hits {
                self.pairs
                    .entry((&indicator.id, head.remote))
                    .and_modify(|pair| pair.count(&seen))
                    .or_insert_with(|| Pair::new(indicator, &seen));
            }
        }
        self.rows_in_window += 1;
        Ok(())
    }

    /// The indicators that cover a row's remote address and had not expired by then.
    fn hits(&self, head: Head) -> impl Iterator<Item = &'set Arc<Indicator>> + use<'set> {
        self.set
            .covering(head.remote)
            .filter(move |it| it.expires.is_none_or(|expires| head.time < expires))
    }

    fn write(self, out: &mut dyn Write) -> io::Result<u64> {
        let (at, oldest) = (self.at.to_string(), self.oldest.to_string());
        let mut pairs: Vec<Pair<'_>> = self.pairs.into_values().collect();
        pairs.sort_unstable_by(|a, b| {
            (&a.indicator.id, &a.latest.remote_ip).cmp(&(&b.indicator.id, &b.latest.remote_ip))
        });
        let count = pairs.len() as u64;
        for Pair { indicator, latest, tally } in pairs {
            let id = stable_id(&["replay-at", &at, &oldest, &indicator.id, &latest.remote_ip]);
            let latest = Arc::unwrap_or_clone(latest);
            let alert = Alert::new(AlertKind::New, id, indicator, latest, tally);
            serde_json::to_writer(&mut *out, &alert)?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
        Ok(count)
    }
}

impl<'set> Pair<'set> {
    fn new(indicator: &'set Indicator, seen: &Seen) -> Self {
        let tally = Tally {
            first_seen: seen.sighting.time,
            last_seen: seen.sighting.time,
            connections: seen.connections,
            bytes_sent: seen.bytes_sent,
            bytes_received: seen.bytes_received,
        };
        Self { indicator, latest: Arc::clone(&seen.sighting), tally }
    }

    fn count(&mut self, seen: &Seen) {
        let row = &seen.sighting;
        // Of equal times the later in input, as rows of a minute all have its start.
        if row.time >= self.latest.time {
            self.latest = Arc::clone(row);
        }
        let tally = &mut self.tally;
        tally.first_seen = tally.first_seen.min(row.time);
        tally.last_seen = tally.last_seen.max(row.time);
        tally.connections = tally.connections.saturating_add(seen.connections);
        tally.bytes_sent = tally.bytes_sent.saturating_add(seen.bytes_sent);
        tally.bytes_received = tally.bytes_received.saturating_add(seen.bytes_received);
    }
}

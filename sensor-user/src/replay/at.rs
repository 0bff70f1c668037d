//! `replay --at`: the answer of the original rule, had it run at one instant.
//!
//! Rows of the look-back before that instant and all later ones are matched with the indicators
//! that are live at it; each pair of indicator and remote address raises exactly one alert, which
//! carries its latest row. Rows are read once and kept only while they are the latest of a pair.
//!
//! `AlertId` is a stable id of: `replay-at`, the instant, the start of the window, `IndicatorId`
//! and `RemoteIp`. The same question gives the same ids, whatever files the rows stand in.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::reject_log::{RejectLog, shown};
use super::search::{Found, Pair, Search};
use super::{indicators, input};
use crate::base::progress::Progress;
use crate::base::stable_id::stable_id;
use crate::intel::IndicatorSet;
use crate::pipeline::dedup::{Alert, AlertKind};
use crate::schema::parquet::ColumnarError;

/// Pairs of indicator and remote address at most: what is kept in memory grows with them, and to
/// leave one out would be a wrong answer.
pub(super) const PAIRS_MAX: usize = 2_000_000;

/// What is asked.
#[derive(Debug, Clone)]
pub struct AtOptions {
    /// Files of `VMConnection` rows as JSON lines, in the order in which they are read; `-` is
    /// standard input.
    pub connections: Vec<PathBuf>,
    /// Files of indicators, each told by its content: rows of the tables as JSON lines, STIX, MISP
    /// events, replies of `CrowdSec` and of `queryIndicators`, or plain lists. A feed is named after
    /// its file.
    pub indicators: Vec<PathBuf>,
    /// When the rule runs: the indicators are those that are live then.
    pub at: Timestamp,
    /// Connection rows before `at - lookback` are ignored (the rule: one hour).
    pub lookback: SignedDuration,
    /// Indicator rows before `at - indicator_lookback` are ignored (the rule: 14 days).
    pub indicator_lookback: SignedDuration,
    /// Is told how far it is.
    pub progress: Progress,
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
    /// What the input says was lost while it was recorded (`NetsensorLoss` lines).
    pub lost: u64,
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
    #[error("read {}", shown(&path.to_string_lossy()))]
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
        "alerts: more than {PAIRS_MAX} pairs of indicator and remote address; \
         narrow the indicators, or replay less at a time"
    )]
    TooManyPairs,
    /// The alerts cannot be written.
    #[error("write alerts")]
    WriteAlerts(#[source] io::Error),
    /// The messages on malformed lines cannot be written.
    #[error("write messages on malformed lines")]
    WriteRejects(#[source] io::Error),
    /// The rows cannot be written.
    #[error("write rows to {}", path.display())]
    WriteRows {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The rows cannot be turned into columns.
    #[error(transparent)]
    Columns(#[from] ColumnarError),
    /// Rows do not fit the columns of their table: a defect.
    #[error("{0} rows do not fit the columns of their table; please report")]
    RowsRefused(u64),
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
    let oldest = options.at.checked_sub(options.lookback).unwrap_or(Timestamp::MIN);
    let mut search = Search::new(&set, (oldest, options.at), options.progress.clone());
    for path in &options.connections {
        search.file(path, &mut log)?;
    }
    let rows_rejected = log.finish().map_err(ReplayError::WriteRejects)?;
    let Found { rows, rows_in_window, lost, mut pairs } = search.finish()?;
    pairs.sort_unstable_by(|a, b| {
        (&a.hit.indicator.id, &a.latest.remote_ip).cmp(&(&b.hit.indicator.id, &b.latest.remote_ip))
    });
    let alerts = pairs.len() as u64;
    write(pairs, (oldest, options.at), out).map_err(ReplayError::WriteAlerts)?;
    let indicators = set.len() as u64;
    Ok(AtSummary {
        rows,
        rows_in_window,
        rows_rejected,
        lost,
        indicators,
        indicators_rejected,
        alerts,
    })
}

fn write(found: Vec<Pair>, window: (Timestamp, Timestamp), out: &mut dyn Write) -> io::Result<()> {
    let (oldest, at) = (window.0.to_string(), window.1.to_string());
    for Pair { hit, latest, tally, .. } in found {
        let id = stable_id(&["replay-at", &at, &oldest, &hit.indicator.id, &latest.remote_ip]);
        let latest = Arc::unwrap_or_clone(latest);
        let alert = Alert::new(AlertKind::New, id, &hit, latest, tally);
        serde_json::to_writer(&mut *out, &alert)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

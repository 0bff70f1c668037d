//! Options, results and errors of both replays.

use std::io;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use crate::base::escape::visible;
use crate::base::progress::Progress;
use crate::schema::parquet::ColumnarError;

/// Limit of the pairs of indicator and remote address. Memory grows with them, and a result without
/// some of them would be wrong.
pub(super) const PAIRS_MAX: usize = 2_000_000;

/// Options of `replay --at`.
#[derive(Debug, Clone)]
pub struct AtOptions {
    /// Files of `VMConnection` rows as JSON lines, in the order of reading; `-` is standard input.
    pub connections: Vec<PathBuf>,
    /// Files of indicators, whose kind is detected from their content: rows of the tables as JSON
    /// lines, STIX, MISP events, responses of `CrowdSec` and of `queryIndicators`, or plain lists. A
    /// feed has the name of its file.
    pub indicators: Vec<PathBuf>,
    /// Time at which the rule runs, with the indicators that are live then.
    pub at: Timestamp,
    /// Connection rows before `at - lookback` are ignored (in the rule: one hour).
    pub lookback: SignedDuration,
    /// Indicator rows before `at - indicator_lookback` are ignored (in the rule: 14 days).
    pub indicator_lookback: SignedDuration,
    /// How rows are checked.
    pub checks: RowChecks,
    /// Progress bar that shows bytes and rows read.
    pub progress: Progress,
}

/// The time window of `replay --at`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Earlier rows are ignored.
    pub(super) start: Timestamp,
    /// Time at which indicators must be live.
    pub(super) at: Timestamp,
}

/// How the rows of a replay are checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RowChecks {
    /// Of a row that is no hit, only `RemoteIp`, `TimeGenerated` and both ends of its line.
    #[default]
    Hits,
    /// Every row is parsed.
    Strict,
}

/// Counts of `replay --at`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AtSummary {
    /// Lines of connection files that are not blank.
    pub rows: u64,
    /// Well-formed rows in the window.
    pub rows_in_window: u64,
    /// Malformed rows.
    pub rows_rejected: u64,
    /// Losses while the input was recorded (`NetsensorLoss` lines).
    pub lost: u64,
    /// Live indicators.
    pub indicators: u64,
    /// Malformed entries of indicator files, without those that a rule excludes.
    pub indicators_rejected: u64,
    /// Alerts written.
    pub alerts: u64,
}

/// Options of `replay --live`.
#[derive(Debug, Clone)]
pub struct LiveOptions {
    /// Files of recorded changes or of rows, in the order of reading; `-` is standard input.
    pub connections: Vec<PathBuf>,
    /// Files of indicators, as in [`AtOptions::indicators`], evaluated at the time of the first
    /// connection.
    pub indicators: Vec<PathBuf>,
    /// Indicator rows older than this are ignored.
    pub indicator_lookback: SignedDuration,
    /// Dedup window: further hits of a key within this time of its alert are counted only.
    pub window: SignedDuration,
    /// Output for the rows of recorded changes: a file for JSON lines, or a directory for Parquet
    /// files.
    pub rows: Option<PathBuf>,
    /// Progress bar that shows bytes and lines read.
    pub progress: Progress,
}

/// Counts of `replay --live`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveSummary {
    /// Lines that are not blank.
    pub lines: u64,
    /// Malformed lines of all files, including those of indicators.
    pub rejected: u64,
    /// Losses while the input was recorded (`NetsensorLoss` lines).
    pub lost: u64,
    /// Alerts written.
    pub alerts: u64,
    /// Rows written.
    pub rows: u64,
}

/// Errors that end a replay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A file cannot be opened or read.
    #[error("read {}", visible(&path.to_string_lossy()))]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system call.
        source: io::Error,
    },
    /// Standard input is named more than once.
    #[error("-: named {0} times; standard input can be read once")]
    StdinRepeated(usize),
    /// The alerts do not fit into memory.
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
        /// Path of the output.
        path: PathBuf,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// The rows cannot be converted to columns.
    #[error(transparent)]
    Columns(#[from] ColumnarError),
    /// Rows do not fit the columns of their table: a defect.
    #[error("{0} rows do not fit the columns of their table; please report")]
    RowsRefused(u64),
}

//! Settings of the parquet sink.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of `kind = "parquet"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetConfig {
    /// Directory of the files, for this sink alone.
    pub folder: PathBuf,
    /// Maximum number of rows in a file.
    pub file_rows: u64,
    /// Time from the first row of a file until it is written.
    pub file_age: Duration,
    /// Maximum size of all files, bytes.
    pub max_bytes: u64,
    /// Maximum age of the first row of a file; older files are deleted.
    pub max_age: Duration,
}

impl ParquetConfig {
    /// Default of `file_rows`.
    pub const FILE_ROWS: u64 = 100_000;
    /// Default of `file_age`.
    pub const FILE_AGE: Duration = Duration::from_mins(10);
    /// Default of `max_bytes`.
    pub const MAX_BYTES: u64 = 1 << 30;
    /// Default of `max_age`.
    pub const MAX_AGE: Duration = Duration::from_hours(30 * 24);
}

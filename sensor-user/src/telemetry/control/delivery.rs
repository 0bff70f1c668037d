//! State of the spool and the sinks in the status report.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::deliver::SinkReport;
use crate::deliver::spool::SpoolStatus;

/// State of the spool and the sinks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeliveryReport {
    /// State of the spool; `None` if no sink takes alerts.
    pub spool: Option<SpoolReport>,
    /// State of each sink.
    pub sinks: Vec<SinkReport>,
}

/// State of the spool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SpoolReport {
    /// Size on disk in bytes.
    pub bytes: u64,
    /// Maximum size in bytes.
    #[serde(default)]
    pub max_bytes: u64,
    /// Number of segment files.
    pub segments: u64,
    /// Time of the oldest alert in it.
    pub oldest: Option<Timestamp>,
    /// Error if it is not writable, else "".
    pub error: String,
}

impl DeliveryReport {
    /// Report of the spool and the sinks.
    pub fn new(spool: Option<SpoolStatus>, sinks: Vec<SinkReport>) -> Self {
        let spool = spool.map(|status| SpoolReport {
            bytes: status.bytes,
            max_bytes: status.max_bytes,
            segments: status.segments as u64,
            oldest: status.oldest,
            error: status.error.unwrap_or_default(),
        });
        Self { spool, sinks }
    }
}

//! What `netsensor status` shows of the spool and the sinks.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::deliver::SinkReport;
use crate::deliver::spool::SpoolStatus;

/// The spool and the sinks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeliveryReport {
    /// `None` where no sink takes alerts.
    pub spool: Option<SpoolReport>,
    /// Each sink.
    pub sinks: Vec<SinkReport>,
}

/// The spool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SpoolReport {
    /// Bytes on disk.
    pub bytes: u64,
    /// How many there may be.
    #[serde(default)]
    pub max_bytes: u64,
    /// Files.
    pub segments: u64,
    /// Time of the oldest alert that it holds.
    pub oldest: Option<Timestamp>,
    /// Why it cannot be written; "" where it can.
    pub error: String,
}

impl DeliveryReport {
    /// Of what the spool and the sinks say.
    pub fn new(spool: Option<SpoolStatus>, sinks: Vec<SinkReport>) -> Self {
        let spool = spool.map(|status| SpoolReport {
            bytes: status.bytes,
            max_bytes: status.max_bytes,
            segments: status.segments as u64,
            oldest: status.oldest,
            error: status.fault.unwrap_or_default(),
        });
        Self { spool, sinks }
    }
}

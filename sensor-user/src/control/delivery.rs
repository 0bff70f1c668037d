//! What `netsensor status` shows of the spool and the sinks.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::deliver::spool::SpoolStatus;
use crate::deliver::{SinkReport, escaped};

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
    pub fault: String,
}

impl DeliveryReport {
    /// Of what the spool and the sinks say.
    pub fn new(spool: Option<SpoolStatus>, sinks: Vec<SinkReport>) -> Self {
        let spool = spool.map(|status| SpoolReport {
            bytes: status.bytes,
            max_bytes: status.max_bytes,
            segments: status.segments as u64,
            oldest: status.oldest,
            fault: status.fault.unwrap_or_default(),
        });
        Self { spool, sinks }
    }

    /// Lines for people.
    pub(super) fn lines(&self) -> String {
        let mut out = String::new();
        if let Some(spool) = &self.spool {
            let oldest = spool
                .oldest
                .map_or_else(String::new, |oldest| format!(", the oldest alert of {oldest}"));
            let (bytes, files) = (spool.bytes, spool.segments);
            let _infallible = writeln!(out, "spool     {bytes} bytes in {files} files{oldest}");
        }
        for sink in &self.sinks {
            let last = sink.last_delivered;
            let last = last.map_or_else(|| "nothing yet".to_owned(), |time| time.to_string());
            let _infallible = write!(
                out,
                "sink      {}: {} alerts and {} rows wait, last took {last}",
                escaped(&sink.name, 64),
                sink.alerts_waiting,
                sink.rows_waiting
            );
            if !sink.fault.is_empty() {
                let _infallible = write!(out, "; {}", escaped(&sink.fault, 512));
            }
            out.push('\n');
        }
        out
    }
}

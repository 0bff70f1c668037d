//! Aggregate stage: `Event` to `Change` (with its `Flow`) at once, and to `ConnectionRow` at the end of
//! the minute.

mod change;
mod connections;
mod flow;
mod host;
mod listeners;
mod malicious;
mod recorded;
mod response_times;
mod rows;
mod tally;
mod udp;

pub use change::{Change, ChangeKind, ClosedBy, Guess};
pub use connections::{ConnectionTable, FinishedScan, LatencyReader, ScanKind};
pub use flow::{Attribution, Direction, Flow, NatMapping, Peer, Phase};
pub use host::{HostTables, HostView, ListeningSocket};
pub use malicious::{FindIndicator, RowIndicator, RowRemote};
pub use recorded::{RecordedChange, RecordedGuess};
pub use response_times::ResponseTimes;
pub use rows::{Counted, RowIdentity, RowTable};
pub use tally::Tally;
pub use udp::{ClockReading, FlowCounters, UdpTable};

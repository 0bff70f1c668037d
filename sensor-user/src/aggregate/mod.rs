//! Aggregate: Event to Change (and its Flow) at once, and to Row at the end of the minute.

mod change;
mod connections;
mod flow;
mod host;
mod listeners;
mod malicious;
mod responses;
mod row;
mod rows;
mod udp;

pub use change::{Change, ClosedBy, What};
pub use connections::{ConnectionTable, LatencyReader, Look};
pub use flow::{Attribution, Direction, Flow, Peer, Phase, Protocol, Translated};
pub use host::{BoundPortRow, HostTables, HostView, Listening, ProcessRow};
pub use malicious::{Flag, FlagOf, Remote};
pub use responses::Responses;
pub use row::{Row, TableRow};
pub use rows::{Identity, RowTable};
pub use udp::{FlowCounters, Moment, UdpTable};

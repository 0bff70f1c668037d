//! Harness of the suites: the running agent, a collector that misbehaves on demand, samples.
//!
//! Everything here talks to 127.0.0.1 only, ends what it started, and waits with a limit.

mod agent;
mod certificates;
mod collector;
mod duckdb;
mod feed_server;
pub mod fuzz;
mod imds;
mod logs;
mod netns;
mod oracle;
mod python;
mod quick_server;
pub mod records;
pub mod rule_model;
mod running;
mod samples;
pub mod servers;
mod skip;
mod terminal;
mod tracee;

pub use agent::{Agent, Ended, Line, binary, command, start_unread, start_unwatched};
pub use certificates::{certificates, tls_acceptor};
pub use collector::{Answer, Collector, Request};
pub use duckdb::{ask_duckdb, python_with_duckdb};
pub use feed_server::FeedServer;
pub use imds::{FakeImds, ImdsAnswer};
pub use logs::logged;
pub use netns::{CABLE, Netns, behind, run};
pub use oracle::ask_oracle;
pub use python::python_with;
pub use quick_server::QuickServer;
pub use running::{Running, wait_until};
pub use samples::{alert, row};
pub use skip::{skip_unless, skip_unless_kernel_has};
pub use terminal::on_a_terminal;
pub use tracee::{CAN_LOSE_FD, lose_fd, tracepoint_link};

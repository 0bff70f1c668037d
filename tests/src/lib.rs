//! Test harness of the suites: the running agent, servers with scripted responses and errors,
//! sample items.
//!
//! All of it uses 127.0.0.1 or network namespaces only, stops the processes that it starts, and
//! waits with a timeout.

mod agent;
mod certificates;
mod collector;
mod duckdb;
mod feed_server;
pub mod fuzz;
mod imds;
mod log_capture;
mod minimal_http_server;
mod netns;
mod oracle;
mod ptrace_fault_injection;
mod pty;
mod python;
mod recording;
pub mod records;
pub mod rule_reference;
mod running_sinks;
mod sample_items;
pub mod servers;
mod skip;

pub use agent::{
    Agent, AgentExit, OutputLine, agent_binary, agent_command, spawn_with_stderr,
    spawn_without_output,
};
pub use certificates::{certificates, tls_acceptor};
pub use collector::{Collector, RecordedRequest, ScriptedResponse};
pub use duckdb::{python_with_duckdb, query_duckdb};
pub use feed_server::FeedServer;
pub use imds::{FakeImds, ImdsResponse};
pub use log_capture::captured_logs;
pub use minimal_http_server::MinimalHttpServer;
pub use netns::{Netns, VETH, run, wrap_command};
pub use oracle::run_oracle;
pub use ptrace_fault_injection::{CAN_REPLACE_FD, replace_fd, tracepoint_link_fd};
pub use pty::run_on_pty;
pub use python::python_with;
pub use recording::{Ledger, Recording};
pub use running_sinks::{RunningSinks, wait_until};
pub use sample_items::{sample_alert, sample_row};
pub use skip::{skip_unless, skip_unless_kernel_has};

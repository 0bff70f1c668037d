//! `TableRow`: a row of any of the tables.

use jiff::Timestamp;
use serde::Serialize;

use super::Table;
use super::bound_port_row::BoundPortRow;
use super::computer_row::ComputerRow;
use super::connection::CONNECTION;
use super::connection_row::Row;
use super::host::{BOUND_PORT, COMPUTER, PROCESS};
use super::process_row::ProcessRow;

/// A row of one of the tables, on its way to the sinks.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum TableRow {
    /// Of `VMConnection`.
    Connection(Box<Row>),
    /// Of `VMBoundPort`.
    BoundPort(Box<BoundPortRow>),
    /// Of `VMProcess`.
    Process(Box<ProcessRow>),
    /// Of `VMComputer`.
    Computer(Box<ComputerRow>),
}

impl TableRow {
    /// Start of what it tells of.
    pub fn time_generated(&self) -> Timestamp {
        match self {
            Self::Connection(row) => row.time_generated,
            Self::BoundPort(row) => row.time_generated,
            Self::Process(row) => row.time_generated,
            Self::Computer(row) => row.time_generated,
        }
    }

    /// The table that it is of.
    pub const fn table(&self) -> &'static Table {
        match self {
            Self::Connection(_) => &CONNECTION,
            Self::BoundPort(_) => &BOUND_PORT,
            Self::Process(_) => &PROCESS,
            Self::Computer(_) => &COMPUTER,
        }
    }

    /// Full name of the host.
    pub fn computer(&self) -> &str {
        match self {
            Self::Connection(row) => &row.computer,
            Self::BoundPort(row) => &row.computer,
            Self::Process(row) => &row.computer,
            Self::Computer(row) => &row.computer,
        }
    }

    /// The agent's UUID.
    pub fn agent_id(&self) -> &str {
        match self {
            Self::Connection(row) => &row.agent_id,
            Self::BoundPort(row) => &row.agent_id,
            Self::Process(row) => &row.agent_id,
            Self::Computer(row) => &row.agent_id,
        }
    }

    /// Stable for the same input: what makes sending twice harmless.
    pub fn id(&self) -> String {
        match self {
            Self::Connection(row) => row.connection_id.clone(),
            Self::BoundPort(row) => row.id(),
            Self::Process(row) => row.id(),
            Self::Computer(row) => row.id(),
        }
    }
}

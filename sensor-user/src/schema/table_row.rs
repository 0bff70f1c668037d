//! `TableRow`: a row of any table.

use jiff::Timestamp;
use serde::Serialize;

use super::bound_port_row::BoundPortRow;
use super::computer_row::ComputerRow;
use super::connection_row::ConnectionRow;
use super::process_row::ProcessRow;
use super::table::Table;

/// A row of any table, as sent to the sinks.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum TableRow {
    /// Row of `VMConnection`.
    Connection(Box<ConnectionRow>),
    /// Row of `VMBoundPort`.
    BoundPort(Box<BoundPortRow>),
    /// Row of `VMProcess`.
    Process(Box<ProcessRow>),
    /// Row of `VMComputer`.
    Computer(Box<ComputerRow>),
}

macro_rules! for_each_table {
    ($table_row:ident, $row:ident => $value:expr) => {
        match $table_row {
            Self::Connection($row) => $value,
            Self::BoundPort($row) => $value,
            Self::Process($row) => $value,
            Self::Computer($row) => $value,
        }
    };
}

impl TableRow {
    /// Returns the start of the row's time range.
    pub fn time_generated(&self) -> Timestamp {
        for_each_table!(self, row => row.time_generated)
    }

    /// Returns the table of the row.
    pub const fn table(&self) -> &'static Table {
        match self {
            Self::Connection(_) => &ConnectionRow::TABLE,
            Self::BoundPort(_) => &BoundPortRow::TABLE,
            Self::Process(_) => &ProcessRow::TABLE,
            Self::Computer(_) => &ComputerRow::TABLE,
        }
    }

    /// Returns the full name of the host.
    pub fn computer(&self) -> &str {
        for_each_table!(self, row => &row.computer)
    }

    /// Returns the agent's UUID.
    pub fn agent_id(&self) -> &str {
        for_each_table!(self, row => &row.agent_id)
    }

    /// Returns the row's stable id: equal for the same input, so that sending twice is harmless.
    pub fn id(&self) -> String {
        match self {
            Self::Connection(row) => row.connection_id.clone(),
            Self::BoundPort(row) => row.id(),
            Self::Process(row) => row.id(),
            Self::Computer(row) => row.id(),
        }
    }
}
